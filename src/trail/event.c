/* The catalogue's tables, encoding and printing of events: see event.h. */
#include "trail/event.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "ipc/ipc.h"

#define HEAD_SIZE (2 + 1 + 1 + 8 + 16 + 16)

RECORD_DEFINE(ev_rcpt);
RECORD_DEFINE(ev_message_id);
RECORD_DEFINE(ev_trail_source);
#define DEFINE(number, name, text, cls, controls) RECORD_DEFINE(ev_##name);
EVENTS(DEFINE)

#define ROW(number, name, text, cls, controls) {EV_##name, (text), (cls), (controls), &record_ev_##name},
const struct event_desc event_catalogue[] = {EVENTS(ROW)};
const size_t event_catalogue_n = sizeof(event_catalogue) / sizeof(event_catalogue[0]);

const struct event_desc *event_find(unsigned number)
{
    for (size_t i = 0; i < event_catalogue_n; i++)
        if ((unsigned)event_catalogue[i].number == number)
            return &event_catalogue[i];
    return NULL;
}

int event_encode(const struct event_head *head, const void *record, struct buf *out)
{
    const struct event_desc *d = event_find(head->number);
    if (d == NULL)
        return -EINVAL;
    buf_put_u16(out, (uint16_t)head->number);
    buf_put_char(out, EVENT_FORMAT);
    buf_put_char(out, (char)head->role);
    buf_put_u64(out, (uint64_t)head->time_ms);
    buf_put(out, head->conn.b, sizeof(head->conn.b));
    buf_put(out, head->message.b, sizeof(head->message.b));
    return record_encode(d->record, record, out, NULL, NULL);
}

int event_decode(struct slice encoded, struct arena *arena, struct event_head *ret_head, const struct event_desc **ret_desc,
                 void **ret_record)
{
    uint16_t number;
    uint8_t format, role;
    uint64_t time_ms;
    struct slice ids;
    struct event_head h = {0};
    if (!slice_get_u16(&encoded, &number) || !slice_get_u8(&encoded, &format) || !slice_get_u8(&encoded, &role) ||
        !slice_get_u64(&encoded, &time_ms) || !slice_get_bytes(&encoded, 32, &ids))
        return ERR_SYNTAX;
    const struct event_desc *d = event_find(number);
    if (format != EVENT_FORMAT)
        return ERR_VERSION;
    if (d == NULL || role >= ROLE_COUNT || time_ms > INT64_MAX)
        return ERR_SYNTAX;
    h.number = d->number;
    h.role = (enum role)role;
    h.time_ms = (int64_t)time_ms;
    memcpy(h.conn.b, ids.p, 16);
    memcpy(h.message.b, ids.p + 16, 16);
    void *record = arena_alloc(arena, d->record->size);
    if (record == NULL)
        return -ENOMEM;
    int rc = record_decode(d->record, encoded, NULL, 0, arena, record);
    if (rc != 0)
        return rc;
    *ret_head = h;
    *ret_desc = d;
    *ret_record = record;
    return 0;
}

static void print_id(struct buf *out, const char *name, struct id128 id)
{
    char text[ID_TEXT_SIZE];
    if (id_is_zero(id))
        return;
    id_print(id, text);
    buf_printf(out, ",\"%s\":\"%s\"", name, text);
}

int event_print_json(struct slice encoded, uint64_t seq, struct buf *out)
{
    struct arena a;
    struct event_head h;
    const struct event_desc *d;
    void *record;
    char iso[CLOCK_ISO_SIZE];
    arena_init(&a, 1 << 20);
    int rc = event_decode(encoded, &a, &h, &d, &record);
    if (rc == 0) {
        clock_print_iso(h.time_ms, iso);
        buf_printf(out, "{\"seq\":%llu,\"time\":\"%s\",\"event\":\"%s\",\"role\":\"%s\"", (unsigned long long)seq, iso, d->name,
                   role_name(h.role));
        print_id(out, "conn", h.conn);
        print_id(out, "message", h.message);
        if (d->record->n_fields > 0)
            buf_put_char(out, ',');
        record_print_json(d->record, record, out);
        buf_put_char(out, '}');
        rc = buf_ok(out) ? 0 : ERR_LIMIT;
    }
    arena_done(&a);
    return rc;
}

struct slice event_text(struct arena *a, struct slice s, size_t max)
{
    static const char mark[] = "\xef\xbf\xbd";
    struct buf b;
    buf_init(&b, max);
    while (s.n > 0) {
        uint32_t cp;
        size_t len = utf8_next(s, &cp);
        bool bad = len == 0 || cp == 0;
        size_t n = bad ? sizeof(mark) - 1 : len;
        if (b.n + n > max)
            break;
        buf_put(&b, bad ? mark : s.p, n);
        s = slice_from(s, len != 0 ? len : 1);
    }
    struct slice copy = arena_copy(a, buf_slice(&b));
    buf_done(&b);
    return copy.p != NULL ? copy : SLICE_EMPTY;
}

/* Events that could not even be queued, told to the trail with the next one that can. */
static uint64_t lost;

void event_send(const struct event_head *head, const void *record)
{
    struct buf b;
    buf_init(&b, IPC_EVENT_MAX);
    int rc = event_encode(head, record, &b);
    if (rc == 0) {
        struct m_event_note note = {.event = buf_slice(&b)};
        rc = ipc_note(ROLE_AUDITD, 0, IPC_event_note, head->message, &note);
    }
    buf_done(&b);
    if (rc != 0) {
        lost++;
        log_warning("event.lost", L_INT("number", head->number), L_STR("reason", err_name(rc)), L_INT("lost", lost));
    } else if (lost != 0) {
        struct ev_events_lost e = {.count = lost, .process = slice_str(role_name(ipc_self()))};
        struct event_head h = {.number = EV_events_lost, .role = ipc_self(), .time_ms = clock_real_ms()};
        lost = 0;
        event_send(&h, &e);
    }
}

int event_send_awaited(const struct event_head *head, const void *record, int64_t deadline, struct err *err)
{
    struct buf b;
    struct arena a;
    buf_init(&b, IPC_EVENT_MAX);
    arena_init(&a, 4096);
    int rc = event_encode(head, record, &b);
    if (rc == 0) {
        struct m_event request = {.event = buf_slice(&b)};
        struct m_event_reply reply;
        struct ipc_call c = {.trace = head->message, .deadline = deadline, .arena = &a};
        rc = ipc_call(ROLE_AUDITD, 0, IPC_event, &c, &request, &reply, err);
    }
    buf_done(&b);
    arena_done(&a);
    return rc;
}
