/* smtp_data.h: the content of a message as it comes over SMTP: DATA with its dots (RFC 5321 4.5.2) and BDAT chunks (RFC 3030).
 *
 * Only CR LF "." CR LF ends DATA. A bare CR, a bare LF or a NUL anywhere makes the content unacceptable: `flaws` says so, and
 * nothing that it says is content should be kept; decoding goes on to the real end, so that what follows is not taken for commands. A
 * line of a single dot whose ends are not both CR LF is what "SMTP smuggling" is made of: SMTP_DATA_SMUGGLE. After the first flaw no
 * more content is handed out.
 *
 * Clean content is looked at in blocks of 64 octets (SSE2 where there is it) and handed out in runs that point into the input. */
#ifndef KK_WIRE_SMTP_DATA_H
#define KK_WIRE_SMTP_DATA_H

#include "base/slice.h"

/* RFC 5321 4.5.3.1.6 has 1000 octets as what must be possible; senders of HTML in one line exceed it, and to break lines would break
 * signatures. So lines are kept as they are, up to this. */
#define SMTP_TEXT_LINE_MAX (1024 * 1024)

enum smtp_data_flaw {
    SMTP_DATA_BARE_CR = 1,
    SMTP_DATA_BARE_LF = 2,
    SMTP_DATA_NUL = 4,
    SMTP_DATA_LONG_LINE = 8,
    SMTP_DATA_SMUGGLE = 16,
};

struct smtp_data {
    enum smtp_data_state {
        SMTP_DATA_LINE_START, /* after CR LF, and at the beginning */
        SMTP_DATA_MID,
        SMTP_DATA_CR,     /* a CR that has been handed out; LF must follow */
        SMTP_DATA_DOT,    /* a dot at the start of a line, withheld */
        SMTP_DATA_DOT_CR, /* and a CR behind it, withheld */
        SMTP_DATA_END,
    } state;
    enum { SMTP_LOOSE_MID, SMTP_LOOSE_START, SMTP_LOOSE_DOT } loose; /* by any kind of line end; kept once there is a flaw */
    bool dots;        /* DATA, not BDAT */
    unsigned flaws;   /* of enum smtp_data_flaw */
    uint64_t line;    /* octets in the line so far */
    uint64_t taken;   /* octets of input so far */
};

void smtp_data_init(struct smtp_data *d, bool dots);
/* Takes octets off *in and gives a run of content. false when the input is used up or the end has come (state). */
bool smtp_data_next(struct smtp_data *d, struct slice *in, struct slice *ret_run);
/* BDAT: no more chunks. A CR that nothing follows is bare. */
void smtp_data_finish(struct smtp_data *d);
static inline bool smtp_data_ended(const struct smtp_data *d)
{
    return d->state == SMTP_DATA_END;
}

#endif
