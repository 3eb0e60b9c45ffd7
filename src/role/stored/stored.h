/* stored.h: what stored's handlers share. The process owns the store and obeys grants and nothing else: every handler looks its
 * grant up before it touches anything, and again after each wait.
 *
 * Private to this directory and its tests. */
#ifndef KK_ROLE_STORED_STORED_H
#define KK_ROLE_STORED_STORED_H

#include "io/loop.h"
#include "ipc/ipc.h"
#include "role/stored/grant.h"
#include "store/store.h"
#include "trail/event.h"

struct outbox;

#define STORED_WAITING_MAX 2000        /* requests that may wait for the store to open */
#define STORED_WAIT_MS 10000           /* and how long */
#define STORED_DENIED_PER_SECOND 100   /* grant.denied events; a broken peer must not fill the trail */
#define STORED_KEYD_MS 60000           /* how long a key operation waits for keyd, also while it is being restarted */
#define STORED_APPLY_DELAY_MS 100      /* index pages are written once for all mail of that time; who reads does not wait for it */
#define STORED_TRAIL_MS 10000          /* how long an act waits until it is in the trail */
#define STORED_OUTBOX_KEEP 8192        /* events kept in memory for auditd; older ones are read from the store again */
#define STORED_OUTBOX_BYTES (120 * 1024) /* of events in one answer: within IPC_FRAME_MAX */
#define STORED_LOCATE_BYTES (128 * 1024) /* of header lines and meta in one answer */
#define STORED_RECLAIM_PERCENT 50      /* a segment with so much garbage is emptied by itself */
#define STORED_RECLAIM_EVERY_MS (10 * 60 * 1000)
#define STORED_RECLAIM_ASKED_PERCENT 10 /* and when an administrator asks for it */

enum stored_phase { STORED_OPENING, STORED_SERVING, STORED_FAILED };

struct stored {
    bool made;
    enum stored_phase phase;
    struct store *store;
    struct grants grants;
    struct timer sweep;
    struct fiber_queue opening; /* woken when the phase changes */
    size_t n_opening;
    uint64_t accepts;           /* requests so far */
    struct outbox *outbox;
    uint64_t outbox_limit; /* events that may wait for the trail before mail is put off */
    int64_t denied_second;
    unsigned denied_n;
};

/* The process's state, made at the first use: peers come before prepare is called. stored_done frees all of it (tests; the process
 * simply ends). */
struct stored *stored(void);
void stored_done(void);
void stored_set_phase(enum stored_phase phase);
void stored_on_peer(enum role role, uint64_t instance, uint64_t serial, bool up);

/* Waits, within bounds, until the store serves. 0, -EAGAIN. First in every handler that needs the store. */
int MAY_YIELD stored_wait(const struct ipc_request *rq, struct err *err);
struct grant_holder stored_holder(const struct ipc_request *rq);
/* The mailbox grant of this request, or NULL with ERR_DENIED in err and the event sent. request: the message's name. */
struct grant *stored_mailbox_grant(const struct ipc_request *rq, uint64_t id, unsigned rights, const char *request, struct err *err);
/* Octets that another message may take of an account that keeps info.used of info.quota, beside what grants have reserved. A reservation
 * is a stranger's word: all of them together keep at most half of the free room from others. UINT64_MAX without a quota. */
uint64_t stored_room(uint64_t quota, uint64_t used, uint64_t reserved);
/* Records a refusal; returns ERR_DENIED. */
int stored_denied(const struct ipc_request *rq, uint64_t account, const char *request, enum grant_reason reason, struct err *err);
/* Sets the timer that ends expired grants; after each grant issued. */
void stored_sweep_later(void);
/* An event that comes with a change must be a whole event of that kind, of the sender's own role. 0, ERR_DENIED (recorded in the log),
 * -ENOMEM. Empty events pass: the caller decides whether there must be one. */
int stored_event_check(const struct ipc_request *rq, struct slice event, enum event_number number, struct err *err);

/* outbox.c: what waits for auditd. */
int outbox_new(struct outbox **ret);
void outbox_free(struct outbox *o);
void outbox_add(struct outbox *o, uint64_t sequence, struct slice event); /* struct store_options.on_event */
bool outbox_is_full(void);

/* keys.c: the top key is keyd's. */
struct store_key_ops stored_key_ops(void);

/* One handler for each message (ipc/messages.h); main.c has the table. */
ipc_handler_fn stored_accept, stored_grant_drop;
ipc_handler_fn stored_grant_deliver, stored_grant_mailbox, stored_grant_revoke;
ipc_handler_fn stored_account_create, stored_account_delete, stored_account_quota;
ipc_handler_fn stored_mailbox_open, stored_mailbox_lock, stored_mailbox_list, stored_message_locate, stored_segment_open;
ipc_handler_fn stored_mailbox_expunge, stored_mailbox_flags;
ipc_handler_fn stored_outbox_fetch;
ipc_handler_fn stored_ctl_verify, stored_ctl_export, stored_ctl_import, stored_ctl_status, stored_ctl_reclaim;
extern const struct ipc_handler stored_handlers[];

#endif
