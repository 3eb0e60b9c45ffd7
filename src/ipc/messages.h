/* messages.h: every message between processes, written down once.
 *
 * A call has a request record and a reply record; a note has only a request and no answer. Who may send it to whom is part of
 * the definition and checked on receipt: a message from a role that may not send it closes that peer and is recorded.
 * Addresses in STR fields are canonical: local part as the server keeps it, domain in lower case U-labels (UTF-8).
 *
 * IPC_CALL(number, name, from roles, to role): records m_<name> and m_<name>_reply
 * IPC_NOTE(number, name, from roles, to role): record m_<name> */
#ifndef KK_IPC_MESSAGES_H
#define KK_IPC_MESSAGES_H

#include "ipc/record.h"
#include "ipc/role.h"

#define IPC_ADDRESS_MAX 1280 /* RFC 5321: 64 + 1 + 255 octets, and as much again for UTF-8 */
#define IPC_NAME_MAX 255
#define IPC_TEXT_MAX 512
#define IPC_INLINE_MAX 65536 /* bodies up to here travel in the message, larger ones as a sealed memfd */
#define IPC_RCPT_MAX 1000
#define IPC_EVENT_MAX 16384
#define IPC_HEADERS_MAX 16384
#define IPC_META_MAX 24576
#define IPC_IP_MAX 45

#define IPC_MESSAGES(CALL, NOTE)                                                                                 \
    /* supervisor's control channel */                                                                           \
    CALL(1, hello, ROLE_BIT(ROLE_SUPERVISOR), ROLE_COUNT)                                                        \
    NOTE(2, peer, ROLE_BIT(ROLE_SUPERVISOR), ROLE_COUNT)                                                         \
    NOTE(3, listener, ROLE_BIT(ROLE_SUPERVISOR), ROLE_COUNT)                                                     \
    CALL(4, start, ROLE_BIT(ROLE_SUPERVISOR), ROLE_COUNT)                                                        \
    CALL(5, reload, ROLE_BIT(ROLE_SUPERVISOR), ROLE_COUNT)                                                       \
    CALL(6, stop, ROLE_BIT(ROLE_SUPERVISOR), ROLE_COUNT)                                                         \
    NOTE(7, client, ROLE_BIT(ROLE_SUPERVISOR), ROLE_COUNT)                                                       \
    NOTE(8, alert, ROLE_ANY, ROLE_SUPERVISOR)                                                                    \
    CALL(9, probe, ROLE_BIT(ROLE_SUPERVISOR) | ROLE_BIT(ROLE_CTL), ROLE_COUNT)                                   \
    /* TLS */                                                                                                    \
    CALL(20, tls_accept, ROLE_BIT(ROLE_SMTPD) | ROLE_BIT(ROLE_LOGIN), ROLE_TLSD)                                 \
    NOTE(21, tls_owner, ROLE_BIT(ROLE_LOGIN), ROLE_TLSD)                                                         \
    NOTE(22, tls_ended, ROLE_BIT(ROLE_TLSD), ROLE_COUNT)                                                         \
    NOTE(23, tls_facts, ROLE_BIT(ROLE_TLSD), ROLE_AUTHD)                                                         \
    CALL(24, key_list, ROLE_BIT(ROLE_TLSD), ROLE_KEYD)                                                           \
    CALL(25, key_sign, ROLE_BIT(ROLE_TLSD), ROLE_KEYD)                                                           \
    CALL(26, ticket_keys, ROLE_BIT(ROLE_TLSD), ROLE_KEYD)                                                        \
    NOTE(27, keys_changed, ROLE_BIT(ROLE_KEYD), ROLE_TLSD)                                                       \
    CALL(28, rest_wrap, ROLE_BIT(ROLE_STORED), ROLE_KEYD)                                                        \
    CALL(29, rest_unwrap, ROLE_BIT(ROLE_STORED), ROLE_KEYD)                                                      \
    /* incoming mail */                                                                                          \
    CALL(40, rcpt_check, ROLE_BIT(ROLE_SMTPD), ROLE_AUTHD)                                                       \
    CALL(41, inspect, ROLE_BIT(ROLE_SMTPD), ROLE_FILTERD)                                                        \
    CALL(42, accept, ROLE_BIT(ROLE_SMTPD), ROLE_STORED)                                                          \
    NOTE(43, grant_drop, ROLE_BIT(ROLE_SMTPD) | ROLE_BIT(ROLE_IMAPD), ROLE_STORED)                               \
    /* grants and accounts in the store */                                                                       \
    CALL(50, grant_deliver, ROLE_BIT(ROLE_AUTHD), ROLE_STORED)                                                   \
    CALL(51, grant_mailbox, ROLE_BIT(ROLE_AUTHD), ROLE_STORED)                                                   \
    CALL(52, grant_revoke, ROLE_BIT(ROLE_AUTHD), ROLE_STORED)                                                    \
    CALL(53, account_create, ROLE_BIT(ROLE_AUTHD), ROLE_STORED)                                                  \
    CALL(54, account_delete, ROLE_BIT(ROLE_AUTHD), ROLE_STORED)                                                  \
    CALL(55, account_quota, ROLE_BIT(ROLE_AUTHD), ROLE_STORED)                                                   \
    NOTE(56, grant_revoked, ROLE_BIT(ROLE_STORED), ROLE_IMAPD)                                                   \
    /* login */                                                                                                  \
    CALL(60, auth_password, ROLE_BIT(ROLE_LOGIN), ROLE_AUTHD)                                                    \
    CALL(61, session_start, ROLE_BIT(ROLE_LOGIN), ROLE_IMAPD)                                                    \
    /* reading */                                                                                                \
    CALL(70, mailbox_open, ROLE_BIT(ROLE_IMAPD), ROLE_STORED)                                                    \
    CALL(71, mailbox_lock, ROLE_BIT(ROLE_IMAPD), ROLE_STORED)                                                    \
    CALL(72, mailbox_list, ROLE_BIT(ROLE_IMAPD), ROLE_STORED)                                                    \
    CALL(73, message_locate, ROLE_BIT(ROLE_IMAPD), ROLE_STORED)                                                  \
    CALL(74, segment_open, ROLE_BIT(ROLE_IMAPD), ROLE_STORED)                                                    \
    CALL(75, mailbox_expunge, ROLE_BIT(ROLE_IMAPD), ROLE_STORED)                                                 \
    CALL(76, mailbox_flags, ROLE_BIT(ROLE_IMAPD), ROLE_STORED)                                                   \
    /* audit */                                                                                                  \
    NOTE(80, event_note, IPC_EVENT_SENDERS, ROLE_AUDITD)                                                         \
    CALL(81, event, IPC_EVENT_SENDERS, ROLE_AUDITD)                                                              \
    CALL(82, outbox_fetch, ROLE_BIT(ROLE_AUDITD), ROLE_COUNT)                                                    \
    /* command line */                                                                                           \
    CALL(100, ctl_account_add, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                   \
    CALL(101, ctl_account_list, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                  \
    CALL(102, ctl_account_set, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                   \
    CALL(103, ctl_account_delete, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                \
    CALL(104, ctl_alias_add, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                     \
    CALL(105, ctl_alias_list, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                    \
    CALL(106, ctl_alias_delete, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                  \
    CALL(107, ctl_domain_add, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                    \
    CALL(108, ctl_domain_list, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                   \
    CALL(109, ctl_domain_delete, ROLE_BIT(ROLE_CTL), ROLE_AUTHD)                                                 \
    CALL(120, ctl_trail_read, ROLE_BIT(ROLE_CTL), ROLE_AUDITD)                                                   \
    CALL(130, ctl_store_verify, ROLE_BIT(ROLE_CTL), ROLE_STORED)                                                 \
    CALL(131, ctl_store_export, ROLE_BIT(ROLE_CTL), ROLE_STORED)                                                 \
    CALL(132, ctl_store_import, ROLE_BIT(ROLE_CTL), ROLE_STORED)                                                 \
    CALL(133, ctl_store_status, ROLE_BIT(ROLE_CTL), ROLE_STORED)                                                 \
    CALL(134, ctl_store_reclaim, ROLE_BIT(ROLE_CTL), ROLE_STORED)                                                \
    CALL(140, ctl_status, ROLE_BIT(ROLE_CTL), ROLE_SUPERVISOR)                                                   \
    CALL(141, ctl_reload, ROLE_BIT(ROLE_CTL), ROLE_SUPERVISOR)                                                   \
    CALL(142, ctl_connect, ROLE_BIT(ROLE_CTL), ROLE_SUPERVISOR)                                                  \
    CALL(143, ctl_stop, ROLE_BIT(ROLE_CTL), ROLE_SUPERVISOR)

#define ROLE_ANY ((1u << ROLE_COUNT) - 1)
/* Every role that has a socket to auditd (role.c), and the supervisor. */
#define IPC_EVENT_SENDERS                                                                                        \
    (ROLE_BIT(ROLE_SMTPD) | ROLE_BIT(ROLE_LOGIN) | ROLE_BIT(ROLE_IMAPD) | ROLE_BIT(ROLE_AUTHD) | ROLE_BIT(ROLE_STORED) | \
     ROLE_BIT(ROLE_SUPERVISOR))

/* ---- control channel ---- */
/* Who you are. The configuration is a sealed memfd with the checked file's text; state: the directory to work in, or -1; imapds: how many
 * there are, also for those who do not talk to them (authd chooses one for each account). */
#define RECORD_m_hello(F, S)                                                                                     \
    F(S, U64, instance, ROLE_INSTANCES_MAX) F(S, FD, config, 0) F(S, FD, state, 0) F(S, U64, uid, 0)             \
    F(S, STR, run_dir, 4096) F(S, U64, as_root, 1) F(S, U64, imapds, ROLE_INSTANCES_MAX)
#define RECORD_m_hello_reply(F, S) F(S, STR, build, 64)
/* A new connection to another role; an older one of the same role and instance is dead. */
#define RECORD_m_peer(F, S)                                                                                      \
    F(S, U64, role, ROLE_COUNT - 1) F(S, U64, instance, ROLE_INSTANCES_MAX) F(S, U64, generation, 0)             \
    F(S, U64, instances, ROLE_INSTANCES_MAX) F(S, FD, socket, 0)
/* A listening socket. protocol: enum listener_protocol of conf/conf.h. */
#define RECORD_m_listener(F, S) F(S, U64, protocol, 0) F(S, U64, tls, 1) F(S, STR, name, 64) F(S, FD, socket, 0)
/* All peers and listeners have been sent: enter the sandbox and serve. The reply comes when the role serves. */
#define RECORD_m_start(F, S) F(S, U64, unused, 0)
#define RECORD_m_start_reply(F, S) F(S, U64, landlock_abi, 0)
#define RECORD_m_reload(F, S) F(S, FD, config, 0)
#define RECORD_m_reload_reply(F, S) F(S, U64, unused, 0)
/* Finish what is under way until the deadline, take nothing new, then exit 0. The reply comes when idle. */
#define RECORD_m_stop(F, S) F(S, U64, grace_ms, 0)
#define RECORD_m_stop_reply(F, S) F(S, U64, unused, 0)
/* A command-line client whose socket the supervisor has accepted; who it is, from SO_PEERCRED. */
#define RECORD_m_client(F, S) F(S, FD, socket, 0) F(S, U64, uid, 0) F(S, U64, pid, 0) F(S, STR, user, IPC_NAME_MAX)
/* Something that the administrator must see now. */
#define RECORD_m_alert(F, S) F(S, STR, name, 64) F(S, STR, text, IPC_TEXT_MAX)
/* Tries something forbidden from inside the role, or reports a number; answered only by roles started for tests. */
#define RECORD_m_probe(F, S) F(S, STR, what, 64) F(S, STR, argument, 4096)
#define RECORD_m_probe_reply(F, S) F(S, U64, value, 0) F(S, STR, text, IPC_TEXT_MAX)

/* ---- TLS ---- */
/* Makes the handshake on the raw connection; the reply has the plain end. proto: "smtp", "imap", "pop3" (ALPN). */
#define RECORD_m_tls_accept(F, S)                                                                                \
    F(S, ID, conn, 0) F(S, FD, raw, 0) F(S, STR, proto, 16) F(S, STR, peer_ip, IPC_IP_MAX)
#define RECORD_m_tls_accept_reply(F, S)                                                                          \
    F(S, FD, plain, 0) F(S, STR, version, 16) F(S, STR, cipher, 64) F(S, STR, group, 32) F(S, STR, sni, IPC_NAME_MAX) \
    F(S, STR, alpn, 16) F(S, U64, bits, 0) F(S, U64, resumed, 1)
/* The plain end has moved on to this imapd instance: tls_ended goes there. */
#define RECORD_m_tls_owner(F, S) F(S, ID, conn, 0) F(S, U64, instance, ROLE_INSTANCES_MAX)
/* How a stream ended. reason: enum tls_end. */
enum tls_end { TLS_END_CLOSE_NOTIFY = 1, TLS_END_TRUNCATED, TLS_END_ALERT, TLS_END_LOCAL, TLS_END_TIMEOUT };
#define RECORD_m_tls_ended(F, S)                                                                                 \
    F(S, ID, conn, 0) F(S, U64, reason, 8) F(S, U64, alert, 255) F(S, U64, bytes_in, 0) F(S, U64, bytes_out, 0)
#define RECORD_m_tls_facts(F, S)                                                                                 \
    F(S, ID, conn, 0) F(S, STR, version, 16) F(S, BYTES, exporter, 64) F(S, BYTES, client_cert_sha256, 32)       \
    F(S, STR, client_cert_subject, 1024)
/* The certificates from the first-th on, as many as one frame takes, of total. */
#define RECORD_m_key_list(F, S) F(S, U64, first, 64)
#define RECORD_m_key_item(F, S) F(S, BYTES, key_id, 32) F(S, U64, is_default, 1) F(S, STR, names, 4096) F(S, BYTES, chain_pem, 24576)
#define RECORD_m_key_list_reply(F, S) F(S, LIST, keys, 64, m_key_item) F(S, U64, total, 64)
/* tbs is the whole TLS signature input (RFC 8446 4.4.3, or RFC 5246 7.4.3); keyd checks its shape before it signs.
 * scheme: TLS SignatureScheme number. */
#define RECORD_m_key_sign(F, S) F(S, BYTES, key_id, 32) F(S, U64, scheme, 65535) F(S, BYTES, tbs, 4096)
#define RECORD_m_key_sign_reply(F, S) F(S, BYTES, signature, 1024)
#define RECORD_m_ticket_keys(F, S) F(S, U64, unused, 0)
#define RECORD_m_ticket_key(F, S) F(S, BYTES, name, 16) F(S, SECRET, aes, 32) F(S, SECRET, hmac, 32) F(S, U64, expires_ms, 0)
#define RECORD_m_ticket_keys_reply(F, S) F(S, LIST, keys, 8, m_ticket_key) F(S, U64, rotates_ms, 0)
#define RECORD_m_keys_changed(F, S) F(S, U64, unused, 0)
/* Keys at rest under the master key that only keyd holds. `context` is authenticated with it ("account:42"). */
#define RECORD_m_rest_wrap(F, S) F(S, STR, context, 128) F(S, SECRET, key, 64)
#define RECORD_m_rest_wrap_reply(F, S) F(S, BYTES, wrapped, 256)
#define RECORD_m_rest_unwrap(F, S) F(S, STR, context, 128) F(S, BYTES, wrapped, 256)
#define RECORD_m_rest_unwrap_reply(F, S) F(S, SECRET, key, 64)

/* ---- incoming mail ---- */
enum rcpt_verdict {
    RCPT_OK,
    RCPT_NOT_OURS,     /* 550 5.7.1: relaying denied */
    RCPT_UNKNOWN,      /* 550 5.1.1 */
    RCPT_BAD_ADDRESS,  /* 553 5.1.3 */
    RCPT_DISABLED,     /* 550 5.2.1: the account takes no mail now */
    RCPT_FULL,         /* 452 4.2.2 */
    RCPT_TOO_BIG,      /* 552 5.2.3: larger than the account's quota can ever take */
    RCPT_TEMPORARY,    /* 451 4.3.0 */
};
/* address: as given in RCPT TO, unquoted, domain as given. size: SIZE= or 0. One deliver grant a target account; where the verdict is not
 * RCPT_OK, targets are those whose grants were given before one was refused, for the asker to drop. */
#define RECORD_m_rcpt_check(F, S)                                                                                \
    F(S, ID, conn, 0) F(S, ID, message, 0) F(S, STR, address, IPC_ADDRESS_MAX) F(S, U64, size, 0)
#define RECORD_m_rcpt_target(F, S)                                                                               \
    F(S, U64, account, 0) F(S, U64, grant, 0) F(S, STR, address, IPC_ADDRESS_MAX) F(S, STR, detail, IPC_NAME_MAX)
#define RECORD_m_rcpt_check_reply(F, S)                                                                          \
    F(S, U64, verdict, 16) F(S, STR, canonical, IPC_ADDRESS_MAX) F(S, LIST, targets, IPC_RCPT_MAX, m_rcpt_target)
/* The message: inline body, or a sealed memfd. */
enum inspect_verdict { INSPECT_ACCEPT, INSPECT_REJECT, INSPECT_DEFER };
#define RECORD_m_inspect(F, S)                                                                                   \
    F(S, ID, message, 0) F(S, STR, peer_ip, IPC_IP_MAX) F(S, STR, helo, 1024) F(S, STR, sender, IPC_ADDRESS_MAX)  \
    F(S, U64, size, 0) F(S, BYTES, body, IPC_INLINE_MAX) F(S, FD, body_fd, 0)
/* meta: what the store keeps beside the message (mail/meta.h): envelope, structure, preview. headers: lines to put in front.
 * code, enhanced and text: the SMTP answer of a rejection. received_count: Received fields seen (loop detection).
 * message_id, from: for the trail, cut. */
#define RECORD_m_inspect_reply(F, S)                                                                             \
    F(S, U64, verdict, 4) F(S, U64, code, 599) F(S, STR, enhanced, 16) F(S, STR, text, IPC_TEXT_MAX)              \
    F(S, BYTES, headers, IPC_HEADERS_MAX) F(S, BYTES, meta, IPC_META_MAX) F(S, U64, received_count, 0)           \
    F(S, STR, message_id, 998) F(S, STR, from, IPC_ADDRESS_MAX)
/* One durable commit for all recipients. `prefix` are header lines for all; a recipient's own lines come first.
 * Idempotent under `message`: the same request again gives the same results, also when its grants are used up or stored was
 * restarted in between: after an unknown end ask again before telling the sender anything. event: an encoded smtp.received that
 * becomes durable in the same commit. flags etc. are none: new mail is \Recent only. all = 1 (SMTP, which has one answer for all):
 * unless every recipient can take it nobody gets it, and the statuses of those who could are ACCEPT_TEMPORARY. */
#define RECORD_m_accept_rcpt(F, S)                                                                               \
    F(S, U64, account, 0) F(S, U64, grant, 0) F(S, STR, mailbox, IPC_NAME_MAX) F(S, BYTES, prefix, 2048)
#define RECORD_m_accept(F, S)                                                                                    \
    F(S, ID, message, 0) F(S, U64, received_ms, 0) F(S, STR, sender, IPC_ADDRESS_MAX) F(S, BYTES, prefix, IPC_HEADERS_MAX) \
    F(S, LIST, rcpts, IPC_RCPT_MAX, m_accept_rcpt) F(S, BYTES, meta, IPC_META_MAX) F(S, BYTES, event, IPC_EVENT_MAX) \
    F(S, U64, size, 0) F(S, BYTES, body, IPC_INLINE_MAX) F(S, FD, body_fd, 0) F(S, U64, all, 1)
enum accept_status { ACCEPT_OK, ACCEPT_FULL, ACCEPT_NO_GRANT, ACCEPT_TEMPORARY };
#define RECORD_m_accept_result(F, S) F(S, U64, status, 8) F(S, U64, uid, 0)
#define RECORD_m_accept_reply(F, S) F(S, LIST, results, IPC_RCPT_MAX, m_accept_result)
#define RECORD_m_grant_drop(F, S) F(S, U64, grant, 0)

/* ---- grants ---- */
enum grant_right { GRANT_READ = 1, GRANT_CHANGE = 2, GRANT_EXPUNGE = 4, GRANT_ALL = 7 };
/* verdict: enum rcpt_verdict (OK, FULL, TOO_BIG, TEMPORARY). expected size is reserved until the grant ends. */
#define RECORD_m_grant_deliver(F, S)                                                                             \
    F(S, U64, account, 0) F(S, U64, holder_role, ROLE_COUNT) F(S, U64, holder_instance, ROLE_INSTANCES_MAX)      \
    F(S, ID, conn, 0) F(S, U64, size, 0) F(S, U64, lifetime_ms, 0)
#define RECORD_m_grant_deliver_reply(F, S) F(S, U64, verdict, 16) F(S, U64, grant, 0)
#define RECORD_m_grant_mailbox(F, S)                                                                             \
    F(S, U64, account, 0) F(S, U64, rights, GRANT_ALL) F(S, U64, holder_role, ROLE_COUNT)                        \
    F(S, U64, holder_instance, ROLE_INSTANCES_MAX) F(S, ID, conn, 0) F(S, U64, lifetime_ms, 0)
#define RECORD_m_grant_mailbox_reply(F, S) F(S, U64, grant, 0)
/* All grants of the account, deliver grants too when deliver = 1. Effective at once. */
#define RECORD_m_grant_revoke(F, S) F(S, U64, account, 0) F(S, U64, deliver, 1)
#define RECORD_m_grant_revoke_reply(F, S) F(S, U64, revoked, 0)
#define RECORD_m_grant_revoked(F, S) F(S, U64, grant, 0) F(S, ID, conn, 0)
/* Idempotent. tenant: 0 now. quota 0: none. */
#define RECORD_m_account_create(F, S) F(S, U64, account, 0) F(S, U64, tenant, 0) F(S, U64, quota, 0) F(S, BYTES, event, IPC_EVENT_MAX)
#define RECORD_m_account_create_reply(F, S) F(S, U64, unused, 0)
#define RECORD_m_account_delete(F, S) F(S, U64, account, 0) F(S, BYTES, event, IPC_EVENT_MAX)
#define RECORD_m_account_delete_reply(F, S) F(S, U64, unused, 0)
#define RECORD_m_account_quota(F, S) F(S, U64, account, 0) F(S, U64, set, 1) F(S, U64, quota, 0)
#define RECORD_m_account_quota_reply(F, S) F(S, U64, quota, 0) F(S, U64, used, 0) F(S, U64, messages, 0)

/* ---- login ---- */
enum auth_verdict { AUTH_OK, AUTH_BAD, AUTH_SLOW, AUTH_DISABLED, AUTH_TEMPORARY, AUTH_IN_USE };
/* The same answer in the same time for unknown users. A good answer carries the imapd instance that serves the
 * account and the mailbox grant that it holds. delay_ms: wait so long before answering the client. */
#define RECORD_m_auth_password(F, S)                                                                             \
    F(S, ID, conn, 0) F(S, STR, service, 16) F(S, STR, peer_ip, IPC_IP_MAX) F(S, U64, tls, 1)                    \
    F(S, STR, user, IPC_ADDRESS_MAX) F(S, SECRET, password, 1024)
#define RECORD_m_auth_password_reply(F, S)                                                                       \
    F(S, U64, verdict, 8) F(S, U64, delay_ms, 60000) F(S, U64, account, 0) F(S, STR, address, IPC_ADDRESS_MAX)    \
    F(S, U64, instance, ROLE_INSTANCES_MAX) F(S, U64, grant, 0)
/* The stream moves on. unread: bytes that came behind the last command. utf8, lang: what was enabled before. When the verdict is
 * SESSION_TAKEN the session answers the client from now on; else the asker still has the stream. A call that ends unknown
 * means that nobody may write any more. */
enum session_verdict { SESSION_TAKEN, SESSION_IN_USE, SESSION_TEMPORARY };
#define RECORD_m_session_start(F, S)                                                                             \
    F(S, ID, conn, 0) F(S, STR, service, 16) F(S, FD, stream, 0) F(S, U64, account, 0) F(S, U64, grant, 0)       \
    F(S, STR, address, IPC_ADDRESS_MAX) F(S, STR, peer_ip, IPC_IP_MAX) F(S, U64, tls, 1) F(S, STR, tls_text, 128) \
    F(S, BYTES, unread, IPC_INLINE_MAX) F(S, U64, utf8, 1) F(S, STR, lang, 16) F(S, U64, login_ms, 0)
#define RECORD_m_session_start_reply(F, S) F(S, U64, verdict, 8)

/* ---- reading ---- */
#define RECORD_m_mailbox_open(F, S) F(S, U64, grant, 0) F(S, STR, name, IPC_NAME_MAX)
#define RECORD_m_mailbox_open_reply(F, S)                                                                        \
    F(S, U64, mailbox, 0) F(S, U64, uidvalidity, 0) F(S, U64, uidnext, 0) F(S, U64, messages, 0)                 \
    F(S, U64, modseq, 0) F(S, U64, bytes, 0)
/* The exclusive maildrop lock of RFC 1939 section 3; gone with the grant. -EBUSY when another session holds it. */
#define RECORD_m_mailbox_lock(F, S) F(S, U64, grant, 0) F(S, U64, mailbox, 0)
#define RECORD_m_mailbox_lock_reply(F, S) F(S, U64, unused, 0)
/* Entries with uid > after, in order, as a packed array of struct store_entry (store/store.h) in a sealed memfd: a mailbox of
 * a million messages is one call. */
#define RECORD_m_mailbox_list(F, S) F(S, U64, grant, 0) F(S, U64, mailbox, 0) F(S, U64, after, 0) F(S, U64, max, 0)
#define RECORD_m_mailbox_list_reply(F, S) F(S, U64, count, 0) F(S, FD, entries, 0)
/* Where the stored bytes of messages are and how to read them (store/body.h), in the order asked; segment 0: gone or unreadable. At
 * least one, and as many as an answer holds: ask again for the rest. segment_open's ERR_GONE: locate again. */
#define RECORD_m_message_uid(F, S) F(S, U64, uid, 0)
#define RECORD_m_message_locate(F, S)                                                                            \
    F(S, U64, grant, 0) F(S, U64, mailbox, 0) F(S, LIST, uids, 64, m_message_uid) F(S, U64, want_meta, 1)
#define RECORD_m_message_place(F, S)                                                                             \
    F(S, U64, uid, 0) F(S, U64, segment, 0) F(S, U64, offset, 0) F(S, U64, stored_size, 0) F(S, U64, body_size, 0) \
    F(S, ID, message, 0) F(S, U64, codec, 255) F(S, SECRET, key, 64) F(S, BYTES, prefix, IPC_HEADERS_MAX + 2048) F(S, BYTES, meta, IPC_META_MAX)
#define RECORD_m_message_locate_reply(F, S) F(S, LIST, places, 64, m_message_place)
#define RECORD_m_segment_open(F, S) F(S, U64, grant, 0) F(S, U64, segment, 0)
#define RECORD_m_segment_open_reply(F, S) F(S, FD, file, 0)
/* Idempotent: uids that are gone already are not errors. event as in accept (e.g. pop3.session with what was taken). */
#define RECORD_m_mailbox_expunge(F, S)                                                                           \
    F(S, U64, grant, 0) F(S, U64, mailbox, 0) F(S, LIST, uids, 4096, m_message_uid) F(S, BYTES, event, IPC_EVENT_MAX)
#define RECORD_m_mailbox_expunge_reply(F, S) F(S, U64, expunged, 0) F(S, U64, modseq, 0)
#define RECORD_m_mailbox_flags(F, S)                                                                             \
    F(S, U64, grant, 0) F(S, U64, mailbox, 0) F(S, LIST, uids, 4096, m_message_uid) F(S, U64, add, 0) F(S, U64, remove, 0)
#define RECORD_m_mailbox_flags_reply(F, S) F(S, U64, modseq, 0)

/* ---- audit: event is an encoded trail event (trail/event.h) ---- */
#define RECORD_m_event_note(F, S) F(S, BYTES, event, IPC_EVENT_MAX)
#define RECORD_m_event(F, S) F(S, BYTES, event, IPC_EVENT_MAX)
#define RECORD_m_event_reply(F, S) F(S, U64, unused, 0)
/* Everything up to `done` is durable in the trail; give what follows, waiting up to wait_ms for the first. */
#define RECORD_m_outbox_fetch(F, S) F(S, U64, done, 0) F(S, U64, max, 1000) F(S, U64, wait_ms, 60000)
#define RECORD_m_outbox_item(F, S) F(S, U64, sequence, 0) F(S, BYTES, event, IPC_EVENT_MAX)
#define RECORD_m_outbox_fetch_reply(F, S) F(S, U64, epoch, 0) F(S, LIST, items, 1000, m_outbox_item)

/* ---- command line ---- */
#define RECORD_m_ctl_account_add(F, S) F(S, STR, address, IPC_ADDRESS_MAX) F(S, SECRET, password, 1024) F(S, U64, quota, 0)
#define RECORD_m_ctl_account_add_reply(F, S) F(S, U64, account, 0)
#define RECORD_m_ctl_page(F, S) F(S, STR, after, IPC_ADDRESS_MAX) F(S, U64, max, 500)
#define RECORD_m_ctl_account(F, S)                                                                               \
    F(S, U64, account, 0) F(S, STR, address, IPC_ADDRESS_MAX) F(S, STR, state, 32) F(S, U64, quota, 0)           \
    F(S, U64, used, 0) F(S, U64, messages, 0) F(S, U64, created_ms, 0) F(S, U64, last_login_ms, 0)
#define RECORD_m_ctl_account_list(F, S) F(S, STR, after, IPC_ADDRESS_MAX) F(S, U64, max, 100)
#define RECORD_m_ctl_account_list_reply(F, S) F(S, LIST, accounts, 100, m_ctl_account)
/* what: "password", "quota", "suspend", "resume". */
#define RECORD_m_ctl_account_set(F, S)                                                                           \
    F(S, STR, address, IPC_ADDRESS_MAX) F(S, STR, what, 16) F(S, SECRET, password, 1024) F(S, U64, quota, 0)
#define RECORD_m_ctl_account_set_reply(F, S) F(S, U64, unused, 0)
#define RECORD_m_ctl_account_delete(F, S) F(S, STR, address, IPC_ADDRESS_MAX)
#define RECORD_m_ctl_account_delete_reply(F, S) F(S, U64, account, 0)
#define RECORD_m_ctl_alias_add(F, S) F(S, STR, alias, IPC_ADDRESS_MAX) F(S, STR, target, IPC_ADDRESS_MAX)
#define RECORD_m_ctl_alias_add_reply(F, S) F(S, U64, unused, 0)
#define RECORD_m_ctl_alias(F, S) F(S, STR, alias, IPC_ADDRESS_MAX) F(S, STR, target, IPC_ADDRESS_MAX)
#define RECORD_m_ctl_alias_list(F, S) F(S, STR, after, IPC_ADDRESS_MAX) F(S, STR, after_target, IPC_ADDRESS_MAX) F(S, U64, max, 100)
#define RECORD_m_ctl_alias_list_reply(F, S) F(S, LIST, aliases, 100, m_ctl_alias)
#define RECORD_m_ctl_alias_delete(F, S) F(S, STR, alias, IPC_ADDRESS_MAX) F(S, STR, target, IPC_ADDRESS_MAX)
#define RECORD_m_ctl_alias_delete_reply(F, S) F(S, U64, unused, 0)
#define RECORD_m_ctl_domain_add(F, S) F(S, STR, domain, IPC_NAME_MAX) F(S, STR, catch_all, IPC_ADDRESS_MAX)
#define RECORD_m_ctl_domain_add_reply(F, S) F(S, U64, unused, 0)
#define RECORD_m_ctl_domain(F, S) F(S, STR, domain, IPC_NAME_MAX) F(S, STR, catch_all, IPC_ADDRESS_MAX) F(S, U64, accounts, 0)
#define RECORD_m_ctl_domain_list(F, S) F(S, STR, after, IPC_NAME_MAX) F(S, U64, max, 100)
#define RECORD_m_ctl_domain_list_reply(F, S) F(S, LIST, domains, 100, m_ctl_domain)
#define RECORD_m_ctl_domain_delete(F, S) F(S, STR, domain, IPC_NAME_MAX)
#define RECORD_m_ctl_domain_delete_reply(F, S) F(S, U64, unused, 0)
/* JSON lines from byte position `cursor` of the trail; filter: conditions of trail/query.h. wait_ms: follow. */
#define RECORD_m_ctl_trail_read(F, S) F(S, U64, cursor, 0) F(S, STR, filter, 2048) F(S, U64, max_bytes, 49152) F(S, U64, wait_ms, 60000)
#define RECORD_m_ctl_trail_read_reply(F, S) F(S, U64, cursor, 0) F(S, U64, at_end, 1) F(S, BYTES, lines, 184320)
/* out: a regular file or memfd that the report's lines are written to. */
#define RECORD_m_ctl_store_verify(F, S) F(S, U64, bodies, 1) F(S, FD, out, 0)
#define RECORD_m_ctl_store_verify_reply(F, S) F(S, U64, problems, 0) F(S, U64, accounts, 0) F(S, U64, messages, 0) F(S, U64, bytes, 0)
#define RECORD_m_ctl_store_export(F, S) F(S, U64, account, 0) F(S, FD, out, 0)
#define RECORD_m_ctl_store_export_reply(F, S) F(S, U64, messages, 0)
#define RECORD_m_ctl_store_import(F, S) F(S, U64, account, 0) F(S, FD, in, 0)
#define RECORD_m_ctl_store_import_reply(F, S) F(S, U64, messages, 0)
#define RECORD_m_ctl_store_status(F, S) F(S, U64, unused, 0)
#define RECORD_m_ctl_store_status_reply(F, S)                                                                    \
    F(S, U64, accounts, 0) F(S, U64, messages, 0) F(S, U64, segments, 0) F(S, U64, segment_bytes, 0)             \
    F(S, U64, live_bytes, 0) F(S, U64, index_bytes, 0) F(S, U64, commits, 0) F(S, U64, syncs, 0) F(S, U64, readonly, 1)
#define RECORD_m_ctl_store_reclaim(F, S) F(S, U64, unused, 0)
#define RECORD_m_ctl_store_reclaim_reply(F, S) F(S, U64, freed, 0) F(S, U64, moved, 0)
#define RECORD_m_ctl_status(F, S) F(S, U64, unused, 0)
#define RECORD_m_ctl_process(F, S)                                                                               \
    F(S, STR, role, 32) F(S, U64, instance, 0) F(S, U64, pid, 0) F(S, U64, generation, 0) F(S, U64, since_ms, 0) \
    F(S, STR, state, 32) F(S, U64, uid, 0)
#define RECORD_m_ctl_status_reply(F, S) F(S, STR, version, 64) F(S, U64, started_ms, 0) F(S, U64, landlock_abi, 0) F(S, LIST, processes, 256, m_ctl_process)
#define RECORD_m_ctl_reload(F, S) F(S, STR, reason, IPC_TEXT_MAX)
#define RECORD_m_ctl_reload_reply(F, S) F(S, U64, version, 0)
#define RECORD_m_ctl_stop(F, S) F(S, U64, unused, 0)
#define RECORD_m_ctl_stop_reply(F, S) F(S, U64, unused, 0)
/* Asks the supervisor to pass this connection on to a role. */
#define RECORD_m_ctl_connect(F, S) F(S, STR, role, 32)
#define RECORD_m_ctl_connect_reply(F, S) F(S, U64, unused, 0)

/* Records that are items of lists, declared before what holds them. */
RECORD_DECLARE(m_key_item);
RECORD_DECLARE(m_ticket_key);
RECORD_DECLARE(m_rcpt_target);
RECORD_DECLARE(m_accept_rcpt);
RECORD_DECLARE(m_accept_result);
RECORD_DECLARE(m_message_uid);
RECORD_DECLARE(m_message_place);
RECORD_DECLARE(m_outbox_item);
RECORD_DECLARE(m_ctl_account);
RECORD_DECLARE(m_ctl_alias);
RECORD_DECLARE(m_ctl_domain);
RECORD_DECLARE(m_ctl_process);
#define IPC_DECLARE_CALL_(number, name, from, to) \
    RECORD_DECLARE(m_##name);                     \
    RECORD_DECLARE(m_##name##_reply);
#define IPC_DECLARE_NOTE_(number, name, from, to) RECORD_DECLARE(m_##name);
IPC_MESSAGES(IPC_DECLARE_CALL_, IPC_DECLARE_NOTE_)

/* IPC_hello etc.: the message's number. */
enum ipc_number {
#define IPC_ENUM_(number, name, from, to) IPC_##name = (number),
    IPC_MESSAGES(IPC_ENUM_, IPC_ENUM_)
};

struct ipc_message {
    enum ipc_number number;
    const char *name;
    unsigned from;                     /* mask of ROLE_BITs */
    enum role to;                      /* ROLE_COUNT: any */
    const struct record_desc *request;
    const struct record_desc *reply;   /* NULL: a note */
};
const struct ipc_message *ipc_message_find(unsigned number); /* NULL when there is none */
extern const struct ipc_message ipc_messages[];
extern const size_t ipc_messages_n;

#endif
