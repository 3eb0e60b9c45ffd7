/* A mailbox under a grant: list, places, text: see maildrop.h. */
#include "role/imapd/maildrop.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "io/worker.h"
#include "role/imapd/segments.h"
#include "store/body.h"

#define CALL_MS 20000
#define PLACES_MAX (512 * 1024) /* of decoded answers: a frame and its lists */
#define LOCATE_FIRST 4
#define READ_THREADS 4
#define READ_QUEUE 1000
#define KEY_SIZE 32
#define SPARE_READERS 8 /* kept for the next message; one is 0.2 MB with its buffers */

struct maildrop {
    uint64_t grant, mailbox, uidvalidity;
    struct id128 conn;
    const struct store_entry *entries;
    size_t n;
    size_t mapped; /* bytes */

    /* The batch: places of messages from .. from + places.n - 1 */
    struct arena arena;
    struct m_message_locate_reply batch;
    size_t from;
    size_t window; /* how many to ask for next time */

    /* The open message. */
    struct segment *segment;
    struct body_reader *reader;
};

static struct worker_pool *readers;
static struct body_reader *spare[SPARE_READERS];
static size_t n_spare;

int maildrop_threads(void)
{
    return worker_pool_new("imapd-read", READ_THREADS, READ_QUEUE, &readers);
}

/* ---- opening ---- */

static int call(struct maildrop *m, enum ipc_number number, struct arena *a, const void *rq, void *reply, struct err *err)
{
    struct ipc_call c = {.trace = m->conn, .deadline = clock_deadline(CALL_MS), .arena = a};
    return ipc_call(ROLE_STORED, 0, number, &c, rq, reply, err);
}

/* The list is a sealed memory file: mapped, not copied; the descriptor is not kept. */
static int map_entries(struct maildrop *m, uint64_t count, int fd, struct err *err)
{
    if (count == 0)
        return 0;
    if (count > UINT32_MAX)
        return err_set(err, ERR_SYNTAX, "a list of %llu messages", (unsigned long long)count);
    size_t size = (size_t)count * sizeof(struct store_entry);
    int rc = ipc_memfd_check(fd, size);
    if (rc != 0)
        return err_set(err, rc, "the list of messages is not sealed, or not of its size");
    void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_errno(err, "list of messages");
    m->entries = p;
    m->n = (size_t)count;
    m->mapped = size;
    return 0;
}

static int list(struct maildrop *m, struct err *err)
{
    struct arena a;
    struct m_mailbox_list rq = {.grant = m->grant, .mailbox = m->mailbox};
    struct m_mailbox_list_reply reply = {.entries = -1};
    arena_init(&a, 1024);
    int rc = call(m, IPC_mailbox_list, &a, &rq, &reply, err);
    arena_done(&a);
    if (rc != 0)
        return rc;
    rc = map_entries(m, reply.count, reply.entries, err);
    if (reply.entries >= 0)
        (void)close(reply.entries);
    return rc;
}

static int open_and_lock(struct maildrop *m, struct err *err)
{
    struct arena a;
    struct m_mailbox_open open_rq = {.grant = m->grant, .name = SLICE("INBOX")};
    struct m_mailbox_open_reply open_reply = {0};
    struct m_mailbox_lock lock_rq = {.grant = m->grant};
    struct m_mailbox_lock_reply lock_reply = {0};
    arena_init(&a, 1024);
    int rc = call(m, IPC_mailbox_open, &a, &open_rq, &open_reply, err);
    if (rc == 0) {
        m->mailbox = lock_rq.mailbox = open_reply.mailbox;
        m->uidvalidity = open_reply.uidvalidity;
        rc = call(m, IPC_mailbox_lock, &a, &lock_rq, &lock_reply, err);
    }
    arena_done(&a);
    return rc;
}

int maildrop_open(uint64_t grant, struct id128 conn, int64_t deadline, struct maildrop **ret, struct err *err)
{
    (void)deadline;
    struct maildrop *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return err_set(err, -ENOMEM, "no memory for a maildrop");
    *m = (struct maildrop){.grant = grant, .conn = conn, .window = LOCATE_FIRST};
    arena_init(&m->arena, PLACES_MAX);
    /* Locked first, listed then: what another session deletes before is not in the list. */
    int rc = open_and_lock(m, err);
    if (rc == 0)
        rc = list(m, err);
    if (rc != 0) {
        maildrop_free(m);
        return rc;
    }
    *ret = m;
    return 0;
}

static void drop_batch(struct maildrop *m)
{
    record_wipe_deep(&record_m_message_locate_reply, &m->batch);
    m->batch = (struct m_message_locate_reply){{0, NULL}};
    arena_done(&m->arena);
}

void maildrop_free(struct maildrop *m)
{
    if (m == NULL)
        return;
    maildrop_message_close(m);
    drop_batch(m);
    if (m->entries != NULL)
        (void)munmap((void *)(uintptr_t)m->entries, m->mapped);
    free(m);
}

const struct store_entry *maildrop_entries(const struct maildrop *m, size_t *ret_n)
{
    *ret_n = m->n;
    return m->entries;
}

uint64_t maildrop_uidvalidity(const struct maildrop *m)
{
    return m->uidvalidity;
}

/* ---- reading ---- */

static const struct m_message_place *in_batch(const struct maildrop *m, size_t index)
{
    if (index < m->from || index - m->from >= m->batch.places.n)
        return NULL;
    const struct m_message_place *p = RECORD_ITEM(m->batch.places, m_message_place, index - m->from);
    return p->uid == m->entries[index].uid ? p : NULL;
}

/* Asks for the places of messages from `index` on: more each time, as long as the client goes on in order. stored answers with as
 * many of them as fit into one message, at least the first. */
static int locate(struct maildrop *m, size_t index)
{
    struct m_message_uid uids[MAILDROP_LOCATE_MAX];
    struct err err = {0};
    bool in_order = index == m->from + m->batch.places.n;
    size_t n = in_order ? m->window * 2 : LOCATE_FIRST;
    m->window = n = n < MAILDROP_LOCATE_MAX ? n : MAILDROP_LOCATE_MAX;
    if (n > m->n - index)
        n = m->n - index;
    for (size_t i = 0; i < n; i++)
        uids[i].uid = m->entries[index + i].uid;
    struct m_message_locate rq = {.grant = m->grant, .mailbox = m->mailbox, .uids = {n, uids}};
    drop_batch(m);
    m->from = index;
    int rc = call(m, IPC_message_locate, &m->arena, &rq, &m->batch, &err);
    if (rc != 0) {
        m->batch = (struct m_message_locate_reply){{0, NULL}};
        log_warning("imapd.locate", L_ID("conn", m->conn), L_STR("code", err_name(rc)), L_STR("reason", err.text));
    }
    return rc;
}

static int take_reader(int fd, const struct m_message_place *p, const uint8_t *key, struct body_reader **ret)
{
    if (n_spare == 0)
        return body_reader_new(fd, p->offset, p->stored_size, p->body_size, (uint8_t)p->codec, key, ret);
    *ret = spare[--n_spare];
    return body_reader_reuse(*ret, fd, p->offset, p->stored_size, p->body_size, (uint8_t)p->codec, key);
}

static void give_reader(struct body_reader *r)
{
    if (r != NULL && n_spare < SPARE_READERS) {
        body_reader_wipe(r);
        spare[n_spare++] = r;
    } else {
        body_reader_free(r);
    }
}

static int open_reader(struct maildrop *m, const struct m_message_place *p, struct err *err)
{
    uint8_t key[KEY_SIZE];
    if (p->key.n != sizeof(key) || p->codec > UINT8_MAX)
        return err_set(err, ERR_CORRUPT, "a key of %zu bytes", p->key.n);
    int rc = segment_get(p->segment, m->grant, m->conn, &m->segment, err);
    if (rc != 0)
        return rc;
    memcpy(key, p->key.p, sizeof(key));
    rc = take_reader(segment_fd(m->segment), p, key, &m->reader);
    secret_wipe(key, sizeof(key));
    if (rc != 0)
        (void)err_set(err, rc, "uid %llu", (unsigned long long)p->uid);
    return rc;
}

static int try_open(struct maildrop *m, size_t index, struct slice *ret_prefix, struct err *err)
{
    const struct m_message_place *p = in_batch(m, index);
    int rc = 0;
    if (p == NULL) {
        rc = locate(m, index);
        p = in_batch(m, index);
    }
    if (rc != 0)
        return rc;
    if (p == NULL || p->segment == 0)
        return err_set(err, ERR_GONE, "uid %u", m->entries[index].uid);
    rc = open_reader(m, p, err);
    if (rc == 0)
        *ret_prefix = p->prefix;
    else
        maildrop_message_close(m);
    return rc;
}

struct id128 maildrop_message_id(const struct maildrop *m, size_t index)
{
    const struct m_message_place *p = in_batch(m, index);
    return p != NULL ? p->message : (struct id128){{0}};
}

int maildrop_message_open(struct maildrop *m, size_t index, struct slice *ret_prefix)
{
    struct err err = {0};
    bool remembered = in_batch(m, index) != NULL;
    int rc = try_open(m, index, ret_prefix, &err);
    /* Compaction may have moved what was located a while ago. */
    if (rc != 0 && rc != -ECANCELED && remembered) {
        drop_batch(m);
        rc = try_open(m, index, ret_prefix, &err);
    }
    if (rc != 0 && rc != ERR_GONE && rc != -ECANCELED)
        log_warning("imapd.message", L_ID("conn", m->conn), L_STR("code", err_name(rc)), L_STR("reason", err.text));
    return rc;
}

struct read_job {
    struct body_reader *reader;
    struct slice piece;
    int rc;
};

static void run_read(void *arg)
{
    struct read_job *j = arg;
    j->rc = body_reader_next(j->reader, &j->piece);
}

int maildrop_message_read(struct maildrop *m, struct slice *ret_piece)
{
    struct read_job j = {.reader = m->reader};
    int rc = body_reader_try(m->reader, &j.piece);
    if (rc == -EAGAIN) {
        /* Not in memory: a thread waits for the disk, the other sessions go on. */
        rc = worker_run(readers, run_read, &j);
        if (rc == 0)
            rc = j.rc;
    }
    if (rc == 0)
        *ret_piece = j.piece;
    else if (rc == ERR_CORRUPT)
        log_alert("imapd.body_corrupt", L_ID("conn", m->conn));
    return rc;
}

void maildrop_message_close(struct maildrop *m)
{
    give_reader(m->reader);
    m->reader = NULL;
    segment_put(m->segment);
    m->segment = NULL;
}

/* ---- changing ---- */

static struct record_list list_uids(const uint32_t *uids, size_t n, struct arena *a)
{
    struct m_message_uid *items = arena_array(a, n, sizeof(*items));
    for (size_t i = 0; items != NULL && i < n; i++)
        items[i].uid = uids[i];
    return (struct record_list){items != NULL ? n : 0, items};
}

int maildrop_expunge(struct maildrop *m, const uint32_t *uids, size_t n, struct slice event, uint64_t *ret_expunged)
{
    struct arena a;
    struct err err = {0};
    arena_init(&a, PLACES_MAX);
    struct m_mailbox_expunge rq = {.grant = m->grant, .mailbox = m->mailbox, .uids = list_uids(uids, n, &a), .event = event};
    struct m_mailbox_expunge_reply reply = {0};
    int rc = rq.uids.n == n ? call(m, IPC_mailbox_expunge, &a, &rq, &reply, &err) : -ENOMEM;
    arena_done(&a);
    if (rc == 0)
        *ret_expunged = reply.expunged;
    else
        log_error("imapd.expunge", L_ID("conn", m->conn), L_STR("code", err_name(rc)), L_STR("reason", err.text));
    return rc;
}

int maildrop_add_flags(struct maildrop *m, const uint32_t *uids, size_t n, uint32_t add, uint32_t remove)
{
    struct arena a;
    struct err err = {0};
    arena_init(&a, PLACES_MAX);
    struct m_mailbox_flags rq = {.grant = m->grant, .mailbox = m->mailbox, .uids = list_uids(uids, n, &a), .add = add, .remove = remove};
    struct m_mailbox_flags_reply reply = {0};
    int rc = rq.uids.n == n ? call(m, IPC_mailbox_flags, &a, &rq, &reply, &err) : -ENOMEM;
    arena_done(&a);
    if (rc != 0)
        log_warning("imapd.flags", L_ID("conn", m->conn), L_STR("code", err_name(rc)), L_STR("reason", err.text));
    return rc;
}
