/* Binding the ports. Listeners stay with the supervisor across restarts of the roles, so that a connection waits in the queue
 * instead of being refused while a role comes back. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "role/supervisor/supervisor_priv.h"

#define BACKLOG 4096

static const struct {
    enum role role;
    enum listener_protocol protocol;
    bool tls;
    const char *name;
    size_t offset; /* of the list in struct conf */
} kinds[] = {
    {ROLE_SMTPD, LISTEN_SMTP, false, "smtp", offsetof(struct conf, listen_smtp)},
    {ROLE_SMTPD, LISTEN_LMTP, false, "lmtp", offsetof(struct conf, listen_lmtp)},
    {ROLE_LOGIN, LISTEN_POP3, false, "pop3", offsetof(struct conf, listen_pop3)},
    {ROLE_LOGIN, LISTEN_POP3, true, "pop3s", offsetof(struct conf, listen_pop3s)},
};

static int parse_where(const char *text, struct netaddr *ret, bool *ret_any, struct err *err)
{
    struct slice s = slice_str(text);
    size_t colon = s.n;
    uint64_t port;
    while (colon > 0 && s.p[colon - 1] != ':')
        colon--;
    if (colon == 0 || !slice_to_u64(slice_from(s, colon), &port) || port == 0 || port > 65535)
        return err_set(err, ERR_CONFIG, "listen: \"%s\" is not address:port", text);
    struct slice host = slice_head(s, colon - 1);
    *ret_any = slice_eq(host, SLICE("*"));
    if (!*ret_any && !netaddr_parse_ip(host, ret))
        return err_set(err, ERR_CONFIG, "listen: \"%s\" has no address before the port", text);
    ret->port = (uint16_t)port;
    return 0;
}

static int bind_one(size_t kind, const struct netaddr *at, struct err *err)
{
    static const int one = 1;
    struct sockaddr_storage ss;
    struct bound_listener *l = &sv.listeners[sv.n_listeners];
    char text[NETADDR_TEXT_SIZE];
    netaddr_print(at, text);
    if (sv.n_listeners >= sizeof(sv.listeners) / sizeof(sv.listeners[0]))
        return err_set(err, ERR_LIMIT, "too many listeners");
    socklen_t len = netaddr_to_sockaddr(at, &ss);
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, "socket for %s", text);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ss.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&ss, len) != 0 || listen(fd, BACKLOG) != 0) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
        return err_errno(err, saved == EADDRINUSE ? "port %s (%s) is taken by another program" : "cannot listen on %s (%s)", text,
                         kinds[kind].name);
    }
    *l = (struct bound_listener){.role = kinds[kind].role, .protocol = kinds[kind].protocol, .tls = kinds[kind].tls, .fd = fd};
    (void)snprintf(l->name, sizeof(l->name), "%s %.54s", kinds[kind].name, text);
    sv.n_listeners++;
    log_info("listening", L_STR("listener", l->name));
    return 0;
}

static int bind_text(size_t kind, const char *text, struct err *err)
{
    struct netaddr at = {0};
    bool any = false;
    int rc = parse_where(text, &at, &any, err);
    if (rc != 0)
        return rc;
    if (!any) {
        if (!netaddr_is_v4(&at) && !sv.conf->server_ipv6)
            return 0;
        return bind_one(kind, &at, err);
    }
    struct netaddr v4 = {.port = at.port};
    if (!netaddr_parse_ip(SLICE("0.0.0.0"), &v4))
        return -EINVAL;
    v4.port = at.port;
    rc = bind_one(kind, &v4, err);
    if (rc == 0 && sv.conf->server_ipv6) {
        rc = bind_one(kind, &at, err);
        if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) {
            log_warning("listen.no_ipv6", L_STR("text", err->text));
            rc = 0;
        }
    }
    return rc;
}

int listeners_bind(struct err *err)
{
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        const struct conf_list *list = (const struct conf_list *)(const void *)((const char *)sv.conf + kinds[k].offset);
        for (size_t i = 0; i < list->n; i++) {
            int rc = bind_text(k, list->items[i], err);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}
