/* Binding the ports. Listeners stay with the supervisor across restarts of the roles, so that a connection waits in the queue
 * instead of being refused while a role comes back. */
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

/* Limits are counted by client address within each process, so one client must always meet the same process: the kernel spreads new
 * connections over the group's sockets by the source address (IPv4) or its /64 (IPv6), in this order of sockets. */
static int steer_by_client(int fd, bool v6, uint32_t instances)
{
    const uint32_t net = (uint32_t)SKF_NET_OFF;
    struct sock_filter v4_code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 12),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 2654435761U), /* the low bits of neighbours differ, the product's high bits mix them */
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, instances),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_filter v6_code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 8),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 12),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 2654435761U),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, instances),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog program = {.len = sizeof(v4_code) / sizeof(v4_code[0]), .filter = v4_code};
    if (v6)
        program = (struct sock_fprog){.len = sizeof(v6_code) / sizeof(v6_code[0]), .filter = v6_code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) == 0 ? 0 : -errno;
}

static int make_socket(const struct sockaddr_storage *ss, socklen_t len, bool group)
{
    static const int one = 1;
    int fd = socket(ss->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    /* Inherited by every connection: streams gather their answers themselves, and a second answer must not wait for the client's
     * delayed acknowledgement of the first (40 ms). */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (ss->ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if ((group && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0) ||
        bind(fd, (const struct sockaddr *)ss, len) != 0 || listen(fd, BACKLOG) != 0) {
        int rc = -errno;
        (void)close(fd);
        return rc;
    }
    return fd;
}

static int refuse_address(int rc, size_t kind, const char *text, struct err *err)
{
    return err_set(err, rc, rc == -EADDRINUSE ? "port %s (%s) is taken by another program: %s" : "cannot listen on %s (%s): %s", text,
                   kinds[kind].name, err_name(rc));
}

static int add_listener(size_t kind, const struct netaddr *at, uint64_t instance, bool group, struct err *err)
{
    struct sockaddr_storage ss;
    char text[NETADDR_TEXT_SIZE];
    netaddr_print(at, text);
    if (sv.n_listeners >= sizeof(sv.listeners) / sizeof(sv.listeners[0]))
        return err_set(err, ERR_LIMIT, "too many listeners");
    socklen_t len = netaddr_to_sockaddr(at, &ss);
    int fd = make_socket(&ss, len, group);
    if (fd < 0)
        return refuse_address(fd, kind, text, err);
    struct bound_listener *l = &sv.listeners[sv.n_listeners++];
    *l = (struct bound_listener){.role = kinds[kind].role, .instance = instance, .protocol = kinds[kind].protocol,
                                 .tls = kinds[kind].tls, .fd = fd};
    (void)snprintf(l->name, sizeof(l->name), "%s %.54s", kinds[kind].name, text);
    if (instance == 0)
        log_info("listening", L_STR("listener", l->name));
    return 0;
}

static int bind_one(size_t kind, const struct netaddr *at, struct err *err)
{
    uint64_t instances = processes_of(kinds[kind].role);
    struct sockaddr_storage ss;
    char text[NETADDR_TEXT_SIZE];
    if (instances == 1)
        return add_listener(kind, at, 0, false, err);
    /* A group's port could be shared with another service of the same user in silence: first see that it is free. */
    netaddr_print(at, text);
    socklen_t len = netaddr_to_sockaddr(at, &ss);
    int probe = make_socket(&ss, len, false);
    if (probe < 0)
        return refuse_address(probe, kind, text, err);
    (void)close(probe);
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < instances; i++)
        rc = add_listener(kind, at, i, true, err);
    if (rc == 0)
        rc = steer_by_client(sv.listeners[sv.n_listeners - 1].fd, ss.ss_family == AF_INET6, (uint32_t)instances);
    return rc == 0 ? 0 : err_set(err, rc, "cannot listen on %s: %s", text, err_name(rc));
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
