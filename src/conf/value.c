#include "conf/value.h"

struct unit {
    const char *name;
    int64_t factor;
};

/* Largest first: printing takes the first that divides. */
static const struct unit size_units[] = {{"T", 1LL << 40}, {"G", 1LL << 30}, {"M", 1LL << 20}, {"K", 1LL << 10}, {"", 1}};
static const struct unit time_units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
#define N_UNITS 5

/* Splits "25M" into its digits and the rest. */
static bool number_and_rest(struct slice text, int64_t *ret_number, struct slice *ret_rest)
{
    size_t digits = 0;
    uint64_t v;
    while (digits < text.n && ascii_is_digit(text.p[digits]))
        digits++;
    if (!slice_to_u64(slice_head(text, digits), &v) || v > INT64_MAX)
        return false;
    *ret_number = (int64_t)v;
    *ret_rest = slice_from(text, digits);
    return true;
}

static bool scaled(int64_t number, int64_t factor, int64_t *ret)
{
    int64_t v;
    if (__builtin_mul_overflow(number, factor, &v))
        return false;
    *ret = v;
    return true;
}

bool conf_value_size(struct slice text, int64_t *ret_bytes)
{
    int64_t number;
    struct slice rest;
    if (!number_and_rest(text, &number, &rest))
        return false;
    if (rest.n > 1 && (slice_ieq(slice_from(rest, 1), SLICE("b")) || slice_ieq(slice_from(rest, 1), SLICE("ib"))))
        rest.n = 1;
    for (size_t i = 0; i < N_UNITS; i++)
        if (slice_ieq(rest, slice_str(size_units[i].name)))
            return scaled(number, size_units[i].factor, ret_bytes);
    return false;
}

bool conf_value_time(struct slice text, int64_t *ret_ms)
{
    int64_t number;
    struct slice rest;
    if (!number_and_rest(text, &number, &rest))
        return false;
    for (size_t i = 0; i < N_UNITS; i++)
        if (slice_eq(rest, slice_str(time_units[i].name)))
            return scaled(number, time_units[i].factor, ret_ms);
    if (rest.n != 0 || number != 0)
        return false;
    *ret_ms = 0;
    return true;
}

bool conf_value_int(struct slice text, int64_t *ret)
{
    bool negative = text.n > 0 && text.p[0] == '-';
    uint64_t v;
    if (!slice_to_u64(slice_from(text, negative ? 1 : 0), &v) || v > INT64_MAX)
        return false;
    *ret = negative ? -(int64_t)v : (int64_t)v;
    return true;
}

bool conf_value_bool(struct slice text, bool *ret)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", true}, {"yes", true}, {"on", true}, {"false", false}, {"no", false}, {"off", false}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (slice_ieq(text, slice_str(words[i].word))) {
            *ret = words[i].value;
            return true;
        }
    }
    return false;
}

static void print_units(struct buf *b, int64_t v, const struct unit *units)
{
    for (size_t i = 0; i < N_UNITS; i++) {
        if (v % units[i].factor == 0) {
            buf_printf(b, "%lld%s", (long long)(v / units[i].factor), units[i].name);
            return;
        }
    }
}

void conf_print_size(struct buf *b, int64_t bytes)
{
    print_units(b, bytes, size_units + (bytes == 0 ? N_UNITS - 1 : 0));
}

void conf_print_time(struct buf *b, int64_t ms)
{
    print_units(b, ms, time_units + (ms == 0 ? N_UNITS - 2 : 0));
}
