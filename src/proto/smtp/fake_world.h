/* fake_world.h: the backend of tests and fuzzers: a small world in memory with a fake clock. Recipients, by local part at example.test or
 * 例え.テスト: alice (account 1), bob (2), postmaster (9), abuse (9), group (1 and 2), half (a list whose second member is full), huge (1000 accounts), disabled, full, big, temp,
 * down (authd does not answer); a sub-address of alice; all others are unknown, all other domains not ours. A message acts by its
 * content: "X-Fake: reject", "defer", "loop", "filter-down", "full", "one-full", "no-grant", "store-down", "header". */
#ifndef KK_PROTO_SMTP_FAKE_WORLD_H
#define KK_PROTO_SMTP_FAKE_WORLD_H

#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/ipc.h"
#include "proto/smtp/session_priv.h"

#define WORLD_EVENTS 256
#define WORLD_KEPT 16

struct world {
    struct arena arena; /* of the test */
    uint64_t grants;    /* given; each number once */
    uint64_t dropped, used;
    char *events[WORLD_EVENTS];
    size_t n_events, event_seen;
    struct kept {
        struct id128 message;
        struct slice prefix, body, sender;
        size_t n_rcpts;
        struct slice rcpt_prefix[8];
    } kept[WORLD_KEPT];
    size_t n_kept;
    uint64_t memory, memory_most;
    int64_t mono, real;
    const char *enter_limit; /* what client_enter says */
    bool no_messages, tls_fails;
    unsigned entered;
    bool regranted;
    int (*starttls)(struct world *w, struct stream *raw, struct stream **ret);
    void *arg;
};

__attribute__((unused)) static void world_tick(struct world *w, int64_t ms)
{
    w->mono += ms;
    w->real += ms;
    clock_fake_set(w->mono, w->real);
}

__attribute__((unused)) static void world_init(struct world *w)
{
    *w = (struct world){.mono = 1000000, .real = 1795315476000};
    arena_init(&w->arena, 256 << 20);
    world_tick(w, 0);
}

static const struct world_rcpt {
    const char *local;
    uint64_t account;
    enum rcpt_verdict verdict;
} world_rcpts[] = {
    {"alice", 1, RCPT_OK}, {"bob", 2, RCPT_OK}, {"postmaster", 9, RCPT_OK}, {"abuse", 9, RCPT_OK}, {"alice+news", 1, RCPT_OK},
    {"group", 1, RCPT_OK}, {"huge", 0, RCPT_OK}, {"disabled", 0, RCPT_DISABLED}, {"full", 0, RCPT_FULL}, {"big", 0, RCPT_TOO_BIG},
    {"half", 1, RCPT_FULL}, {"temp", 0, RCPT_TEMPORARY}, {"bad", 0, RCPT_BAD_ADDRESS}, {"用户", 3, RCPT_OK},
};

static struct m_rcpt_target world_target(struct world *w, uint64_t account, struct slice address)
{
    return (struct m_rcpt_target){.account = account, .grant = ++w->grants, .address = address, .detail = SLICE_EMPTY};
}

static int world_rcpt_check(void *arg, struct arena *a, const struct m_rcpt_check *rq, struct m_rcpt_check_reply *reply)
{
    struct world *w = arg;
    struct slice s = rq->address;
    size_t at = s.n;
    while (at > 0 && s.p[at - 1] != '@')
        at--;
    struct slice local = at > 0 ? slice_head(s, at - 1) : s, domain = at > 0 ? slice_from(s, at) : SLICE("example.test");
    if (slice_eq(local, SLICE("down")))
        return -ETIMEDOUT;
    reply->canonical = arena_copy(a, s);
    reply->verdict = RCPT_NOT_OURS;
    if (!slice_eq(domain, SLICE("example.test")) && !slice_eq(domain, SLICE("例え.テスト")))
        return 0;
    reply->verdict = RCPT_UNKNOWN;
    for (size_t i = 0; i < sizeof(world_rcpts) / sizeof(*world_rcpts); i++) {
        const struct world_rcpt *r = &world_rcpts[i];
        if (!slice_ieq(local, slice_str(r->local)))
            continue;
        reply->verdict = r->verdict;
        size_t n = r->verdict != RCPT_OK ? r->account : strcmp(r->local, "group") == 0 ? 2 : strcmp(r->local, "huge") == 0 ? 1000 : 1;
        struct m_rcpt_target *t = arena_array(a, n, sizeof(*t));
        if (t == NULL)
            return -ENOMEM;
        for (size_t k = 0; k < n; k++)
            t[k] = world_target(w, n == 1000 ? 1000 + k : r->account + k, reply->canonical);
        reply->targets = (struct record_list){n, t};
    }
    return 0;
}

static struct slice world_body(struct arena *a, int fd, struct slice body, uint64_t size)
{
    if (fd < 0)
        return arena_copy(a, body);
    if (ipc_memfd_check(fd, size) != 0)
        abort();
    char *p = arena_alloc(a, size + 1);
    if (p == NULL || pread(fd, p, size, 0) != (ssize_t)size)
        abort();
    return slice_of(p, size);
}

static bool world_acts(struct slice body, const char *what)
{
    char line[64];
    int n = snprintf(line, sizeof(line), "X-Fake: %s\r", what);
    return memmem(body.p, body.n, line, (size_t)n) != NULL;
}

static int world_inspect(void *arg, struct arena *a, const struct m_inspect *rq, struct m_inspect_reply *reply)
{
    (void)arg;
    struct slice body = world_body(a, rq->body_fd, rq->body, rq->size);
    if (body.n != rq->size)
        abort();
    if (world_acts(body, "filter-down"))
        return -ECONNRESET;
    reply->verdict = world_acts(body, "reject") ? INSPECT_REJECT : world_acts(body, "defer") ? INSPECT_DEFER : INSPECT_ACCEPT;
    if (reply->verdict == INSPECT_REJECT) {
        reply->code = 554;
        reply->enhanced = SLICE("5.7.1");
        reply->text = SLICE("Not wanted");
    }
    reply->received_count = world_acts(body, "loop") ? 51 : 1;
    if (world_acts(body, "header"))
        reply->headers = SLICE("X-Inspected: yes\r\n");
    reply->message_id = SLICE("<id@client.example>");
    reply->from = SLICE("from@client.example");
    return 0;
}

static int world_accept(void *arg, struct arena *a, const struct m_accept *rq, struct m_accept_reply *reply)
{
    struct world *w = arg;
    struct slice body = world_body(&w->arena, rq->body_fd, rq->body, rq->size);
    struct m_accept_result *results = arena_array(a, rq->rcpts.n, sizeof(*results));
    if (world_acts(body, "store-down") || results == NULL)
        return -ECONNRESET;
    reply->results = (struct record_list){rq->rcpts.n, results};
    bool none = world_acts(body, "no-grant") && !w->regranted;
    w->regranted = w->regranted || none;
    for (size_t i = 0; i < rq->rcpts.n; i++) {
        bool full = world_acts(body, "full") || (world_acts(body, "one-full") && RECORD_ITEM(rq->rcpts, m_accept_rcpt, i)->account == 1);
        results[i].status = none ? ACCEPT_NO_GRANT : full ? ACCEPT_FULL : ACCEPT_OK;
    }
    for (size_t i = 0; i < rq->rcpts.n; i++)
        none = none || results[i].status != ACCEPT_OK;
    for (size_t i = 0; i < rq->rcpts.n && none; i++)
        results[i].status = results[i].status == ACCEPT_OK ? ACCEPT_TEMPORARY : results[i].status;
    if (none)
        return 0;
    w->used += rq->rcpts.n;
    if (w->n_kept < WORLD_KEPT) {
        struct kept *k = &w->kept[w->n_kept];
        *k = (struct kept){.message = rq->message, .prefix = arena_copy(&w->arena, rq->prefix), .body = body,
                           .sender = arena_copy(&w->arena, rq->sender), .n_rcpts = rq->rcpts.n};
        for (size_t i = 0; i < rq->rcpts.n && i < 8; i++)
            k->rcpt_prefix[i] = arena_copy(&w->arena, RECORD_ITEM(rq->rcpts, m_accept_rcpt, i)->prefix);
    }
    w->n_kept++;
    struct buf json;
    buf_init(&json, 1 << 20);
    if (w->n_events < WORLD_EVENTS && event_print_json(rq->event, 0, &json) == 0)
        w->events[w->n_events++] = arena_strdup(&w->arena, buf_slice(&json));
    buf_done(&json);
    return 0;
}

static int world_starttls(void *arg, struct stream *raw, struct id128 conn, const char *peer_ip, struct smtp_tls *tls, struct stream **ret)
{
    struct world *w = arg;
    (void)conn;
    (void)peer_ip;
    if (w->tls_fails || w->starttls == NULL) {
        stream_free(raw);
        return -ECONNRESET;
    }
    *tls = (struct smtp_tls){.version = "TLSv1.3", .cipher = "TLS_AES_256_GCM_SHA384", .group = "X25519", .bits = 256};
    return w->starttls(w, raw, ret);
}

static void world_grant_drop(void *arg, uint64_t grant)
{
    struct world *w = arg;
    (void)grant;
    w->dropped++;
}

static void world_event(void *arg, const struct event_head *head, const void *record)
{
    struct world *w = arg;
    struct buf encoded, json;
    buf_init(&encoded, IPC_EVENT_MAX);
    buf_init(&json, 1 << 20);
    if (event_encode(head, record, &encoded) != 0 || event_print_json(buf_slice(&encoded), 0, &json) != 0)
        abort(); /* what a session sends must be encodable, whatever the stranger said */
    if (w->n_events < WORLD_EVENTS)
        w->events[w->n_events++] = arena_strdup(&w->arena, buf_slice(&json));
    buf_done(&encoded);
    buf_done(&json);
}

static const char *world_client_enter(void *arg, const struct netaddr *client, const struct smtp_settings *set)
{
    struct world *w = arg;
    (void)client;
    (void)set;
    if (w->enter_limit == NULL)
        w->entered++;
    return w->enter_limit;
}

static void world_client_leave(void *arg, const struct netaddr *client)
{
    (void)client;
    ((struct world *)arg)->entered--;
}

static bool world_message_take(void *arg, const struct netaddr *client, const struct smtp_settings *set)
{
    (void)client;
    (void)set;
    return !((struct world *)arg)->no_messages;
}

static bool world_memory_take(void *arg, struct smtp_memory *m, uint64_t octets, const struct smtp_settings *set)
{
    struct world *w = arg;
    (void)m;
    if (octets > set->max_in_flight || w->memory > set->max_in_flight - octets)
        return false;
    w->memory += octets;
    w->memory_most = w->memory > w->memory_most ? w->memory : w->memory_most;
    return true;
}

static void world_memory_give(void *arg, struct smtp_memory *m, uint64_t octets)
{
    (void)m;
    ((struct world *)arg)->memory -= octets;
}

static int world_sleep(void *arg, int64_t ms)
{
    world_tick(arg, ms);
    return 0;
}

__attribute__((unused)) static const struct smtp_backend world_backend = {
    .rcpt_check = world_rcpt_check, .inspect = world_inspect, .accept = world_accept, .starttls = world_starttls,
    .grant_drop = world_grant_drop, .event = world_event, .client_enter = world_client_enter, .client_leave = world_client_leave,
    .message_take = world_message_take, .memory_take = world_memory_take, .memory_give = world_memory_give, .sleep = world_sleep,
};

/* The defaults of conf.h, with a host name. */
__attribute__((unused)) static struct conf world_conf(void)
{
#define WORLD_DEFAULT_BOOL(v) v
#define WORLD_DEFAULT_INT(v) v
#define WORLD_DEFAULT_SIZE(v) v
#define WORLD_DEFAULT_TIME(v) v
#define WORLD_DEFAULT_STR(v) v
#define WORLD_DEFAULT_LIST(v) {0, NULL}
#define WORLD_DEFAULT_(kind, section, name, def, ...) .section##_##name = WORLD_DEFAULT_##kind(def),
    struct conf c = {CONF_OPTIONS(WORLD_DEFAULT_)};
    c.server_hostname = "mx.example.test";
    return c;
}

#endif
