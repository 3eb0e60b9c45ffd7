/* imapd.h: the role imapd: sessions behind authentication (POP3 now). Inner header of this directory.
 *
 * The process has no files and makes no sockets: connections come from login, mail comes from stored as descriptors and keys under the
 * grant of each session. A session is one fiber; what it is allowed ends with its grant. */
#ifndef KK_ROLE_IMAPD_IMAPD_H
#define KK_ROLE_IMAPD_IMAPD_H

#include "proto/pop3/session.h"
#include "role/imapd/maildrop.h"
#include "role/role_main.h"

struct imapd_session {
    struct list node;      /* of all sessions */
    struct fiber *fiber;   /* NULL once the protocol part is over */
    struct id128 conn;
    uint64_t account, grant;
    char *address, *peer;
    bool tls;
    uint64_t tls_end;      /* enum tls_end; 0: not told */
    int64_t started;       /* clock_mono_ms */
    enum pop3_text why;    /* what to tell the client when it is cancelled */
    bool store_gone;       /* the grant died with stored: nothing more to ask it */
    enum pop3_end end;
    struct buf taken;      /* ids of fetched messages that are in no event yet */
    struct maildrop *maildrop;
    struct pop3_session pop3;
};

/* The sessions of this process. */
void imapd_sessions_add(struct imapd_session *s);
void imapd_sessions_del(struct imapd_session *s);
struct imapd_session *imapd_sessions_find(struct id128 conn);
size_t imapd_sessions_count(void);
/* Ends a session, or all (only those that lose nothing by it), with a word to the client. */
void imapd_cancel(struct imapd_session *s, enum pop3_text why);
void imapd_cancel_all(enum pop3_text why, bool only_idle);

/* Makes a session of the request: opens and locks the maildrop, takes the stream, starts the fiber. Returns the verdict. */
enum session_verdict MAY_YIELD imapd_pop3_start(struct m_session_start *rq, int64_t deadline, struct err *err);

#endif
