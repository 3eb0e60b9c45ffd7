/* Dates: see date.h. The text is taken apart into words and numbers, each of which says by its form what it is; so that
 * "Mon, 2 Jan 2006 15:04:05 -0700 (MST)", "Mon Jan  2 15:04:05 2006", "2-Jan-06 15:04 EST" and "2006-01-02T15:04:05Z" need no grammar each. */
#include "mail/date.h"

struct parts {
    int day, month, year; /* -1: not seen */
    int hour, minute, second;
    bool has_time, year_digits4, pm, am;
    int zone;
    bool zone_known, has_zone;
};

static const struct {
    const char *name;
    int minutes;
} zones[] = {
    {"ut", 0}, {"utc", 0}, {"gmt", 0}, {"z", 0}, {"est", -300}, {"edt", -240}, {"cst", -360}, {"cdt", -300},
    {"mst", -420}, {"mdt", -360}, {"pst", -480}, {"pdt", -420}, {"jst", 540}, {"cet", 60}, {"cest", 120}, {"met", 60},
    {"mest", 120}, {"bst", 60}, {"wet", 0}, {"west", 60}, {"eet", 120}, {"eest", 180}, {"msk", 180}, {"kst", 540}, {"hkt", 480},
};

static bool take_month(struct slice word, struct parts *p)
{
    static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    if (word.n < 3 || p->month != -1)
        return false;
    for (int i = 0; i < 12; i++)
        if (slice_ieq(slice_head(word, 3), slice_of(names + i * 3, 3))) {
            p->month = i + 1;
            return true;
        }
    return false;
}

static void take_word(struct slice word, struct parts *p)
{
    if (take_month(word, p) || !p->has_time)
        return; /* before the time: a weekday, or "T" between date and time */
    if (slice_ieq(word, SLICE("pm")) || slice_ieq(word, SLICE("am"))) {
        p->pm = ascii_lower(word.p[0]) == 'p';
        p->am = !p->pm;
        return;
    }
    for (size_t i = 0; !p->has_zone && i < sizeof(zones) / sizeof(zones[0]); i++)
        if (slice_ieq(word, slice_str(zones[i].name))) {
            p->zone = zones[i].minutes;
            p->has_zone = p->zone_known = true;
        }
}

static size_t digits(struct slice s, int *ret)
{
    size_t n = 0;
    int v = 0;
    for (; n < s.n && ascii_is_digit(s.p[n]); n++)
        v = v < 100000 ? v * 10 + (s.p[n] - '0') : v;
    *ret = v;
    return n;
}

/* hour ":" minute [":" second]; some write dots. Returns its length, 0 when it is no time. */
static size_t take_time(struct slice s, struct parts *p)
{
    int v[3] = {0, 0, 0};
    size_t at = 0, count = 0;
    while (count < 3) {
        size_t n = digits(slice_from(s, at), &v[count]);
        if (n == 0 || n > 2)
            return 0;
        at += n;
        count++;
        if (at + 1 >= s.n || (s.p[at] != ':' && s.p[at] != '.') || !ascii_is_digit(s.p[at + 1]))
            break;
        at++;
    }
    if (count < 2)
        return 0;
    if (at < s.n && s.p[at] == '.') { /* fractions of a second */
        int ignored;
        at += 1 + digits(slice_from(s, at + 1), &ignored);
    }
    p->hour = v[0];
    p->minute = v[1];
    p->second = v[2];
    p->has_time = true;
    return at;
}

/* ("+" / "-") 4DIGIT, or with a colon. */
static size_t take_zone(struct slice s, struct parts *p)
{
    int v, minutes = 0;
    size_t n = digits(slice_from(s, 1), &v), at = 1 + n;
    if (n == 2 && at < s.n && s.p[at] == ':') {
        at++;
        at += digits(slice_from(s, at), &minutes);
        v = v * 100 + minutes;
    } else if (n == 2 || n == 1) {
        v *= 100;
    } else if (n != 4 && n != 3) {
        return at;
    }
    if (p->has_zone || v / 100 > 15 || v % 100 > 59)
        return at;
    p->zone = (v / 100 * 60 + v % 100) * (s.p[0] == '-' ? -1 : 1);
    p->has_zone = true;
    p->zone_known = v != 0 || s.p[0] == '+';
    return at;
}

/* RFC 5322 4.3: two digits are 2000 to 2049 and 1950 to 1999; three add 1900. */
static int full_year(int v, size_t n)
{
    if (n == 2)
        return v < 50 ? v + 2000 : v + 1900;
    return n == 3 ? v + 1900 : v;
}

static void take_number(int v, size_t n, struct parts *p)
{
    if (n >= 4 && p->year == -1) {
        p->year = v;
        p->year_digits4 = p->day == -1 && p->month == -1;
    } else if (p->year_digits4 && p->month == -1 && n <= 2) {
        p->month = v; /* 2006-01-02 */
    } else if (p->day == -1 && n <= 2) {
        p->day = v;
    } else if (p->year == -1 && n >= 2) {
        p->year = full_year(v, n);
    }
}

static size_t take_comment(struct slice s)
{
    size_t i = 0;
    int depth = 0;
    for (; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == '(')
            depth++;
        else if (s.p[i] == ')' && --depth == 0)
            return i + 1;
    }
    return s.n;
}

static size_t take_next(struct slice s, struct parts *p)
{
    char c = s.p[0];
    int v;
    if (c == '(')
        return take_comment(s);
    if (ascii_is_alpha(c)) {
        size_t n = 0;
        while (n < s.n && ascii_is_alpha(s.p[n]))
            n++;
        take_word(slice_head(s, n), p);
        return n;
    }
    if ((c == '+' || c == '-') && p->has_time && s.n > 1 && ascii_is_digit(s.p[1]))
        return take_zone(s, p);
    if (!ascii_is_digit(c))
        return 1;
    size_t n = p->has_time ? 0 : take_time(s, p);
    if (n == 0) {
        n = digits(s, &v);
        take_number(v, n, p);
    }
    return n;
}

/* Days since 1970 of a day in the Gregorian calendar. */
static int64_t days_from_civil(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

bool mail_date_parse(struct slice raw, struct mail_date *ret)
{
    struct parts p = {.day = -1, .month = -1, .year = -1};
    struct slice s = slice_head(raw, MAIL_DATE_MAX);
    while (s.n > 0) {
        size_t used = take_next(s, &p);
        s = slice_from(s, used);
    }
    if (p.pm && p.hour < 12)
        p.hour += 12;
    if (p.am && p.hour == 12)
        p.hour = 0;
    bool fits = p.day >= 1 && p.day <= 31 && p.month >= 1 && p.month <= 12 && p.year >= 1900 && p.year <= 9999 && p.has_time &&
                p.hour <= 24 && p.minute <= 59 && p.second <= 61;
    if (!fits)
        return false;
    int64_t minutes = (days_from_civil(p.year, p.month, p.day) * 24 + p.hour) * 60 + p.minute - p.zone;
    *ret = (struct mail_date){(minutes * 60 + p.second) * 1000, p.zone, p.zone_known};
    return true;
}
