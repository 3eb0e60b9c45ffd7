/* Runs a fuzz target over files and folders of past inputs: the corpus as a regression test, without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static unsigned long runs;

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rbe");
    if (f == NULL)
        return;
    static uint8_t data[1 << 20];
    size_t n = fread(data, 1, sizeof(data), f);
    (void)fclose(f);
    /* An allocation of the exact size lets the sanitizer see one byte too far. */
    uint8_t *exact = malloc(n != 0 ? n : 1);
    if (exact == NULL)
        exit(1);
    memcpy(exact, data, n);
    (void)LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    runs++;
}

static void run_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return;
    if (!S_ISDIR(st.st_mode)) {
        run_file(path);
        return;
    }
    DIR *d = opendir(path);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        char sub[4096];
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
        run_path(sub);
    }
    if (d != NULL)
        (void)closedir(d);
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize != NULL)
        (void)LLVMFuzzerInitialize(&argc, &argv);
    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++)
        run_path(argv[i]);
    printf("%lu inputs\n", runs);
    return 0;
}
