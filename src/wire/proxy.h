/* proxy.h: the PROXY protocol, versions 1 (text) and 2 (binary): the header that a load balancer sends first, to tell whose connection
 * it passes on. Specification: HAProxy's proxy-protocol.txt (2020-03-05). Pure syntax; who may send it is decided elsewhere. */
#ifndef KK_WIRE_PROXY_H
#define KK_WIRE_PROXY_H

#include "base/err.h"
#include "base/netaddr.h"

#define PROXY_V1_MAX 107  /* section 2.1, with CR LF */
#define PROXY_V2_MAX 4096 /* with its extensions; the format could say 65551 */

struct proxy_header {
    bool local; /* the balancer's own connection (health check), or a family without addresses: keep the real ones */
    struct netaddr source, destination;
};

/* in: what has come so far. 0: whole, *ret_used octets; -EAGAIN: more is needed; ERR_SYNTAX; ERR_LIMIT. A checksum (PP2_TYPE_CRC32C),
 * when present, is verified. */
int proxy_parse(struct slice in, struct proxy_header *ret, size_t *ret_used);

#endif
