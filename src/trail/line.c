#include "trail/line.h"

#include "base/utf8.h"

static bool cut_prefix(struct slice *s, struct slice prefix)
{
    if (!slice_starts(*s, prefix))
        return false;
    *s = slice_from(*s, prefix.n);
    return true;
}

static bool take_number(struct slice *s, uint64_t *ret)
{
    size_t n = 0;
    while (n < s->n && ascii_is_digit(s->p[n]))
        n++;
    if (!slice_to_u64(slice_head(*s, n), ret))
        return false;
    *s = slice_from(*s, n);
    return true;
}

/* Exactly n digits. */
static bool take_digits(struct slice *s, size_t n, int64_t *ret)
{
    uint64_t v;
    if (s->n < n || !slice_to_u64(slice_head(*s, n), &v))
        return false;
    *ret = (int64_t)v;
    *s = slice_from(*s, n);
    return true;
}

/* Days from 1970-01-01 (proleptic Gregorian). */
static int64_t days_from(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = year / 400, y = year % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + y * 365 + y / 4 - y / 100 + of_year - 719468;
}

/* What may follow the date, each part only behind the one before. */
static const struct {
    struct slice before;
    size_t digits;
    int64_t most, ms;
} parts[] = {
    {{"T", 1}, 2, 23, 3600000}, {{":", 1}, 2, 59, 60000}, {{":", 1}, 2, 60, 1000}, {{".", 1}, 3, 999, 1},
};

bool trail_time_parse(struct slice text, int64_t *ret_ms)
{
    int64_t year, month, day, ms;
    struct slice s = text;
    if (!take_digits(&s, 4, &year) || !cut_prefix(&s, SLICE("-")) || !take_digits(&s, 2, &month) || !cut_prefix(&s, SLICE("-")) ||
        !take_digits(&s, 2, &day) || year < 1 || month < 1 || month > 12 || day < 1 || day > 31)
        return false;
    ms = days_from(year, month, day) * 86400000;
    size_t i = 0;
    for (; i < sizeof(parts) / sizeof(parts[0]) && cut_prefix(&s, parts[i].before); i++) {
        int64_t v;
        if (!take_digits(&s, parts[i].digits, &v) || v > parts[i].most)
            return false;
        ms += v * parts[i].ms;
    }
    if (i > 0)
        (void)cut_prefix(&s, SLICE("Z"));
    if (s.n != 0)
        return false;
    *ret_ms = ms;
    return true;
}

void trail_epoch_print(uint64_t epoch, char out[TRAIL_EPOCH_SIZE])
{
    (void)snprintf(out, TRAIL_EPOCH_SIZE, "%016llx", (unsigned long long)epoch);
}

bool trail_epoch_parse(struct slice text, uint64_t *ret)
{
    uint64_t v = 0;
    if (text.n != TRAIL_EPOCH_SIZE - 1)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (!ascii_is_digit(c) && (c < 'a' || c > 'f'))
            return false;
        v = v << 4 | (uint64_t)(ascii_is_digit(c) ? c - '0' : c - 'a' + 10);
    }
    *ret = v;
    return true;
}

static size_t find_last(struct slice s, struct slice what)
{
    for (size_t i = s.n; i >= what.n; i--)
        if (memcmp(s.p + i - what.n, what.p, what.n) == 0)
            return i - what.n;
    return SIZE_MAX;
}

#define ORIGIN_MARK SLICE(",\"source\":\"")
#define ORIGIN_TEXT_MAX 128

static bool parse_origin(struct slice line, struct trail_origin *ret)
{
    struct slice tail = slice_from(line, line.n > ORIGIN_TEXT_MAX ? line.n - ORIGIN_TEXT_MAX : 0);
    size_t at = find_last(tail, ORIGIN_MARK);
    *ret = (struct trail_origin){.source = ""};
    if (at == SIZE_MAX)
        return true;
    struct trail_origin o = {.source = ""};
    struct slice s = slice_from(tail, at + ORIGIN_MARK.n), name = slice_cut(&s, '"');
    if (!cut_prefix(&s, SLICE(",\"source_epoch\":\"")))
        return true; /* a field of an event that happens to be called so */
    if (name.n == 0 || name.n >= sizeof(o.source) || !trail_epoch_parse(slice_cut(&s, '"'), &o.epoch) ||
        !cut_prefix(&s, SLICE(",\"source_seq\":")) || !take_number(&s, &o.sequence) || !slice_eq(s, SLICE("}")))
        return false;
    memcpy(o.source, name.p, name.n);
    *ret = o;
    return true;
}

bool trail_line_parse(struct slice line, struct trail_line *ret)
{
    struct trail_line l = {0};
    struct slice s = line;
    if (line.n > TRAIL_LINE_MAX || line.n == 0 || line.p[line.n - 1] != '}' || !utf8_valid(line))
        return false;
    for (size_t i = 0; i < line.n; i++)
        if ((unsigned char)line.p[i] < 0x20)
            return false;
    if (!cut_prefix(&s, SLICE("{\"seq\":")) || !take_number(&s, &l.seq) || !cut_prefix(&s, SLICE(",\"time\":\"")) ||
        !trail_time_parse(slice_cut(&s, '"'), &l.time_ms) || !cut_prefix(&s, SLICE(",\"event\":\"")))
        return false;
    l.event = slice_cut(&s, '"');
    if (l.event.n == 0 || !parse_origin(line, &l.origin))
        return false;
    *ret = l;
    return true;
}

void trail_line_add_origin(struct buf *line, const struct trail_origin *o)
{
    if (!buf_ok(line) || line->n == 0)
        return;
    char epoch[TRAIL_EPOCH_SIZE];
    trail_epoch_print(o->epoch, epoch);
    line->n--;
    buf_printf(line, ",\"source\":\"%s\",\"source_epoch\":\"%s\",\"source_seq\":%llu}", o->source, epoch,
               (unsigned long long)o->sequence);
}
