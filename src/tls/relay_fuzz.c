/* A connection after its handshake (made once for each input, by a real client), then raw bytes from the network and from the plain end,
 * ends and half-ends, in the order that the input says: pairs of {what, length}. */
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "io/loop.h"
#include "tls/tls_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ticket_keys tickets;
static struct tls_server *server;

struct client {
    struct fixture_conn c;
    SSL_CTX *ctx;
    SSL *ssl;
    int rc;
};

static void init_once(void)
{
    struct tls_key *key;
    if (server != NULL)
        return;
    fixture_init();
    key = fixture_key("P-256", "mail.example.test");
    server = fixture_server("cryptrec", &tickets, &key, 1);
}

static void run_client(void *arg)
{
    struct client *k = arg;
    k->ctx = fixture_client_ctx(TLS1_2_VERSION, TLS1_3_VERSION);
    k->ssl = SSL_new(k->ctx);
    k->rc = fixture_client_handshake(k->ssl, k->c.client_fd);
}

static void act(struct client *k, uint8_t what, const uint8_t *p, size_t n)
{
    char in[4096];
    switch (what & 7) {
    case 0: (void)send(k->c.client_fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT); break;
    case 1:
        ERR_clear_error();
        (void)SSL_write(k->ssl, p, (int)n);
        break;
    case 2: (void)send(k->c.plain, p, n, MSG_NOSIGNAL | MSG_DONTWAIT); break;
    case 3: (void)recv(k->c.plain, in, n < sizeof(in) ? n : sizeof(in), MSG_DONTWAIT); break;
    case 4:
        ERR_clear_error();
        (void)SSL_read(k->ssl, in, n != 0 && n < sizeof(in) ? (int)n : (int)sizeof(in));
        break;
    case 5: (void)shutdown(k->c.plain, SHUT_WR); break;
    case 6:
        ERR_clear_error();
        (void)SSL_shutdown(k->ssl);
        break;
    default: (void)shutdown(k->c.client_fd, SHUT_WR); break;
    }
    loop_turn(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client k = {.rc = 1};
    init_once();
    fixture_connect(&k.c, server, "smtp");
    if (fiber_start("client", run_client, &k, NULL) != 0)
        abort();
    while (k.c.rc == 1 || k.rc == 1)
        loop_turn(1);
    while (size >= 2) {
        size_t n = data[1] < size - 2 ? data[1] : size - 2;
        act(&k, data[0], data + 2, n);
        data += 2 + n;
        size -= 2 + n;
    }
    SSL_free(k.ssl);
    SSL_CTX_free(k.ctx);
    ERR_clear_error();
    fixture_close(&k.c);
    return 0;
}
