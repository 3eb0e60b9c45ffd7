/* Reading and checking exports: see export_format.h. */
#include "store/export_format.h"

#include <errno.h>

#include "store/disk.h"

RECORD_DEFINE(x_account);
RECORD_DEFINE(x_mailbox);
RECORD_DEFINE(x_message);

int export_reader_init(struct export_reader *r, int fd)
{
    uint8_t raw[EXPORT_HEADER];
    *r = (struct export_reader){.fd = fd, .offset = EXPORT_HEADER};
    buf_init(&r->content, EXPORT_ITEM_MAX);
    int rc = disk_read(fd, raw, sizeof(raw), 0);
    if (rc != 0)
        return rc == -ENODATA ? ERR_SYNTAX : rc;
    struct slice s = slice_of(raw + 8, 8);
    uint32_t version = 0, features = 0;
    (void)slice_get_u32(&s, &version);
    (void)slice_get_u32(&s, &features);
    if (memcmp(raw, "KKEXPRT", 8) != 0)
        return ERR_SYNTAX;
    return version > EXPORT_VERSION || features != 0 ? ERR_VERSION : 0;
}

void export_reader_done(struct export_reader *r)
{
    buf_done_secret(&r->content);
}

int export_reader_next(struct export_reader *r, enum export_type *ret)
{
    uint8_t raw[EXPORT_ITEM_HEADER];
    uint32_t n = 0;
    int rc = disk_read(r->fd, raw, sizeof(raw), r->offset);
    struct slice s = slice_of(raw + 1, 4);
    (void)slice_get_u32(&s, &n);
    if (rc == 0 && (raw[0] < EXPORT_ACCOUNT || raw[0] > EXPORT_END || n > EXPORT_ITEM_MAX))
        rc = ERR_SYNTAX;
    buf_reset(&r->content);
    if (rc == 0)
        rc = buf_reserve(&r->content, n);
    if (rc == 0 && n > 0)
        rc = disk_read(r->fd, r->content.p, n, r->offset + sizeof(raw));
    if (rc != 0)
        return rc == -ENODATA ? ERR_SYNTAX : rc;
    r->content.n = n;
    r->offset += sizeof(raw) + n;
    *ret = (enum export_type)raw[0];
    return 0;
}

struct check {
    struct export_reader r;
    struct arena arena;
    EVP_MD_CTX *digest;
    uint64_t digested;  /* bytes of the file */
    uint64_t body_left; /* data that the last message still wants */
    uint64_t messages;
};

static int digest_to(struct check *c, uint64_t end)
{
    char chunk[4096];
    while (c->digested < end) {
        size_t n = end - c->digested < sizeof(chunk) ? (size_t)(end - c->digested) : sizeof(chunk);
        int rc = disk_read(c->r.fd, chunk, n, c->digested);
        if (rc != 0 || EVP_DigestUpdate(c->digest, chunk, n) != 1)
            return rc != 0 ? rc : -ENOMEM;
        c->digested += n;
    }
    return 0;
}

static int check_end(struct check *c, uint64_t at)
{
    uint8_t want[EXPORT_DIGEST], more;
    unsigned n = 0;
    int rc = digest_to(c, at);
    if (rc != 0)
        return rc;
    if (EVP_DigestFinal_ex(c->digest, want, &n) != 1)
        return -ENOMEM;
    if (c->r.content.n != n || memcmp(c->r.content.p, want, n) != 0)
        return ERR_CORRUPT;
    return disk_read(c->r.fd, &more, 1, c->r.offset) == -ENODATA ? 0 : ERR_SYNTAX;
}

static int check_item(struct check *c, enum export_type type)
{
    struct slice content = buf_slice(&c->r.content);
    struct x_message m;
    struct x_mailbox b;
    struct x_account a;
    int rc;
    if ((type == EXPORT_DATA) != (c->body_left > 0))
        return ERR_SYNTAX;
    arena_reset(&c->arena);
    switch (type) {
    case EXPORT_ACCOUNT: return record_decode(&record_x_account, content, NULL, 0, &c->arena, &a);
    case EXPORT_MAILBOX: return record_decode(&record_x_mailbox, content, NULL, 0, &c->arena, &b);
    case EXPORT_MESSAGE:
        rc = record_decode(&record_x_message, content, NULL, 0, &c->arena, &m);
        if (rc == 0) {
            c->body_left = m.body_size;
            c->messages++;
        }
        return rc;
    case EXPORT_DATA:
        if (content.n == 0 || content.n > c->body_left)
            return ERR_SYNTAX;
        c->body_left -= content.n;
        return 0;
    default: return 0;
    }
}

int export_check(int fd, uint64_t *ret_messages)
{
    struct check c = {0};
    enum export_type type = EXPORT_ACCOUNT;
    int rc = export_reader_init(&c.r, fd);
    arena_init(&c.arena, EXPORT_ITEM_MAX * 2);
    c.digest = EVP_MD_CTX_new();
    if (rc == 0 && (c.digest == NULL || EVP_DigestInit_ex(c.digest, EVP_sha256(), NULL) != 1))
        rc = -ENOMEM;
    while (rc == 0 && type != EXPORT_END) {
        uint64_t at = c.r.offset;
        rc = export_reader_next(&c.r, &type);
        if (rc == 0)
            rc = check_item(&c, type);
        if (rc == 0 && type == EXPORT_END)
            rc = check_end(&c, at);
    }
    EVP_MD_CTX_free(c.digest);
    arena_done(&c.arena);
    export_reader_done(&c.r);
    if (rc == 0)
        *ret_messages = c.messages;
    return rc;
}
