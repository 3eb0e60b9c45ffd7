#include "conf/table.h"

#include "conf/value.h"

#define DEFAULT_BOOL(v) {.number = (v)}
#define DEFAULT_INT(v) {.number = (v)}
#define DEFAULT_SIZE(v) {.number = (v)}
#define DEFAULT_TIME(v) {.number = (v)}
#define DEFAULT_STR(v) {.text = (v)}
#define DEFAULT_LIST(v) {.text = (v)}
#define ROW(kind, section, name, otherwise, least, most, en, ja)                                                                \
    [CONF_O_##section##_##name] = {#section, #name, CONF_##kind, offsetof(struct conf, section##_##name),                       \
                                   DEFAULT_##kind(otherwise), (least), (most), (en), (ja)},
const struct conf_row conf_table[CONF_OPTION_COUNT] = {CONF_OPTIONS(ROW)};

const struct conf_section conf_sections[] = {
    {"server", "This host and what is kept", "このホストと保存場所"},
    {"log", "What the service tells on standard error", "標準エラーに出す記録"},
    {"listen", "Addresses and ports; changing them needs a restart", "待ち受けるアドレスとポート(変更には再起動が要る)"},
    {"tls", "Encryption of connections", "通信の暗号化"},
    {"smtp", "Receiving mail from other servers", "他のサーバからのメールの受信"},
    {"address", "Forms of addresses", "アドレスの形"},
    {"pop3", "Reading mail over POP3", "POP3 での受け取り"},
    {"auth", "Passwords", "パスワード"},
    {"store", "The message store", "メールの保存"},
    {"trail", "The audit trail", "証跡"},
    {NULL, NULL, NULL},
};

const char *conf_kind_name(enum conf_kind kind)
{
    static const char *const names[] = {"true or false", "a number", "a size such as 25M", "a time such as 30s", "text", "a list"};
    return names[kind];
}

void conf_print_number(struct buf *out, enum conf_kind kind, int64_t v)
{
    switch (kind) {
    case CONF_BOOL: buf_put_str(out, v != 0 ? "true" : "false"); break;
    case CONF_SIZE: conf_print_size(out, v); break;
    case CONF_TIME: conf_print_time(out, v); break;
    default: buf_printf(out, "%lld", (long long)v); break;
    }
}

void conf_print_default(struct buf *out, const struct conf_row *row)
{
    struct slice text = row->otherwise.text != NULL ? slice_str(row->otherwise.text) : SLICE_EMPTY;
    switch (row->kind) {
    case CONF_STR: buf_printf(out, "\"%s\"", text.p); break;
    case CONF_LIST:
        buf_put_char(out, '{');
        while (text.n > 0) {
            struct slice item = slice_cut(&text, ' ');
            buf_printf(out, " \"%.*s\"%s", SLICE_ARG(item), text.n > 0 ? "," : " ");
        }
        buf_put_char(out, '}');
        break;
    default: conf_print_number(out, row->kind, row->otherwise.number); break;
    }
}
