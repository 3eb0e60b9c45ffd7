/* Content of a message over SMTP: see smtp_data.h. */
#include "wire/smtp_data.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK 64

/* Bit i says whether octet i of a block is c. */
#ifdef __SSE2__
struct block {
    __m128i v[4];
};

static inline void block_load(struct block *b, const char *p)
{
    for (int i = 0; i < 4; i++)
        b->v[i] = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
}

static inline uint64_t block_mask(const struct block *b, char c)
{
    __m128i want = _mm_set1_epi8(c);
    uint64_t m0 = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(b->v[0], want)), m1 = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(b->v[1], want));
    uint64_t m2 = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(b->v[2], want)), m3 = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(b->v[3], want));
    return m0 | m1 << 16 | m2 << 32 | m3 << 48;
}
#else
struct block {
    const char *p;
};

static inline void block_load(struct block *b, const char *p)
{
    b->p = p;
}

static inline uint64_t block_mask(const struct block *b, char c)
{
    uint64_t m = 0;
    for (int i = 0; i < BLOCK; i++)
        m |= (uint64_t)(b->p[i] == c) << i;
    return m;
}
#endif

void smtp_data_init(struct smtp_data *d, bool dots)
{
    *d = (struct smtp_data){.state = SMTP_DATA_LINE_START, .dots = dots};
}

/* --- after a flaw: octet by octet, only to find the end and to see smuggling --- */

static void loose_octet(struct smtp_data *d, char c)
{
    if (c == '\r' || c == '\n') {
        if (d->loose == SMTP_LOOSE_DOT)
            d->flaws |= SMTP_DATA_SMUGGLE;
        d->loose = SMTP_LOOSE_START;
    } else {
        d->loose = d->loose == SMTP_LOOSE_START && c == '.' ? SMTP_LOOSE_DOT : SMTP_LOOSE_MID;
    }
}

/* What the octet does to the strict state, and which flaw it is. */
static void strict_octet(struct smtp_data *d, char c)
{
    enum smtp_data_state was = d->state;
    if (c == '\0')
        d->flaws |= SMTP_DATA_NUL;
    if ((was == SMTP_DATA_CR || was == SMTP_DATA_DOT_CR) && c != '\n')
        d->flaws |= SMTP_DATA_BARE_CR;
    if (c == '\n' && was != SMTP_DATA_CR && was != SMTP_DATA_DOT_CR)
        d->flaws |= SMTP_DATA_BARE_LF;
    if (c == '\n')
        d->state = was == SMTP_DATA_CR ? SMTP_DATA_LINE_START : was == SMTP_DATA_DOT_CR ? SMTP_DATA_END : SMTP_DATA_MID;
    else if (c == '\r')
        d->state = was == SMTP_DATA_DOT ? SMTP_DATA_DOT_CR : SMTP_DATA_CR;
    else
        d->state = was == SMTP_DATA_LINE_START && c == '.' && d->dots ? SMTP_DATA_DOT : SMTP_DATA_MID;
}

static void flawed_rest(struct smtp_data *d, struct slice *in)
{
    size_t i = 0;
    while (i < in->n && d->state != SMTP_DATA_END) {
        char c = in->p[i++];
        /* The true end is CR LF "." CR LF: its dot stands alone as it should. A CR that may begin it is judged with its successor. */
        bool end_begins = d->state == SMTP_DATA_DOT && c == '\r';
        bool end_fails = d->state == SMTP_DATA_DOT_CR && c != '\n';
        if (end_fails)
            d->flaws |= SMTP_DATA_SMUGGLE;
        if (end_begins)
            d->loose = SMTP_LOOSE_START;
        else
            loose_octet(d, c);
        strict_octet(d, c);
    }
    d->taken += i;
    *in = slice_from(*in, i);
}

/* --- clean content --- */

/* Follows the length of lines through a block; `lf` are the ends of lines in it. */
static inline void line_follow(struct smtp_data *d, uint64_t lf, size_t n)
{
    if (lf == 0) {
        d->line += n;
    } else {
        uint64_t first = d->line + (unsigned)__builtin_ctzll(lf) + 1;
        if (first > SMTP_TEXT_LINE_MAX)
            d->flaws |= SMTP_DATA_LONG_LINE;
        d->line = n - 1 - (63 - (unsigned)__builtin_clzll(lf));
    }
    if (d->line > SMTP_TEXT_LINE_MAX)
        d->flaws |= SMTP_DATA_LONG_LINE;
}

static inline uint64_t low_bits(size_t n)
{
    return n >= 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1;
}

/* How many of the n octets at p (at most BLOCK) are clean content and hold no dot at the start of a line. States MID and CR, or
 * LINE_START when p[0] is no such dot; the new state is set. */
static inline size_t block_clean(struct smtp_data *d, const char *p, size_t n)
{
    char padded[BLOCK];
    struct block b;
    if (n < BLOCK) {
        memset(padded, 'x', sizeof(padded));
        memcpy(padded, p, n);
        p = padded;
    }
    block_load(&b, p);
    uint64_t cr = block_mask(&b, '\r'), lf = block_mask(&b, '\n');
    uint64_t after_cr = cr << 1 | (d->state == SMTP_DATA_CR);
    uint64_t after_lf = lf << 1 | (d->state == SMTP_DATA_LINE_START);
    /* An octet behind CR that is no LF, an LF that is not behind CR, a NUL; and where a run must end. */
    uint64_t stop = (lf ^ after_cr) | block_mask(&b, '\0');
    if (after_lf != 0 && d->dots)
        stop |= block_mask(&b, '.') & after_lf;
    stop &= low_bits(n);
    size_t clean = stop == 0 ? n : (size_t)__builtin_ctzll(stop);
    if (clean == 0)
        return 0;
    line_follow(d, lf & low_bits(clean), clean);
    uint64_t last = (uint64_t)1 << (clean - 1);
    d->state = (cr & last) != 0 ? SMTP_DATA_CR : (lf & last) != 0 ? SMTP_DATA_LINE_START : SMTP_DATA_MID;
    return clean;
}

static size_t run_clean(struct smtp_data *d, struct slice in)
{
    size_t at = 0;
    while (at < in.n) {
        size_t n = in.n - at < BLOCK ? in.n - at : BLOCK, clean = block_clean(d, in.p + at, n);
        at += clean;
        if (clean < n)
            break;
    }
    return at;
}

/* The octet that ended a run: a dot at the start of a line or what follows one, or a flaw. */
static void special_octet(struct smtp_data *d, char c)
{
    bool after_dot = d->state == SMTP_DATA_DOT || d->state == SMTP_DATA_DOT_CR;
    enum smtp_data_state was = d->state;
    strict_octet(d, c);
    if (d->flaws == 0)
        return;
    if (after_dot && (c == '\n' || was == SMTP_DATA_DOT_CR))
        d->flaws |= SMTP_DATA_SMUGGLE;
    d->loose = c == '\r' || c == '\n' ? SMTP_LOOSE_START : SMTP_LOOSE_MID;
    /* A CR before this octet was a line end to somebody. */
    if (c == '.' && (was == SMTP_DATA_CR || was == SMTP_DATA_LINE_START))
        d->loose = SMTP_LOOSE_DOT;
}

bool smtp_data_next(struct smtp_data *d, struct slice *in, struct slice *ret_run)
{
    while (in->n > 0 && d->state != SMTP_DATA_END) {
        if (d->flaws != 0) {
            flawed_rest(d, in);
            continue;
        }
        /* The dot of a stuffed line is dropped (RFC 5321 4.5.2): what follows it is content. */
        if (d->state == SMTP_DATA_DOT && in->p[0] != '\r' && in->p[0] != '\n')
            d->state = SMTP_DATA_MID;
        bool withheld = d->state == SMTP_DATA_DOT || d->state == SMTP_DATA_DOT_CR;
        size_t n = withheld ? 0 : run_clean(d, *in);
        if (n > 0) {
            *ret_run = slice_head(*in, n);
            d->taken += n;
            *in = slice_from(*in, n);
            return true;
        }
        special_octet(d, in->p[0]);
        d->taken++;
        *in = slice_from(*in, 1);
    }
    return false;
}

void smtp_data_finish(struct smtp_data *d)
{
    if (d->state == SMTP_DATA_CR)
        d->flaws |= SMTP_DATA_BARE_CR;
}
