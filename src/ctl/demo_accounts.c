#include <jansson.h>
#include <stdio.h>

#include "ctl/demo.h"
#include "ctl/file.h"

#define FILE_MAX 65536

static const char *const addresses[DEMO_ACCOUNTS] = {"alice@" DEMO_DOMAIN, "bob@" DEMO_DOMAIN};

static void path_of(const char *dir, char *out, size_t size)
{
    (void)snprintf(out, size, "%s/accounts.json", dir);
}

static bool take(struct demo_accounts *a, const json_t *o)
{
    for (size_t i = 0; i < DEMO_ACCOUNTS; i++) {
        const char *password = json_string_value(json_object_get(o, addresses[i]));
        if (password == NULL || strlen(password) >= sizeof(a->rows[i].password))
            return false;
        (void)snprintf(a->rows[i].password, sizeof(a->rows[i].password), "%s", password);
    }
    a->welcomed = json_is_true(json_object_get(o, "welcomed"));
    return true;
}

int demo_accounts_load(struct demo_accounts *a, const char *dir, struct err *err)
{
    char path[4096];
    struct buf text;
    *a = (struct demo_accounts){0};
    for (size_t i = 0; i < DEMO_ACCOUNTS; i++)
        a->rows[i].address = addresses[i];
    path_of(dir, path, sizeof(path));
    buf_init(&text, FILE_MAX);
    int rc = file_read(path, &text, err);
    json_t *o = rc == 0 ? json_loadb(text.p, text.n, 0, NULL) : NULL;
    if (rc == 0 && !(a->known = take(a, o)))
        rc = err_set(err, ERR_CORRUPT, "%s cannot be understood; without it new passwords are made", path);
    json_decref(o);
    buf_done_secret(&text);
    if (rc != -ENOENT)
        return rc;
    for (size_t i = 0; i < DEMO_ACCOUNTS; i++)
        ctl_random_password(a->rows[i].password);
    return 0;
}

int demo_accounts_save(const struct demo_accounts *a, const char *dir, struct err *err)
{
    char path[4096];
    struct buf b;
    path_of(dir, path, sizeof(path));
    buf_init(&b, FILE_MAX);
    buf_put_char(&b, '{');
    for (size_t i = 0; i < DEMO_ACCOUNTS; i++)
        buf_printf(&b, "\"%s\": \"%s\", ", a->rows[i].address, a->rows[i].password);
    buf_printf(&b, "\"welcomed\": %s}\n", a->welcomed ? "true" : "false");
    int rc = file_replace(path, buf_slice(&b), 0600, err);
    buf_done_secret(&b);
    return rc;
}
