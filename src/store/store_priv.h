/* store_priv.h: the inside of a store, shared by its files and its tests.
 *
 * A change is a job. It goes loop -> preparing threads (seal, compress) -> commit thread (write, sync: the commit point) -> applying
 * thread (index), and comes back to the loop after the commit and again after it was applied:
 *
 *     job_submit   prepare.c      commit.c          applier.c      job.c
 *     [prepare] -> [commit]   ->  [apply] --------> done_applied
 *                              \> done_committed
 *
 * Who may touch what: a job belongs to the thread that took it from a list; `store.lock` guards the lists and what is marked (L);
 * what is marked (loop), (commit), (apply) belongs to that thread; (A) is read by others with atomics. */
#ifndef KK_STORE_STORE_PRIV_H
#define KK_STORE_STORE_PRIV_H

#include <pthread.h>

#include "base/list.h"
#include "base/map.h"
#include "io/loop.h"
#include "io/worker.h"
#include "store/apply.h"
#include "store/disk.h"
#include "store/store.h"

#define STORE_FORMAT_VERSION 1
#define STORE_GROUP_RECORDS 1000      /* records of one group commit */
#define STORE_GROUP_BYTES (64u << 20)
#define STORE_APPLY_RECORDS 5000      /* records of one index transaction */
#define STORE_BALLAST (16u << 20)     /* preallocated, given up so that expunge works on a full disk */
#define STORE_PURGE_ROWS 2000         /* rows of a deleted account that one record removes */

/* What is under way for an account, seen from the loop. */
struct pending {
    struct ikey key;
    uint64_t bytes;    /* admitted, not yet applied: counts against the quota */
    uint64_t sequence; /* last committed */
    size_t refs;
};

struct job {
    struct list node;         /* in prepare, commit or apply */
    struct list committed_node, applied_node;
    struct store *s;
    struct journal_header h;
    struct id128 message;         /* of JOURNAL_ACCEPT; zero: none */
    /* Given by the loop. */
    union journal_effect effect;  /* points into the submitter's memory: until the commit */
    struct store_accept *accept;  /* of JOURNAL_ACCEPT: effect is made from it by prepare */
    struct prepare_rcpt *rcpts;   /* of JOURNAL_ACCEPT: those that take it */
    size_t n_rcpts;
    bool own_body_id;             /* there is a body of the message's id already, from a time that recent answers do not cover */
    struct iovec raw_body;        /* of JOURNAL_BODY_MOVE */
    struct slice event;
    bool may_fill;                /* small changes that must work on a full disk */
    /* Made by prepare. */
    bool utf8_header;             /* of the accepted message: STORE_UTF8_HEADER */
    struct buf effects;           /* encoded, in the clear: what the applying thread decodes */
    struct iovec *iov;            /* the record; buffers of its own */
    int n_iov;
    uint32_t crc;
    uint64_t size;
    uint64_t prepared;            /* counted in store.prepared_bytes */
    /* Where it was written. */
    uint64_t segment;
    struct journal_position at;
    struct apply_result result;
    /* (loop) */
    struct pending **touched;
    uint64_t *charged;
    size_t n_touched;
    struct fiber_queue wait;
    void (*after)(struct job *j); /* when it is finished; may be NULL */
    int rc;
    bool want_applied;
    bool posted, ready, finished; /* finished: no thread has it any more */
    bool abandoned;               /* the submitter does not look at it any more */
    bool failed;                  /* not committed, or not applied */
};

struct prepare_rcpt {
    struct store_rcpt *rcpt;
    uint32_t lane, mailbox;
    uint8_t key[KEYS_SIZE];
    int64_t save_ms;
};

/* One preparing thread's tools. */
struct preparer {
    struct seal *seal;
    struct body_writer *writer;
    char *chunk; /* BODY_FRAME_MAX: reading memfds */
};

struct segment_info {
    uint64_t id, size;
    uint64_t first_sequence, first_event;
};

struct store {
    struct store_options o;
    const struct store_disk *disk;
    int dir, seg_dir;
    struct id128 id;
    struct index *x;
    struct keys *keys;
    struct seal *seal;         /* (loop) */
    uint8_t journal_key[KEYS_SIZE]; /* constant after start */
    struct worker_pool *task, *aux; /* long tasks; short blocking work */

    /* (loop) */
    bool started, stopping;
    size_t jobs_n;
    struct fiber_queue idle, applied_queue;
    struct map pending;        /* account key -> struct pending */
    struct map in_flight;      /* message id -> struct job (accepts not yet applied) */
    struct deferred done_post;
    int64_t highest_ms;
    bool clock_behind;
    uint64_t event_last;       /* committed and told */
    bool readonly_told;
    bool reclaiming, purging;

    pthread_mutex_t lock;
    pthread_cond_t prepare_more, commit_more, apply_more, room;
    struct list prepare, commit, apply;             /* (L) */
    struct list done_committed, done_applied;       /* (L) */
    bool done_posted, quit, apply_kick;             /* (L) */
    size_t commit_n, apply_n;                       /* (L) */
    uint64_t prepared_bytes;                        /* (L) */
    struct segment_info *segments;                  /* (L) in order of id */
    size_t n_segments, cap_segments;
    char alert_name[32], alert_text[400];           /* (L) for the loop to tell */
    uint64_t outbox_ack, outbox_kept;               /* (L) acknowledged; what the index has of it */
    struct {
        uint64_t segment, offset, event;
    } outbox_hint;                                  /* (L) behind the last event that was read again */

    /* (A) */
    bool readonly, apply_stopped;
    uint64_t applied;          /* sequence */
    uint64_t commits, groups, syncs;
    bool low_space;

    /* (commit), and recovery before it */
    struct {
        int fd;                /* -1: the next record begins a segment */
        uint64_t id, offset, size;
    } seg;
    uint64_t sequence, durable, event;
    bool ballast;              /* (A) there is a ballast file */

    pthread_t threads[16 + 2];
    unsigned n_threads;
};

/* ---- job.c (loop) ---- */
int job_new(struct store *s, unsigned type, struct job **ret);
/* Adds an account that the job changes; charge: octets admitted. */
int job_touch(struct job *j, struct store_account a, uint64_t charge);
/* 0, or why no change is taken now. small: may use the last of the disk. */
int job_admit(struct store *s, bool small, struct err *err);
/* Hands the job on and waits for its commit (want_applied: until applied). The result's code; the job stays valid until job_done. */
int MAY_YIELD job_run(struct job *j, struct err *err);
/* Without waiting: the job frees itself. */
void job_post(struct job *j);
void job_done(struct job *j); /* the submitter has read the results; NULL allowed */
struct pending *pending_find(struct store *s, struct store_account a);
/* Waits until what was committed for the account can be read. ERR_READONLY when it never will. */
int MAY_YIELD store_visible(struct store *s, struct store_account a);
void store_kick(struct store *s); /* the applying thread shall not wait */
void store_done(struct deferred *d);
/* Frees jobs that are left when the threads have ended. */
void jobs_drop(struct store *s);

/* ---- any thread ---- */
/* No change is taken any more. */
void store_fail(struct store *s, const char *alert, const char *text, int rc);
void store_alert(struct store *s, const char *name, const char *text);
/* With s->lock held: asks the loop to look at the done lists. */
void store_post_done(struct store *s);

/* ---- threads ---- */
void *prepare_main(void *store);
void *commit_main(void *store);
void *apply_main(void *store);
int preparer_init(struct preparer *p, int zstd_level);
void preparer_done(struct preparer *p);
/* The job's record from its parts; what is not known before the commit (sequence etc.) is patched by record_finish. */
int record_prepare(struct job *j, struct preparer *p);
void record_finish(struct job *j);
void record_free(struct job *j);

/* ---- segment.c ---- */
#define SEGMENT_NAME_SIZE 24
void segment_name(uint64_t id, char out[SEGMENT_NAME_SIZE]); /* "0000000000000001.kks" */
bool segment_parse_name(const char *name, uint64_t *ret_id);
/* Makes, preallocates and syncs the file and the directory. need: bytes of records it must take at least. -ENOSPC: nothing is left. */
int segment_create(struct store *s, uint64_t id, uint64_t need, bool small, int *ret_fd, uint64_t *ret_size);
/* Opens for reading and checks the header. */
int segment_open(struct store *s, uint64_t id, int *ret_fd, struct journal_segment *ret);
int segment_write_end(struct store *s, int fd, uint64_t offset, uint64_t sequence);
/* All segments of the directory, sorted, into s->segments. An unfinished last one is removed (unless readonly). */
int segments_load(struct store *s, bool readonly, struct err *err);
int segments_add(struct store *s, const struct segment_info *g);
void segments_remove(struct store *s, uint64_t id);
bool segments_get(struct store *s, uint64_t id, struct segment_info *ret);
/* The first with id > after. */
bool segments_next(struct store *s, uint64_t after, struct segment_info *ret);
/* Makes or gives up the ballast. */
void ballast_make(struct store *s);
bool ballast_drop(struct store *s);

/* ---- recover.c ---- */
int recover(struct store *s, struct err *err);

/* ---- inside of several files ---- */
/* -ENOENT when there is none (err is then not filled). */
int store_read_format(int dir, struct id128 *ret, struct err *err);
int store_account_row(struct store *s, MDB_txn *t, struct store_account a, struct index_account *ret);
int store_mailbox_by_name(struct store *s, MDB_txn *t, struct store_account a, struct slice name, uint32_t *ret);
/* Unlinks swept segments whose events are acknowledged and whose going is durable in the index. Blocking. */
int store_unlink_swept(struct store *s, uint64_t *ret_freed);
/* Removes the rows of deleted accounts, some with each of a chain of jobs. */
void store_start_purge(struct store *s);

#endif
