/* sandbox_test.c: what can be shown of the sandbox without a running service (the rest: attempts from inside each role). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/sandbox.h"

enum outcome { CONFINED, OPENED_FOREIGN, OWN_REFUSED, NO_LANDLOCK, BROKEN };

static int own_dir;

static void *try_files(void *arg)
{
    enum outcome *ret = arg;
    int foreign = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    int own = openat(own_dir, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    *ret = foreign >= 0 ? OPENED_FOREIGN : own < 0 ? OWN_REFUSED : CONFINED;
    return NULL;
}

/* The order that role_main.c keeps: files are confined, then threads start. */
static enum outcome in_child(void)
{
    struct sandbox_paths paths = {.own_dir = own_dir};
    enum outcome result = BROKEN;
    pthread_t thread;
    int abi;
    if (sandbox_confine_files(ROLE_STORED, &paths, false, &abi, NULL) < 0)
        return BROKEN;
    if (abi == 0)
        return NO_LANDLOCK;
    if (pthread_create(&thread, NULL, try_files, &result) != 0 || pthread_join(thread, NULL) != 0)
        return BROKEN;
    return result;
}

static void threads_are_confined_to_the_own_directory(void **state)
{
    char path[] = "/tmp/kakitome-sandbox-XXXXXX";
    int status;
    (void)state;
    assert_non_null(mkdtemp(path));
    own_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(own_dir >= 0);
    pid_t child = fork();
    if (child == 0) {
        /* Privileges as a role has them. */
        if (sandbox_drop_privileges(0, false, NULL) < 0)
            _exit(BROKEN);
        _exit((int)in_child());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)unlinkat(own_dir, "file", 0);
    (void)close(own_dir);
    (void)rmdir(path);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_LANDLOCK)
        skip();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CONFINED);
}

/* In normal service, not probing: the process ends at once, and says why. */
static void a_denied_call_ends_the_process_and_is_told(void **state)
{
    int out[2], status;
    char line[128] = "", want[64];
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* the sanitizer makes calls of its own */
#endif
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        if (dup2(out[1], STDERR_FILENO) < 0 || sandbox_drop_privileges(0, false, NULL) < 0 ||
            sandbox_confine_calls(ROLE_FILTERD, NULL) < 0)
            _exit(1);
        (void)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
        _exit(2);
    }
    (void)close(out[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(read(out[0], line, sizeof(line) - 1) > 0);
    (void)close(out[0]);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 128 + SIGSYS);
    (void)snprintf(want, sizeof(want), "sandbox.violation syscall=%d\n", (int)SYS_socket);
    assert_non_null(strstr(line, want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_are_confined_to_the_own_directory),
                                       cmocka_unit_test(a_denied_call_ends_the_process_and_is_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
