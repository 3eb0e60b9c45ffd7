#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t fake_mono = -1, fake_real;

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;
    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_mono_ms(void)
{
    return fake_mono >= 0 ? fake_mono : read_clock(CLOCK_MONOTONIC);
}

int64_t clock_real_ms(void)
{
    return fake_mono >= 0 ? fake_real : read_clock(CLOCK_REALTIME);
}

int64_t clock_deadline(int64_t ms)
{
    int64_t at;
    if (ms < 0 || __builtin_add_overflow(clock_mono_ms(), ms, &at))
        return CLOCK_NEVER;
    return at;
}

void clock_fake_set(int64_t mono_ms, int64_t real_ms)
{
    fake_mono = mono_ms;
    fake_real = real_ms;
}

static void split(int64_t real_ms, struct tm *tm, int *ms)
{
    time_t t = (time_t)(real_ms / 1000);
    *ms = (int)(real_ms % 1000);
    if (*ms < 0) {
        *ms += 1000;
        t--;
    }
    if (gmtime_r(&t, tm) == NULL)
        *tm = (struct tm){.tm_mday = 1, .tm_year = 70};
    if (tm->tm_year > 8099 || tm->tm_year < -1900)
        *tm = (struct tm){.tm_mday = 1, .tm_year = 70};
}

void clock_print_iso(int64_t real_ms, char out[CLOCK_ISO_SIZE])
{
    struct tm tm;
    int ms;
    split(real_ms, &tm, &ms);
    (void)snprintf(out, CLOCK_ISO_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)(tm.tm_year + 1900) % 10000,
                   (unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100,
                   (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100, (unsigned)ms % 1000);
}

void clock_print_rfc5322(int64_t real_ms, char out[CLOCK_RFC5322_SIZE])
{
    static const char day[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char month[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm tm;
    int ms;
    split(real_ms, &tm, &ms);
    (void)snprintf(out, CLOCK_RFC5322_SIZE, "%s, %02d %s %04d %02d:%02d:%02d +0000", day[tm.tm_wday % 7], tm.tm_mday,
                   month[tm.tm_mon % 12], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}
