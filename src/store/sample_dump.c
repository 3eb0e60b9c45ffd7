/* store-sample DIR: makes a small store in DIR, for the test that reads it with code of its own, written from docs/STORE.md.
 * Accounts 1 and 2; one message for both, of 600,000 octets (half of it noise, half of it 'k'), flags set; its own lines "P1\r\n" and
 * "P2\r\n", common lines "C\r\n", meta "meta", event "received". The top key is that of store_testing.h. Prints the body's SHA-256. */
#include <openssl/sha.h>
#include <sys/stat.h>

#include "store/store_testing.h"

#define SIZE 600000

static struct store *store;
static int failed = 1;

static void make(void *arg)
{
    char *body = arg;
    struct err err = {0};
    uint64_t changed, modseq;
    uint32_t uid = 1;
    struct store_rcpt r[2] = {{.account = STORE_ACCOUNT(1), .prefix = SLICE("P1\r\n"), .flags = STORE_RECENT},
                              {.account = STORE_ACCOUNT(2), .prefix = SLICE("P2\r\n")}};
    struct store_accept a = {.message = id_new(), .received_ms = 1234567890123, .sender = SLICE("sender@example.org"), .common = SLICE("C\r\n"),
                             .meta = SLICE("meta"), .event = SLICE("received"), .body = slice_of(body, SIZE), .body_fd = -1, .rcpts = r,
                             .n_rcpts = 2, .want_uids = true};
    struct store_flags f = {.add = STORE_SEEN};
    int rc = store_start(store, &err);
    for (uint64_t i = 1; i <= 2 && rc == 0; i++)
        rc = store_account_create(store, STORE_ACCOUNT(i), 0, SLICE_EMPTY, &err);
    if (rc == 0)
        rc = store_accept(store, &a, &err);
    if (rc == 0)
        rc = store_flags(store, STORE_ACCOUNT(1), STORE_INBOX, &uid, 1, &f, &changed, &modseq, &err);
    if (rc != 0)
        (void)fprintf(stderr, "%s\n", err.text);
    store_stop(store);
    failed = rc != 0;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char *body = malloc(SIZE);
    int dir = argc == 2 && mkdir(argv[1], 0700) == 0 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
    struct store_options o = testing_options(dir);
    if (body == NULL || dir < 0 || loop_init(&err) != 0 || store_open(&o, &store, &err) != 0)
        return 1;
    rand_bytes(body, SIZE / 2);
    memset(body + SIZE / 2, 'k', SIZE / 2);
    (void)SHA256((const unsigned char *)body, SIZE, digest);
    if (!testing_run(make, body))
        failed = 1;
    store_free(store);
    loop_done();
    for (size_t i = 0; i < sizeof(digest); i++)
        (void)printf("%02x", digest[i]);
    (void)printf("\n");
    free(body);
    return failed;
}
