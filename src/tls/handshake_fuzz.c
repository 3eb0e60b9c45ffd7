/* The bytes of a client that never meant to speak TLS, or almost did: a handshake with the fake keyd, fed in two pieces, then the end. The
 * first byte chooses the protocol and where to cut. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "io/loop.h"
#include "tls/tls_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ticket_keys tickets;
static struct tls_server *server;

static void init_once(void)
{
    struct tls_key *keys[2];
    struct ticket_key k;
    if (server != NULL)
        return;
    fixture_init();
    keys[0] = fixture_key("P-256", "mail.example.test");
    keys[1] = fixture_key("RSA", "*.example.test");
    rand_bytes(&k, sizeof(k));
    k.expires_ms = clock_real_ms() + 360000000;
    ticket_keys_set(&tickets, &k, 1);
    server = fixture_server("compatible", &tickets, keys, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const protocols[] = {"smtp", "pop3", "imap", "sieve"};
    struct fixture_conn c = {.deadline_ms = 50};
    init_once();
    if (size < 1 || size > 65536)
        return 0;
    size_t cut = 1 + (size_t)(data[0] >> 2) * (size - 1) / 63;
    fixture_connect(&c, server, protocols[data[0] & 3]);
    (void)send(c.client_fd, data + 1, cut - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    loop_turn(0);
    loop_turn(0);
    (void)send(c.client_fd, data + cut, size - cut, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(c.client_fd, SHUT_WR);
    while (c.rc == 1)
        loop_turn(1);
    fixture_close(&c);
    return 0;
}
