/* pop3.h: the syntax of POP3 (RFC 1939, RFC 2449): command lines, message numbers, and the byte stuffing of multi-line
 * answers. Pure functions over bytes, but for the stuffer's few words of state. Command lines are a stranger's. */
#ifndef KK_WIRE_POP3_H
#define KK_WIRE_POP3_H

#include "base/slice.h"
#include "io/stream.h"

/* RFC 2449 section 4 asks for 255 octets; UTF-8 names and long pass phrases want more. */
#define POP3_LINE_MAX 2560

struct pop3_line {
    struct slice keyword; /* as typed; compare without case */
    struct slice rest;    /* behind the one space; "" when there is none */
    bool has_rest;        /* there was a space */
};
/* line: with its LF or CR LF, or without. ERR_SYNTAX: control characters, or not UTF-8. */
int pop3_parse_line(struct slice line, struct pop3_line *ret);
/* Cuts the next argument off *rest. Arguments are separated by single spaces (RFC 1939 section 3); trailing white space, which
 * some clients send, is no argument. False when there is none. */
bool pop3_next_arg(struct slice *rest, struct slice *ret_arg);
/* A message number: 1 to max. */
bool pop3_parse_number(struct slice arg, uint64_t max, uint64_t *ret);

/* Sends bytes as lines of a multi-line answer: a "." is put in front of lines that begin with one (RFC 1939 section 3).
 * Everything else passes as it is, in pieces of any size. */
struct pop3_stuffer {
    struct stream *out;
    char last[2]; /* the last two bytes written: does the text end with CR LF, are we at the start of a line */
};
void pop3_stuff_init(struct pop3_stuffer *st, struct stream *out);
int MAY_YIELD pop3_stuff_write(struct pop3_stuffer *st, struct slice text);
/* The end: CR LF if the text did not end with it, and ".". */
int MAY_YIELD pop3_stuff_end(struct pop3_stuffer *st);

/* The first part of a message: everything to the end of the header's blank line, and then `lines` lines (TOP, RFC 1939
 * section 7), over pieces of any size. */
struct pop3_top {
    uint64_t lines;
    bool in_body;
    unsigned at_line; /* bytes of the present line so far, as far as a blank line needs to know: 0, 1 (a CR), 2 */
};
void pop3_top_init(struct pop3_top *t, uint64_t lines);
/* How much of the piece still belongs to it; less than piece.n means that all is complete. */
size_t pop3_top_take(struct pop3_top *t, struct slice piece);
bool pop3_top_done(const struct pop3_top *t);

#endif
