#include "base/netaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool netaddr_is_v4(const struct netaddr *a)
{
    return memcmp(a->ip, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool netaddr_is_loopback(const struct netaddr *a)
{
    static const uint8_t v6[16] = {[15] = 1};
    return netaddr_is_v4(a) ? a->ip[12] == 127 : memcmp(a->ip, v6, sizeof(v6)) == 0;
}

bool netaddr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct netaddr *ret)
{
    if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        memcpy(ret->ip, mapped_prefix, sizeof(mapped_prefix));
        memcpy(ret->ip + 12, &in.sin_addr, 4);
        ret->port = ntohs(in.sin_port);
        return true;
    }
    if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof(in6));
        memcpy(ret->ip, &in6.sin6_addr, 16);
        ret->port = ntohs(in6.sin6_port);
        return true;
    }
    return false;
}

socklen_t netaddr_to_sockaddr(const struct netaddr *a, struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (netaddr_is_v4(a)) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
        memcpy(&in.sin_addr, a->ip + 12, 4);
        memcpy(ret, &in, sizeof(in));
        return sizeof(in);
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};
    memcpy(&in6.sin6_addr, a->ip, 16);
    memcpy(ret, &in6, sizeof(in6));
    return sizeof(in6);
}

bool netaddr_parse_ip(struct slice text, struct netaddr *ret)
{
    char tmp[INET6_ADDRSTRLEN];
    struct netaddr a = {0};
    if (text.n >= 2 && text.p[0] == '[' && text.p[text.n - 1] == ']')
        text = slice_of(text.p + 1, text.n - 2);
    if (text.n == 0 || text.n >= sizeof(tmp) || memchr(text.p, '\0', text.n) != NULL)
        return false;
    memcpy(tmp, text.p, text.n);
    tmp[text.n] = '\0';
    if (inet_pton(AF_INET, tmp, a.ip + 12) == 1)
        memcpy(a.ip, mapped_prefix, sizeof(mapped_prefix));
    else if (inet_pton(AF_INET6, tmp, a.ip) != 1)
        return false;
    *ret = a;
    return true;
}

void netaddr_print_ip(const struct netaddr *a, char out[NETADDR_TEXT_SIZE])
{
    /* inet_ntop writes RFC 5952 form; a mapped address is printed as the IPv4 address it is. */
    const char *s = netaddr_is_v4(a) ? inet_ntop(AF_INET, a->ip + 12, out, NETADDR_TEXT_SIZE)
                                     : inet_ntop(AF_INET6, a->ip, out, NETADDR_TEXT_SIZE);
    if (s == NULL)
        out[0] = '\0';
}

void netaddr_print(const struct netaddr *a, char out[NETADDR_TEXT_SIZE])
{
    char ip[NETADDR_TEXT_SIZE];
    netaddr_print_ip(a, ip);
    (void)snprintf(out, NETADDR_TEXT_SIZE, netaddr_is_v4(a) ? "%.45s:%u" : "[%.45s]:%u", ip, (unsigned)a->port);
}

bool netmask_has(const struct netmask *m, const struct netaddr *a)
{
    unsigned whole = m->bits / 8, rest = m->bits % 8;
    if (memcmp(m->base.ip, a->ip, whole) != 0)
        return false;
    return rest == 0 || ((m->base.ip[whole] ^ a->ip[whole]) >> (8 - rest)) == 0;
}

bool netmask_parse(struct slice text, struct netmask *ret)
{
    struct netmask m = {.bits = 128};
    uint64_t bits;
    struct slice rest = text, ip = slice_cut(&rest, '/');
    if (!netaddr_parse_ip(ip, &m.base))
        return false;
    if (ip.n != text.n) {
        uint64_t most = netaddr_is_v4(&m.base) ? 32 : 128;
        if (!slice_to_u64(rest, &bits) || bits > most)
            return false;
        m.bits = (unsigned)(bits + 128 - most);
    }
    for (unsigned i = m.bits; i < 128; i++)
        if ((m.base.ip[i / 8] >> (7 - i % 8)) & 1)
            return false;
    *ret = m;
    return true;
}

struct netaddr netaddr_limit_key(const struct netaddr *a)
{
    struct netaddr key = *a;
    key.port = 0;
    if (!netaddr_is_v4(a))
        memset(key.ip + 8, 0, 8);
    return key;
}
