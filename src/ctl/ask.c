/* ask.c: secrets and answers from a person, and passwords made for one. */
#include "ctl/ask.h"

#include <stdio.h>
#include <termios.h>
#include <unistd.h>

#include "base/secret.h"

#define ANSWER_MAX 4096

/* Byte by byte, so that nothing behind the line is lost for who reads next. */
static int read_line(int fd, struct buf *ret, struct err *err)
{
    for (;;) {
        char ch;
        ssize_t n = read(fd, &ch, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "cannot read");
        if (n == 0 && ret->n == 0)
            return err_set(err, -ENOENT, "no input");
        if (n == 0 || ch == '\n')
            break;
        buf_put_char(ret, ch);
    }
    if (ret->n > 0 && ret->p[ret->n - 1] == '\r')
        ret->n--;
    return buf_ok(ret) ? 0 : err_set(err, ERR_LIMIT, "this is longer than %d bytes", ANSWER_MAX);
}

static int ask_hidden(const char *prompt, struct buf *ret, struct err *err)
{
    struct termios old, quiet;
    (void)fprintf(stderr, "%s: ", prompt);
    if (tcgetattr(STDIN_FILENO, &old) != 0)
        return err_errno(err, "cannot turn the terminal's echo off");
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) != 0)
        return err_errno(err, "cannot turn the terminal's echo off");
    int r = read_line(STDIN_FILENO, ret, err);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
    (void)fputc('\n', stderr);
    return r;
}

int ctl_read_secret(const struct ctl *c, const char *prompt, bool twice, struct buf *ret, struct err *err)
{
    (void)c;
    buf_init(ret, ANSWER_MAX);
    if (!isatty(STDIN_FILENO))
        return read_line(STDIN_FILENO, ret, err);
    int r = ask_hidden(prompt, ret, err);
    if (r != 0 || !twice)
        return r;
    struct buf again;
    buf_init(&again, ANSWER_MAX);
    r = ask_hidden("Once more", &again, err);
    if (r == 0 && !slice_eq(buf_slice(ret), buf_slice(&again)))
        r = err_set(err, -EINVAL, "the two are not the same");
    buf_done_secret(&again);
    return r;
}

int ctl_ask(const char *question, const char *otherwise, struct buf *ret, struct err *err)
{
    (void)fprintf(stderr, "%s [%s]: ", question, otherwise);
    buf_init(ret, ANSWER_MAX);
    int r = read_line(STDIN_FILENO, ret, err);
    if (r == 0 && slice_trim(buf_slice(ret)).n == 0) {
        buf_reset(ret);
        buf_put_str(ret, otherwise);
    }
    return r;
}

/* Without 0 o 1 l i, and without vowels, so that no words come out. 26 letters and digits: 4.7 bits each. */
void ctl_random_password(char out[CTL_PASSWORD_SIZE])
{
    static const char letters[] = "bcdfghjkmnpqrstvwxyz23456789";
    const size_t n_letters = sizeof(letters) - 1;
    size_t n = 0;
    while (n < CTL_PASSWORD_SIZE - 1) {
        uint8_t b;
        if (n % 6 == 5) {
            out[n++] = '-';
            continue;
        }
        rand_bytes(&b, 1);
        if (b < 256 / n_letters * n_letters) /* every letter equally likely */
            out[n++] = letters[b % n_letters];
    }
    out[n] = '\0';
}
