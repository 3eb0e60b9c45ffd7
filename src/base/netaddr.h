/* netaddr.h: one canonical form for every network address in the program, its logs, limits and trail.
 * IPv4 is kept as IPv4-mapped IPv6, so that equal hosts compare equal whichever socket they came by; text is
 * RFC 5952 ("2001:db8::1") and dotted quad for mapped addresses. */
#ifndef KK_BASE_NETADDR_H
#define KK_BASE_NETADDR_H

#include <sys/socket.h>

#include "base/slice.h"

struct netaddr {
    uint8_t ip[16];
    uint16_t port; /* host order; 0 = none */
};

struct netmask {
    struct netaddr base;
    unsigned bits; /* of 128; IPv4 /24 is 120 */
};

#define NETADDR_TEXT_SIZE 64 /* "[2001:db8::1]:65535" and NUL, with room */

bool netaddr_is_v4(const struct netaddr *a);
bool netaddr_is_loopback(const struct netaddr *a);
/* false for families other than AF_INET and AF_INET6. */
bool netaddr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct netaddr *ret);
/* Mapped addresses become AF_INET. Returns the length. */
socklen_t netaddr_to_sockaddr(const struct netaddr *a, struct sockaddr_storage *ret);
/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]"; no port, no zone, no leading zeros. */
bool netaddr_parse_ip(struct slice text, struct netaddr *ret);
/* The address alone: "192.0.2.1", "2001:db8::1". */
void netaddr_print_ip(const struct netaddr *a, char out[NETADDR_TEXT_SIZE]);
/* "192.0.2.1:25", "[2001:db8::1]:25". */
void netaddr_print(const struct netaddr *a, char out[NETADDR_TEXT_SIZE]);
/* "192.0.2.0/24", "2001:db8::/32", or an address alone; host bits must be zero. */
bool netmask_parse(struct slice text, struct netmask *ret);
bool netmask_has(const struct netmask *m, const struct netaddr *a);
/* What limits are counted by: the address itself for IPv4, its /64 for IPv6 (one customer owns a whole /64). Port 0. */
struct netaddr netaddr_limit_key(const struct netaddr *a);

#endif
