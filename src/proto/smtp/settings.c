/* A session's settings: see settings.h. */
#include "proto/smtp/settings.h"

#define SETTINGS_MAX (256 * 1024)

static int networks_take(const struct conf_list *l, const char *option, struct arena *a, struct smtp_networks *ret, struct err *err)
{
    ret->n = l->n;
    ret->masks = arena_array(a, l->n, sizeof(*ret->masks));
    if (ret->masks == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < l->n; i++)
        if (!netmask_parse(slice_str(l->items[i]), &ret->masks[i]))
            return err_set(err, ERR_CONFIG, "%s: \"%s\" is not a network like 192.0.2.0/24 or 2001:db8::/32", option, l->items[i]);
    return 0;
}

static int helo_check_take(const char *text, enum smtp_helo_check *ret, struct err *err)
{
    static const char *const names[] = {"off", "syntax", "own-name"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (slice_eq(slice_str(text), slice_str(names[i]))) {
            *ret = (enum smtp_helo_check)i;
            return 0;
        }
    return err_set(err, ERR_CONFIG, "smtp.helo_check: \"%s\" is not off, syntax or own-name", text);
}

static int domains_copy(const struct conf_list *l, struct arena *a, struct conf_list *ret)
{
    ret->n = l->n;
    ret->items = arena_array(a, l->n, sizeof(*ret->items));
    if (ret->items == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < l->n; i++) {
        ret->items[i] = arena_strdup(a, slice_str(l->items[i]));
        if (ret->items[i] == NULL)
            return -ENOMEM;
    }
    return 0;
}

static void numbers_take(const struct conf *c, struct smtp_settings *s)
{
    s->max_message_size = (uint64_t)c->smtp_max_message_size;
    s->max_in_flight = (uint64_t)c->smtp_max_in_flight;
    s->max_recipients = (uint64_t)c->smtp_max_recipients;
    s->max_messages = (uint64_t)c->smtp_max_messages;
    s->max_errors = (uint64_t)c->smtp_max_errors;
    s->max_commands = (uint64_t)c->smtp_max_commands;
    s->max_received = (uint64_t)c->smtp_max_received;
    s->max_connections = (uint64_t)c->smtp_max_connections;
    s->max_connections_per_client = (uint64_t)c->smtp_max_connections_per_client;
    s->max_rate_per_client = (uint64_t)c->smtp_max_rate_per_client;
    s->max_message_rate_per_client = (uint64_t)c->smtp_max_message_rate_per_client;
    s->min_data_rate = (uint64_t)c->smtp_min_data_rate;
    s->command_timeout = c->smtp_command_timeout;
    s->data_timeout = c->smtp_data_timeout;
    s->session_timeout = c->smtp_session_timeout;
    s->banner_delay = c->smtp_banner_delay;
    s->tarpit = c->smtp_tarpit;
}

int smtp_settings_new(const struct conf *conf, struct smtp_settings **ret, struct err *err)
{
    struct smtp_settings *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->refs = 1;
    arena_init(&s->arena, SETTINGS_MAX);
    numbers_take(conf, s);
    s->hostname = arena_strdup(&s->arena, slice_str(conf->server_hostname));
    int rc = s->hostname == NULL ? -ENOMEM : helo_check_take(conf->smtp_helo_check, &s->helo_check, err);
    if (rc == 0)
        rc = domains_copy(&conf->server_domains, &s->arena, &s->domains);
    if (rc == 0)
        rc = networks_take(&conf->listen_proxy_from, "listen.proxy_from", &s->arena, &s->proxy_from, err);
    if (rc == 0)
        rc = networks_take(&conf->listen_xclient_from, "listen.xclient_from", &s->arena, &s->xclient_from, err);
    if (rc == 0)
        rc = networks_take(&conf->smtp_unlimited_from, "smtp.unlimited_from", &s->arena, &s->unlimited_from, err);
    if (rc != 0)
        smtp_settings_unref(s);
    else
        *ret = s;
    return rc;
}

struct smtp_settings *smtp_settings_ref(struct smtp_settings *s)
{
    s->refs++;
    return s;
}

void smtp_settings_unref(struct smtp_settings *s)
{
    if (s == NULL || --s->refs > 0)
        return;
    arena_done(&s->arena);
    free(s);
}

bool smtp_networks_have(const struct smtp_networks *n, const struct netaddr *a)
{
    for (size_t i = 0; i < n->n; i++)
        if (netmask_has(&n->masks[i], a))
            return true;
    return false;
}
