/* Replies (RFC 5321 4.2, enhanced codes RFC 2034 and 3463). Text may quote the sender: it is made harmless and cut here. */
#include <stdarg.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "proto/smtp/session_priv.h"

/* Printable ASCII, or UTF-8 for a sender that speaks it (RFC 6531 3.7.4.2). */
static void harmless(char *text, size_t n, bool utf8)
{
    bool ascii = !utf8 || !utf8_valid(slice_of(text, n));
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 32 || c == 127 || (ascii && c >= 128))
            text[i] = '?';
    }
}

/* Formats, cut between characters. */
static void format(char *out, size_t size, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
static void format(char *out, size_t size, const char *fmt, va_list ap)
{
    int n = vsnprintf(out, size, fmt, ap);
    if (n < 0)
        out[0] = '\0';
    if (n < 0 || (size_t)n < size)
        return;
    size_t end = size - 1;
    while (end > 0 && ((unsigned char)out[end - 1] & 0xc0) == 0x80)
        end--;
    if (end > 0 && (unsigned char)out[end - 1] >= 0xc0)
        end--;
    out[end] = '\0';
}

void smtp_answer_set(struct smtp_answer *a, unsigned code, const char *enhanced, const char *fmt, ...)
{
    va_list ap;
    a->code = code;
    (void)snprintf(a->enhanced, sizeof(a->enhanced), "%s", enhanced);
    va_start(ap, fmt);
    format(a->text, sizeof(a->text), fmt, ap);
    va_end(ap);
}

void smtp_end(struct smtp_session *s, const char *why)
{
    if (!s->closing)
        s->end = why;
    s->closing = true;
}

/* An error is counted, and after the third costs time. */
static int error_counted(struct smtp_session *s, unsigned code)
{
    if (code == 421 || code == 521)
        smtp_end(s, "refused");
    if (code < 500 || code == 521)
        return 0;
    s->errors++;
    if (s->errors <= SMTP_TARPIT_AFTER || s->set->tarpit == 0 || s->unlimited || s->closing)
        return 0;
    int rc = stream_flush(s->stream);
    return rc != 0 ? rc : s->backend->sleep(s->arg, s->set->tarpit);
}

int smtp_reply_answer(struct smtp_session *s, const struct smtp_answer *a)
{
    char text[SMTP_REPLY_MAX + 1];
    int rc = error_counted(s, a->code);
    (void)snprintf(text, sizeof(text), "%s", a->text);
    harmless(text, strlen(text), s->tx != NULL && s->tx->params.smtputf8);
    if (rc == 0)
        rc = stream_printf(s->stream, "%u %s%s%s\r\n", a->code, a->enhanced, a->enhanced[0] != '\0' ? " " : "", text);
    if (rc != 0)
        smtp_end(s, "write");
    return rc;
}

int smtp_reply(struct smtp_session *s, unsigned code, const char *enhanced, const char *fmt, ...)
{
    struct smtp_answer a = {.code = code};
    va_list ap;
    (void)snprintf(a.enhanced, sizeof(a.enhanced), "%s", enhanced);
    va_start(ap, fmt);
    format(a.text, sizeof(a.text), fmt, ap);
    va_end(ap);
    return smtp_reply_answer(s, &a);
}

int smtp_reply_more(struct smtp_session *s, unsigned code, const char *fmt, ...)
{
    char text[SMTP_REPLY_MAX + 1];
    va_list ap;
    va_start(ap, fmt);
    format(text, sizeof(text), fmt, ap);
    va_end(ap);
    harmless(text, strlen(text), false);
    int rc = stream_printf(s->stream, "%u-%s\r\n", code, text);
    if (rc != 0)
        smtp_end(s, "write");
    return rc;
}
