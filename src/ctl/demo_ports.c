/* demo_ports.c: is a port free, and if not: who has it? */
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl/demo.h"

const struct demo_port demo_ports[] = {
    {"smtp", "smtp", 525},  {"submission", NULL, 587}, {"submissions", NULL, 465}, {"imap", NULL, 143},
    {"imaps", NULL, 993},   {"pop3", "pop3", 110},     {"pop3s", "pop3s", 995},    {NULL, NULL, 0},
};

/* The inode of a listening socket on the port; 0 when none is found. Lines of proc(5) net/tcp. */
static unsigned long listener_inode(const char *table, unsigned port)
{
    char line[512];
    unsigned long found = 0;
    FILE *f = fopen(table, "re");
    while (f != NULL && found == 0 && fgets(line, sizeof(line), f) != NULL) {
        unsigned local_port, state;
        unsigned long inode;
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %lu", &local_port, &state, &inode) == 3 &&
            state == 0x0a && local_port == port)
            found = inode;
    }
    if (f != NULL)
        (void)fclose(f);
    return found;
}

static bool process_holds(const char *pid, const char *wanted)
{
    char path[300], target[64];
    bool holds = false;
    (void)snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
    DIR *d = opendir(path);
    struct dirent *e;
    while (d != NULL && !holds && (e = readdir(d)) != NULL) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
        holds = n > 0 && (size_t)n == strlen(wanted) && memcmp(target, wanted, (size_t)n) == 0;
    }
    if (d != NULL)
        (void)closedir(d);
    return holds;
}

static void process_name(const char *pid, char *out, size_t size)
{
    char path[64], comm[64] = "";
    (void)snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        if (fgets(comm, sizeof(comm), f) != NULL)
            comm[strcspn(comm, "\n")] = '\0';
        (void)fclose(f);
    }
    (void)snprintf(out, size, " by %s (process %.20s)", comm, pid);
}

/* Processes of others cannot be looked into without their rights: then nothing is said. */
static void find_holder(unsigned port, char *out, size_t size)
{
    char wanted[64];
    unsigned long inode = listener_inode("/proc/net/tcp", port);
    if (inode == 0)
        inode = listener_inode("/proc/net/tcp6", port);
    out[0] = '\0';
    (void)snprintf(wanted, sizeof(wanted), "socket:[%lu]", inode);
    DIR *d = inode != 0 ? opendir("/proc") : NULL;
    struct dirent *e;
    while (d != NULL && out[0] == '\0' && (e = readdir(d)) != NULL)
        if (ascii_is_digit(e->d_name[0]) && process_holds(e->d_name, wanted))
            process_name(e->d_name, out, size);
    if (d != NULL)
        (void)closedir(d);
}

static int try_port(unsigned port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    int rc = bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0 && listen(fd, 1) == 0 ? 0 : -errno;
    (void)close(fd);
    return rc;
}

int demo_ports_check(unsigned base, struct err *err)
{
    for (const struct demo_port *p = demo_ports; p->name != NULL; p++) {
        char holder[128];
        unsigned port = base + p->offset;
        int rc = p->option != NULL ? try_port(port) : 0;
        if (rc == 0)
            continue;
        find_holder(port, holder, sizeof(holder));
        if (rc == -EADDRINUSE)
            return err_set(err, rc, "port %u (%s) is taken%s; --port-base N moves all ports", port, p->name, holder);
        return err_set(err, rc, "port %u (%s): %s; --port-base N moves all ports", port, p->name, err_name(rc));
    }
    return 0;
}
