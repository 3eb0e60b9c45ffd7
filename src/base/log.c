#include "base/log.h"

#include <errno.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/utf8.h"

#define LINE_MAX_BYTES 3900 /* below PIPE_BUF, so that lines of several processes do not mix */
#define VALUE_MAX_BYTES 300

static struct {
    const char *process;
    enum log_level least;
    bool json;
} log_state = {.process = "kakitome", .least = LOG_INFO};

static const char *const level_name[] = {"debug", "info", "warning", "error", "alert"};

void log_init(const char *process, enum log_level least, bool json)
{
    log_state.process = process;
    log_set_level(least, json);
}

void log_set_level(enum log_level least, bool json)
{
    log_state.least = least;
    log_state.json = json;
}

bool log_on(enum log_level level)
{
    return level >= log_state.least;
}

static bool is_bare(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] == '"' || s.p[i] == '\\' || s.p[i] == '=' || (unsigned char)s.p[i] >= 127)
            return false;
    return s.n > 0;
}

static void put_text(struct buf *b, struct slice s)
{
    s = slice_head(s, VALUE_MAX_BYTES);
    if (!log_state.json && is_bare(s)) {
        buf_put_slice(b, s);
        return;
    }
    buf_put_char(b, '"');
    utf8_put_json(b, s);
    buf_put_char(b, '"');
}

static void put_value(struct buf *b, const struct log_field *f)
{
    char text[NETADDR_TEXT_SIZE];
    switch (f->type) {
    case LOG_F_STR: put_text(b, slice_str(f->u.str != NULL ? f->u.str : "")); break;
    case LOG_F_SLICE: put_text(b, f->u.slice); break;
    case LOG_F_INT: buf_printf(b, "%lld", (long long)f->u.i); break;
    case LOG_F_ID: id_print(f->u.id, text); put_text(b, slice_str(text)); break;
    case LOG_F_ADDR: netaddr_print(f->u.addr, text); put_text(b, slice_str(text)); break;
    case LOG_F_END: break;
    }
}

void log_write(enum log_level level, const char *name, const struct log_field *fields, size_t n)
{
    char iso[CLOCK_ISO_SIZE];
    struct buf b;
    buf_init(&b, LINE_MAX_BYTES);
    clock_print_iso(clock_real_ms(), iso);
    if (log_state.json)
        buf_printf(&b, "{\"time\":\"%s\",\"process\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", iso, log_state.process,
                   level_name[level], name);
    else
        buf_printf(&b, "%s %-10s %-7s %s", iso, log_state.process, level_name[level], name);
    for (size_t i = 0; i < n; i++) {
        buf_printf(&b, log_state.json ? ",\"%s\":" : " %s=", fields[i].name);
        put_value(&b, &fields[i]);
    }
    buf_put_str(&b, log_state.json ? "}\n" : "\n");
    /* A line that does not fit loses its tail but never its end of line. */
    if (b.n > 0 && b.p[b.n - 1] != '\n')
        b.p[b.n - 1] = '\n';
    /* One write a line; nothing can be done if standard error is gone. */
    ssize_t done;
    do {
        done = b.n > 0 ? write(STDERR_FILENO, b.p, b.n) : 0;
    } while (done < 0 && errno == EINTR);
    buf_done(&b);
}
