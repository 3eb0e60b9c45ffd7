/* settings.h: what of the configuration a session uses, taken over when the configuration is read, so that a reload can replace it
 * while sessions are under way: each session looks at the newest at the start of each command. Counted references. */
#ifndef KK_PROTO_SMTP_SETTINGS_H
#define KK_PROTO_SMTP_SETTINGS_H

#include "conf/conf.h"

enum smtp_helo_check { SMTP_HELO_OFF, SMTP_HELO_SYNTAX, SMTP_HELO_OWN_NAME };

struct smtp_networks {
    size_t n;
    struct netmask *masks;
};

struct smtp_settings {
    unsigned refs;
    struct arena arena;
    const char *hostname;
    struct conf_list domains;
    enum smtp_helo_check helo_check;
    uint64_t max_message_size, max_in_flight;
    uint64_t max_recipients, max_messages, max_errors, max_commands, max_received;
    uint64_t max_connections, max_connections_per_client, max_rate_per_client, max_message_rate_per_client;
    uint64_t min_data_rate;
    int64_t command_timeout, data_timeout, session_timeout, banner_delay, tarpit;
    struct smtp_networks proxy_from, xclient_from, unlimited_from;
};

/* ERR_CONFIG with a sentence, -ENOMEM. The result has one reference. */
int smtp_settings_new(const struct conf *conf, struct smtp_settings **ret, struct err *err);
struct smtp_settings *smtp_settings_ref(struct smtp_settings *s);
void smtp_settings_unref(struct smtp_settings *s); /* NULL allowed */
bool smtp_networks_have(const struct smtp_networks *n, const struct netaddr *a);

#endif
