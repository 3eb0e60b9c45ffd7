/* date.h: the date of a message (RFC 5322 3.3, 4.3 obsolete forms, and the forms that were never right). */
#ifndef KK_MAIL_DATE_H
#define KK_MAIL_DATE_H

#include "base/slice.h"

#define MAIL_DATE_MAX 256 /* bytes of a Date field that are looked at */

struct mail_date {
    int64_t ms;       /* UTC, since 1970; may be negative */
    int zone_minutes; /* east of UTC as written; 0 where none or an unknown one was given */
    bool zone_known;  /* false also for "-0000" and military letters (RFC 5322 4.3) */
};

/* false: no date in it (day, month, year and time of day are needed, in any usual order). */
bool mail_date_parse(struct slice raw, struct mail_date *ret);

#endif
