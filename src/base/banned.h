/* banned.h: functions that have hurt C programs. Included into every file by the build (-include); using one does not compile. */
#ifndef KK_BASE_BANNED_H
#define KK_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf
#undef strtok
#undef alloca
#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok gets alloca
#pragma GCC poison atoi atol atoll gmtime localtime ctime asctime
#pragma GCC poison tmpnam tempnam mktemp

#endif
