/* clock.h: time. Milliseconds everywhere; deadlines are on the monotonic clock.
 * Tests may freeze both clocks with clock_fake_set (not in release builds' hot path: one predictable branch). */
#ifndef KK_BASE_CLOCK_H
#define KK_BASE_CLOCK_H

#include <stdint.h>

/* A deadline that never comes. */
#define CLOCK_NEVER INT64_MAX

int64_t clock_mono_ms(void); /* since boot, never backwards */
int64_t clock_real_ms(void); /* since 1970-01-01T00:00:00Z; may step */
/* now + ms, without overflow; ms < 0 or huge gives CLOCK_NEVER. */
int64_t clock_deadline(int64_t ms);
/* Tests only: from now on both clocks stand at these values until changed; mono < 0 returns to the real clocks. */
void clock_fake_set(int64_t mono_ms, int64_t real_ms);

#define CLOCK_ISO_SIZE 25 /* "2026-11-22T02:44:36.123Z" and NUL */
/* RFC 3339 in UTC with milliseconds. */
void clock_print_iso(int64_t real_ms, char out[CLOCK_ISO_SIZE]);
#define CLOCK_RFC5322_SIZE 40
/* RFC 5322 3.3 date-time in UTC: "Sun, 22 Nov 2026 02:44:36 +0000". */
void clock_print_rfc5322(int64_t real_ms, char out[CLOCK_RFC5322_SIZE]);

#endif
