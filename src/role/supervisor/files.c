/* The supervisor's files: the configuration, the state directory with one folder a role, user ids. */
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "role/supervisor/supervisor_priv.h"

#define CONFIG_MAX (4 * 1024 * 1024)

/* Roles that keep something. */
static const enum role with_directory[] = {ROLE_AUTHD, ROLE_KEYD, ROLE_STORED, ROLE_AUDITD};

struct problems {
    struct err *err;
    unsigned errors;
};

static void on_problem(void *arg, bool is_error, const char *sentence)
{
    struct problems *p = arg;
    if (!is_error) {
        log_warning("config.warning", L_STR("text", sentence));
        return;
    }
    if (p->errors++ == 0)
        (void)err_set(p->err, ERR_CONFIG, "%s", sentence);
    log_error("config.error", L_STR("text", sentence));
}

static int read_whole(const char *path, struct buf *b, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s", path);
    ssize_t n = 1;
    while (n > 0 && buf_reserve(b, 65536) == 0) {
        n = read(fd, b->p + b->n, 65536);
        if (n > 0)
            b->n += (size_t)n;
    }
    int rc = n == 0 ? 0 : err_errno(err, "%s", path);
    (void)close(fd);
    return rc;
}

static int seal_text(struct slice text, int *ret_fd, struct err *err)
{
    int fd = ipc_memfd_new("kakitome-config");
    if (fd < 0)
        return err_set(err, fd, "memfd: %s", err_name(fd));
    if (write(fd, text.p, text.n) != (ssize_t)text.n || ipc_memfd_seal(fd) != 0) {
        (void)close(fd);
        return err_set(err, -EIO, "cannot write the configuration into memory");
    }
    *ret_fd = fd;
    return 0;
}

int config_load(struct err *err, struct conf **ret_conf, int *ret_fd)
{
    struct buf text;
    struct conf *conf = NULL;
    struct problems problems = {.err = err};
    buf_init(&text, CONFIG_MAX);
    int rc = read_whole(sv.options.config_path, &text, err);
    if (rc == 0)
        rc = conf_parse(buf_slice(&text), sv.options.config_path, on_problem, &problems, &conf);
    if (rc == 0)
        rc = conf_check(conf, sv.options.config_path, on_problem, &problems);
    if (rc == 0)
        rc = seal_text(buf_slice(&text), ret_fd, err);
    buf_done(&text);
    if (rc != 0) {
        conf_free(conf);
        return rc;
    }
    *ret_conf = conf;
    return 0;
}

/* Every configuration that comes into force is kept, whoever changed the file. */
int config_keep(const char *who, const char *why, struct err *err)
{
    struct buf text;
    struct stat st;
    buf_init(&text, CONFIG_MAX);
    if (fstat(sv.config_fd, &st) != 0 || buf_reserve(&text, (size_t)st.st_size) != 0) {
        buf_done(&text);
        return err_set(err, -ENOMEM, "cannot read the configuration in memory");
    }
    ssize_t n = pread(sv.config_fd, text.p, (size_t)st.st_size, 0);
    int rc = n != st.st_size ? err_set(err, -EIO, "cannot read the configuration in memory")
                             : conf_history_add(sv.state_dir, slice_of(text.p, (size_t)n), who, why, &sv.conf->version, err);
    buf_done(&text);
    return rc;
}

/* ---- user ids ---- */

uint64_t role_uid(enum role role)
{
    char name[64];
    struct passwd pw, *found = NULL;
    char buf[4096];
    if (!sv.as_root)
        return geteuid();
    (void)snprintf(name, sizeof(name), "kakitome-%s", role_name(role));
    if (getpwnam_r(name, &pw, buf, sizeof(buf), &found) == 0 && found != NULL)
        return pw.pw_uid;
    return (uint64_t)sv.conf->server_uid_base + (uint64_t)role;
}

/* ---- state ---- */

static int make_dir(int at, const char *name, mode_t mode, uint64_t owner, struct err *err)
{
    if (mkdirat(at, name, mode) != 0 && errno != EEXIST)
        return err_errno(err, "cannot make %s/%s", sv.state_path, name);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(err, "cannot open %s/%s", sv.state_path, name);
    if (sv.as_root && (fchown(fd, (uid_t)owner, (gid_t)owner) != 0 || fchmod(fd, mode) != 0)) {
        int rc = err_errno(err, "cannot give %s/%s to its owner", sv.state_path, name);
        (void)close(fd);
        return rc;
    }
    return fd;
}

/* One service a state directory: two would write over each other. */
static int lock_state(struct err *err)
{
    int fd = openat(sv.state_dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, "cannot make %s/lock", sv.state_path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)close(fd);
        return err_set(err, -EBUSY, "another kakitome is running on %s", sv.state_path);
    }
    return 0; /* held until the process ends */
}

int state_open(struct err *err)
{
    const char *path = sv.options.state != NULL ? sv.options.state : sv.conf->server_state;
    if (path[0] == '\0')
        return err_set(err, ERR_CONFIG, "no state directory: set server { state = \"/var/lib/kakitome\" } or give --state");
    if (mkdir(path, 0711) != 0 && errno != EEXIST)
        return err_errno(err, "cannot make the state directory %s", path);
    sv.state_path = realpath(path, NULL);
    sv.state_dir = sv.state_path != NULL ? open(sv.state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (sv.state_dir < 0)
        return err_errno(err, "cannot open the state directory %s", path);
    return lock_state(err);
}

int state_dir_for(const struct process *p, struct err *err)
{
    for (size_t i = 0; i < sizeof(with_directory) / sizeof(with_directory[0]); i++)
        if (with_directory[i] == p->role)
            return make_dir(sv.state_dir, role_name(p->role), 0700, p->uid, err);
    return -1;
}
