/* event.h: the catalogue of events of the audit trail. Each event is a record (ipc/record.h) with a common head.
 *
 * Classes: COMMIT, written in the same commit as the act (the outboxes of stored and authd); AWAITED, the act waits until the
 * event is durable in the trail; BEST, sent without waiting (counted when lost). Control ids name the requirement that the
 * event is evidence for (shared catalogue; tools/controls checks them against the tests).
 *
 * Encoding: u16 number, u8 format version (EVENT_FORMAT), u8 role, u64 time (ms, UTC), 16 bytes connection id, 16 bytes message
 * id (zero: none), then the record. JSON: one object a line, keys in this order: seq, time, event, role, conn, message, fields. */
#ifndef KK_TRAIL_EVENT_H
#define KK_TRAIL_EVENT_H

#include "io/fiber.h"
#include "ipc/messages.h"

#define EVENT_FORMAT 1

enum event_class { EVENT_COMMIT, EVENT_AWAITED, EVENT_BEST };

#define EVENTS(E)                                                                                                              \
    E(1, smtp_received, "smtp.received", EVENT_COMMIT, "R4.2(1) T2.2.1.4(1)(a)")                                               \
    E(2, smtp_relay_denied, "smtp.relay_denied", EVENT_BEST, "R5.1 R6.1 T2.3.3.1(1)(a)")                                       \
    E(3, smtp_rcpt_refused, "smtp.rcpt_refused", EVENT_BEST, "R4.2(1)")                                                        \
    E(4, smtp_message_refused, "smtp.message_refused", EVENT_BEST, "R4.2(1)")                                                  \
    E(5, smtp_connection, "smtp.connection", EVENT_BEST, "R4.2(1)")                                                            \
    E(6, smtp_abuse, "smtp.abuse", EVENT_BEST, "R4.4 T2.2.2.3")                                                                \
    E(10, login_ok, "login.ok", EVENT_AWAITED, "R4.2(1) T2.2.1.4(1)(a)")                                                       \
    E(11, login_failed, "login.failed", EVENT_BEST, "R4.2(1) T2.2.1.4(1)(a)")                                                  \
    E(12, session_ended, "session.ended", EVENT_BEST, "R4.2(1)")                                                               \
    E(13, mail_retrieved, "mail.retrieved", EVENT_AWAITED, "R4.2(1)")                                                          \
    E(16, mail_taken, "mail.taken", EVENT_BEST, "R4.2(1)")                                                                     \
    E(14, mail_expunged, "mail.expunged", EVENT_COMMIT, "R4.2(1)")                                                             \
    E(15, login_refused, "login.refused", EVENT_BEST, "R4.2(1) T2.2.1.4(1)(a)")                                                \
    E(20, tls_failed, "tls.failed", EVENT_BEST, "")                                                                            \
    E(30, account_created, "account.created", EVENT_COMMIT, "R7.1")                                                            \
    E(31, account_changed, "account.changed", EVENT_COMMIT, "R7.1")                                                            \
    E(32, account_deleted, "account.deleted", EVENT_COMMIT, "R7.1")                                                            \
    E(33, alias_changed, "alias.changed", EVENT_COMMIT, "R7.1")                                                                \
    E(34, domain_changed, "domain.changed", EVENT_COMMIT, "")                                                                  \
    E(40, grant_denied, "grant.denied", EVENT_BEST, "T2.2.1.2")                                                                \
    E(41, ipc_violation, "ipc.violation", EVENT_BEST, "")                                                                      \
    E(50, service_started, "service.started", EVENT_BEST, "T2.2.1.4(1)(a)")                                                    \
    E(51, service_stopped, "service.stopped", EVENT_BEST, "T2.2.1.4(1)(a)")                                                    \
    E(52, process_died, "process.died", EVENT_BEST, "")                                                                        \
    E(53, config_changed, "config.changed", EVENT_AWAITED, "R4.3")                                                             \
    E(54, clock_stepped, "clock.stepped", EVENT_BEST, "T2.2.1.4(1)")                                                           \
    E(55, events_lost, "events.lost", EVENT_BEST, "T2.2.1.4(1)")                                                               \
    E(60, store_exported, "store.exported", EVENT_AWAITED, "R4.2(1)")                                                          \
    E(61, store_imported, "store.imported", EVENT_AWAITED, "R4.2(1)")                                                               \
    E(56, trail_begun, "trail.begun", EVENT_BEST, "R4.2(2)a T2.2.1.4(1)")

/* result: "ok", or the enhanced status code given. tls: "" or "TLSv1.3 TLS_AES_256_GCM_SHA384". */
#define RECORD_ev_rcpt(F, S) F(S, STR, address, IPC_ADDRESS_MAX) F(S, U64, account, 0) F(S, STR, result, 64)
RECORD_DECLARE(ev_rcpt);
#define RECORD_ev_smtp_received(F, S)                                                                                          \
    F(S, STR, peer, IPC_IP_MAX) F(S, STR, helo, 1024) F(S, STR, protocol, 16) F(S, STR, tls, 128)                              \
    F(S, STR, sender, IPC_ADDRESS_MAX) F(S, LIST, recipients, IPC_RCPT_MAX, ev_rcpt) F(S, U64, size, 0)                        \
    F(S, STR, message_id, 998) F(S, STR, from, IPC_ADDRESS_MAX)
#define RECORD_ev_smtp_relay_denied(F, S)                                                                                      \
    F(S, STR, peer, IPC_IP_MAX) F(S, STR, helo, 1024) F(S, STR, sender, IPC_ADDRESS_MAX) F(S, STR, recipient, IPC_ADDRESS_MAX)  \
    F(S, STR, reply, IPC_TEXT_MAX)
#define RECORD_ev_smtp_rcpt_refused(F, S) RECORD_ev_smtp_relay_denied(F, S)
#define RECORD_ev_smtp_message_refused(F, S)                                                                                   \
    F(S, STR, peer, IPC_IP_MAX) F(S, STR, helo, 1024) F(S, STR, sender, IPC_ADDRESS_MAX) F(S, U64, recipients, 0)               \
    F(S, U64, size, 0) F(S, STR, reply, IPC_TEXT_MAX)
#define RECORD_ev_smtp_connection(F, S)                                                                                        \
    F(S, STR, peer, IPC_IP_MAX) F(S, STR, listener, 64) F(S, STR, tls, 128) F(S, U64, messages, 0) F(S, U64, errors, 0)        \
    F(S, U64, bytes_in, 0) F(S, U64, ms, 0) F(S, STR, end, 64)
#define RECORD_ev_smtp_abuse(F, S) F(S, STR, peer, IPC_IP_MAX) F(S, STR, limit, 64) F(S, U64, value, 0)
#define RECORD_ev_login_ok(F, S)                                                                                               \
    F(S, STR, service, 16) F(S, STR, peer, IPC_IP_MAX) F(S, STR, user, IPC_ADDRESS_MAX) F(S, U64, account, 0) F(S, STR, tls, 128)
#define RECORD_ev_login_failed(F, S)                                                                                           \
    F(S, STR, service, 16) F(S, STR, peer, IPC_IP_MAX) F(S, STR, user, IPC_ADDRESS_MAX) F(S, STR, reason, 64)
/* Why authd said no, where login is not told: "unknown user", "suspended", "throttled from now on", ... */
#define RECORD_ev_login_refused(F, S)                                                                                          \
    F(S, STR, service, 16) F(S, STR, peer, IPC_IP_MAX) F(S, STR, user, IPC_ADDRESS_MAX) F(S, U64, account, 0) F(S, STR, reason, 64)
#define RECORD_ev_session_ended(F, S)                                                                                          \
    F(S, STR, service, 16) F(S, STR, peer, IPC_IP_MAX) F(S, STR, user, IPC_ADDRESS_MAX) F(S, U64, account, 0)                   \
    F(S, U64, retrieved, 0) F(S, U64, retrieved_bytes, 0) F(S, U64, expunged, 0) F(S, U64, ms, 0) F(S, STR, end, 64)
/* What left the service: the number of distinct messages whose body was sent, and their ids. Past EVENT_IDS_MAX, earlier ids are in
 * mail.taken events of the same connection. */
#define EVENT_IDS_MAX 400
#define RECORD_ev_message_id(F, S) F(S, ID, message, 0)
RECORD_DECLARE(ev_message_id);
#define RECORD_ev_mail_taken(F, S)                                                                                             \
    F(S, STR, service, 16) F(S, STR, user, IPC_ADDRESS_MAX) F(S, U64, account, 0) F(S, LIST, ids, EVENT_IDS_MAX, ev_message_id)
#define RECORD_ev_mail_retrieved(F, S)                                                                                         \
    F(S, STR, service, 16) F(S, STR, peer, IPC_IP_MAX) F(S, STR, user, IPC_ADDRESS_MAX) F(S, U64, account, 0)                   \
    F(S, U64, messages, 0) F(S, U64, bytes, 0) F(S, U64, complete, 1) F(S, LIST, ids, EVENT_IDS_MAX, ev_message_id)
#define RECORD_ev_mail_expunged(F, S)                                                                                          \
    F(S, STR, service, 16) F(S, STR, user, IPC_ADDRESS_MAX) F(S, U64, account, 0) F(S, U64, messages, 0)
#define RECORD_ev_tls_failed(F, S) F(S, STR, peer, IPC_IP_MAX) F(S, STR, service, 16) F(S, STR, reason, 255)
#define RECORD_ev_account_created(F, S) F(S, STR, actor, IPC_NAME_MAX) F(S, U64, account, 0) F(S, STR, address, IPC_ADDRESS_MAX)
#define RECORD_ev_account_changed(F, S)                                                                                        \
    F(S, STR, actor, IPC_NAME_MAX) F(S, U64, account, 0) F(S, STR, address, IPC_ADDRESS_MAX) F(S, STR, what, 64)
#define RECORD_ev_account_deleted(F, S) RECORD_ev_account_created(F, S)
#define RECORD_ev_alias_changed(F, S)                                                                                          \
    F(S, STR, actor, IPC_NAME_MAX) F(S, STR, alias, IPC_ADDRESS_MAX) F(S, STR, target, IPC_ADDRESS_MAX) F(S, STR, what, 64)
#define RECORD_ev_domain_changed(F, S) F(S, STR, actor, IPC_NAME_MAX) F(S, STR, domain, IPC_NAME_MAX) F(S, STR, what, 64)
#define RECORD_ev_grant_denied(F, S) F(S, STR, holder, 64) F(S, U64, account, 0) F(S, STR, request, 64) F(S, STR, reason, 64)
#define RECORD_ev_ipc_violation(F, S) F(S, STR, peer, 64) F(S, STR, message, 64) F(S, STR, reason, 255)
#define RECORD_ev_service_started(F, S) F(S, STR, version, 64) F(S, STR, reason, 64)
#define RECORD_ev_service_stopped(F, S) F(S, STR, version, 64) F(S, STR, reason, 64)
#define RECORD_ev_process_died(F, S) F(S, STR, process, 64) F(S, U64, status, 0) F(S, U64, restarts, 0)
#define RECORD_ev_config_changed(F, S) F(S, STR, actor, IPC_NAME_MAX) F(S, U64, version, 0) F(S, STR, reason, IPC_TEXT_MAX)
#define RECORD_ev_clock_stepped(F, S) F(S, U64, highest_ms, 0) F(S, U64, now_ms, 0)
/* An administrator is about to read or add an account's mail. */
#define RECORD_ev_store_exported(F, S) F(S, STR, actor, IPC_NAME_MAX) F(S, U64, account, 0)
#define RECORD_ev_store_imported(F, S) F(S, STR, actor, IPC_NAME_MAX) F(S, U64, account, 0)
#define RECORD_ev_events_lost(F, S) F(S, U64, count, 0) F(S, STR, process, 64)

/* The first line of a file of the trail: the file before it, and the last event of each source (trail/files.h). */
#define RECORD_ev_trail_source(F, S) F(S, STR, source, 16) F(S, STR, epoch, 16) F(S, U64, sequence, 0)
RECORD_DECLARE(ev_trail_source);
#define RECORD_ev_trail_begun(F, S) F(S, U64, file, 0) F(S, U64, previous, 0) F(S, LIST, sources, 8, ev_trail_source)

#define EVENT_DECLARE_(number, name, text, cls, controls) RECORD_DECLARE(ev_##name);
EVENTS(EVENT_DECLARE_)
enum event_number {
#define EVENT_ENUM_(number, name, text, cls, controls) EV_##name = (number),
    EVENTS(EVENT_ENUM_)
};

struct event_desc {
    enum event_number number;
    const char *name; /* "smtp.received" */
    enum event_class cls;
    const char *controls;
    const struct record_desc *record;
};
const struct event_desc *event_find(unsigned number); /* NULL when there is none */
extern const struct event_desc event_catalogue[];
extern const size_t event_catalogue_n;

struct event_head {
    enum event_number number;
    enum role role;
    int64_t time_ms;
    struct id128 conn, message;
};
/* Appends the encoding. Texts of outside origin must have been made valid UTF-8 (event_text). 0 or a negative code. */
int event_encode(const struct event_head *head, const void *record, struct buf *out);
/* One JSON object without end of line. ERR_SYNTAX for what is not an event. */
int event_print_json(struct slice encoded, uint64_t seq, struct buf *out);
int event_decode(struct slice encoded, struct arena *arena, struct event_head *ret_head, const struct event_desc **ret_desc,
                 void **ret_record);
/* A copy in the arena that any STR field takes: invalid UTF-8 and NUL replaced by U+FFFD, cut at max bytes between characters. */
struct slice event_text(struct arena *a, struct slice s, size_t max);

/* Sends to auditd. BEST: a note, never waits, counts what is lost. AWAITED: until durable or the deadline; the code tells. */
void event_send(const struct event_head *head, const void *record);
int MAY_YIELD event_send_awaited(const struct event_head *head, const void *record, int64_t deadline, struct err *err);

#endif
