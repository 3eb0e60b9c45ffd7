/* demo_welcome.c: the first message of a demonstration, sent over SMTP. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "ctl/demo.h"

#define ANSWER_SECONDS 30

static const char body[] =
    "ようこそ書留へ。\r\n"
    "\r\n"
    "このメールは SMTP で受け取られ、確実に保存されてから受領が応答され、POP3 で読まれています。\r\n"
    "受け取りから読み出しまで、一つ一つの引き渡しが証跡に記録されています。\r\n"
    "\r\n"
    "    kakitome trail          証跡を見る\r\n"
    "    kakitome status         プロセスを見る\r\n"
    "    kakitome account list   アカウントを見る\r\n"
    "\r\n"
    "Welcome to Kakitome.\r\n"
    "\r\n"
    "This message was received over SMTP, was durable on disk before it was acknowledged, and is\r\n"
    "being read over POP3. Every hand-over on its way has been written down in the audit trail.\r\n"
    "\r\n"
    "    kakitome trail          shows the trail\r\n"
    "    kakitome status         shows the processes\r\n"
    "    kakitome account list   shows the accounts\r\n";

static int connect_to(unsigned port, int *ret, struct err *err)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, "socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0) {
        *ret = fd;
        return 0;
    }
    int rc = err_errno(err, "SMTP on port %u", port);
    (void)close(fd);
    return rc;
}

/* Reads one answer, whose last line has a space behind its code. */
static int read_answer(int fd, char class, struct err *err)
{
    char text[4096];
    size_t n = 0, line = 0;
    while (n < sizeof(text) - 1) {
        ssize_t got = recv(fd, text + n, sizeof(text) - 1 - n, 0);
        if (got <= 0)
            return err_set(err, -EIO, "SMTP: no answer");
        n += (size_t)got;
        text[n] = '\0';
        for (char *end; (end = strstr(text + line, "\r\n")) != NULL; line = (size_t)(end - text) + 2)
            if (end - (text + line) >= 3 && text[line + 3] != '-')
                return text[line] == class ? 0
                                           : err_set(err, -EIO, "SMTP: %.*s", (int)(end - (text + line)), text + line);
    }
    return err_set(err, ERR_LIMIT, "SMTP: the answer is too long");
}

static int say(int fd, char class, struct err *err, const char *text, size_t n)
{
    if (send(fd, text, n, MSG_NOSIGNAL) != (ssize_t)n)
        return err_errno(err, "SMTP");
    return read_answer(fd, class, err);
}

static int command(int fd, char class, struct err *err, const char *verb, const char *address, const char *rest)
{
    char line[600];
    int n = snprintf(line, sizeof(line), "%s%s%s\r\n", verb, address, rest);
    return say(fd, class, err, line, (size_t)n);
}

static int send_one(int fd, const char *to, struct err *err)
{
    char date[CLOCK_RFC5322_SIZE], id[ID_TEXT_SIZE];
    struct buf message;
    clock_print_rfc5322(clock_real_ms(), date);
    id_print(id_new(), id);
    buf_init(&message, 65536);
    buf_printf(&message,
               "Date: %s\r\nFrom: Kakitome <postmaster@" DEMO_DOMAIN ">\r\nTo: <%s>\r\n"
               "Subject: =?UTF-8?B?44KI44GG44GT44Gd5pu455WZ44G4?= / Welcome to Kakitome\r\nMessage-ID: <%s@" DEMO_HOSTNAME ">\r\n"
               "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s.\r\n",
               date, to, id, body);
    int rc = command(fd, '2', err, "MAIL FROM:<", "postmaster@" DEMO_DOMAIN, "> BODY=8BITMIME");
    if (rc == 0)
        rc = command(fd, '2', err, "RCPT TO:<", to, ">");
    if (rc == 0)
        rc = command(fd, '3', err, "DATA", "", "");
    if (rc == 0)
        rc = say(fd, '2', err, message.p, message.n);
    buf_done(&message);
    return rc;
}

int demo_welcome(const struct demo_accounts *a, unsigned smtp_port, struct err *err)
{
    int fd = -1;
    int rc = connect_to(smtp_port, &fd, err);
    if (rc != 0)
        return rc;
    rc = read_answer(fd, '2', err);
    if (rc == 0)
        rc = command(fd, '2', err, "EHLO ", DEMO_HOSTNAME, "");
    for (size_t i = 0; rc == 0 && i < DEMO_ACCOUNTS; i++)
        rc = send_one(fd, a->rows[i].address, err);
    if (rc == 0)
        rc = command(fd, '2', err, "QUIT", "", "");
    (void)close(fd);
    return rc;
}
