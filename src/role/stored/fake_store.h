/* fake_store.h: for tests: a store in memory behind store.h, with knobs for what a real one does seldom. Only what stored's handlers
 * call. */
#ifndef KK_ROLE_STORED_FAKE_STORE_H
#define KK_ROLE_STORED_FAKE_STORE_H

#include "store/store.h"

#define FAKE_ACCOUNTS 8
#define FAKE_MESSAGES 64
#define FAKE_EVENTS 20000

struct fake_store {
    struct store_options options;
    struct store_account_info accounts[FAKE_ACCOUNTS]; /* by id; created_ms 0: none */
    struct {
        struct id128 message;
        size_t n;
        int statuses[8];
        uint64_t size;
    } messages[FAKE_MESSAGES];
    size_t n_messages;    /* commits, so that a second delivery shows */
    struct slice events[FAKE_EVENTS];
    uint64_t acked, last; /* event i has sequence i + 1 */
    size_t outbox_reads;
    /* knobs */
    bool readonly;
    int fail;             /* changing functions return this */
    bool hold;            /* functions that may wait do so until fake_release */
    size_t held;
    struct fiber_queue released;
    /* what was asked last */
    unsigned reclaim_percent;
    size_t n_uids;
    uint32_t uids[8], flags_add;
    bool stopped;
};

extern struct fake_store fake_store;
void fake_store_reset(void);
void fake_release(void);
void fake_event(struct slice event);

#endif
