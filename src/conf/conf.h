/* conf.h: the configuration: one table of options, from which come the parsed struct, the defaults, the checks, `kakitome
 * setup`'s commented file and the manual page kakitome.conf(5).
 *
 * File grammar (parse.h): sections as blocks of assignments:  smtp { max_message_size = 25M }  Valid when empty. Every option has
 * a default. One file is all there is: nothing is included, and the environment is not read.
 * The parsed configuration is immutable; a reload makes a new one.
 *
 * OPT(kind, section, name, default, least, most, English, Japanese)
 *   BOOL bool  |  INT int64_t  |  SIZE int64_t bytes ("25M")  |  TIME int64_t milliseconds ("5m")  |  STR const char *
 *   LIST struct conf_list of strings; default is one string, "" = empty list, items separated by spaces
 * Limits are inclusive; for STR and LIST the number of bytes of an item. */
#ifndef KK_CONF_CONF_H
#define KK_CONF_CONF_H

#include "base/err.h"
#include "base/netaddr.h"
#include "base/arena.h"
#include "base/buf.h"

#define CONF_STATE_DEFAULT "/var/lib/kakitome" /* when neither server { state } nor --state says otherwise */

struct conf_list {
    size_t n;
    const char **items;
};

#define CONF_OPTIONS(OPT)                                                                                                      \
    OPT(STR, server, hostname, "localhost", 1, 255, "Name of this host in greetings and trace fields", "挨拶と Received に出すこのホストの名前")      \
    OPT(LIST, server, domains, "", 1, 255, "Domains whose mail is kept here (more: kakitome domain add)", "このサーバがメールを預かるドメイン(追加は kakitome domain add)")         \
    OPT(STR, server, state, "", 0, 4000, "Directory of everything that is kept; set by the command line when empty", "すべてを保存するディレクトリ(空ならコマンド行で指定)") \
    OPT(BOOL, server, ipv6, true, 0, 1, "Use IPv6", "IPv6 を使う")                                                              \
    OPT(INT, server, processes, 0, 0, 64, "Processes for each network role; 0: by the number of processors", "ネットワーク系の役ごとのプロセス数(0 はプロセッサ数から決める)") \
    OPT(INT, server, uid_base, 60600, 1000, 60000000, "First user id of the roles when started as root and no kakitome-* users exist", "root で起動し kakitome-* ユーザが無いときの役のユーザ ID の始め") \
    OPT(BOOL, server, require_landlock, true, 0, 1, "Refuse to start on a kernel without Landlock", "Landlock の無いカーネルでは起動しない") \
    OPT(STR, log, level, "info", 1, 10, "debug, info, warning or error", "debug, info, warning, error のいずれか")             \
    OPT(STR, log, format, "text", 1, 10, "text or json", "text または json")                                                   \
    OPT(LIST, listen, smtp, "*:25", 1, 100, "Incoming mail from other servers (address:port)", "他サーバからの受信(アドレス:ポート)")      \
    OPT(LIST, listen, lmtp, "", 1, 100, "LMTP", "LMTP")                                                                        \
    OPT(LIST, listen, pop3, "*:110", 1, 100, "POP3 with STLS", "POP3(STLS)")                                                   \
    OPT(LIST, listen, pop3s, "*:995", 1, 100, "POP3 over TLS", "POP3(TLS)")                                                     \
    OPT(LIST, listen, proxy_from, "", 1, 100, "Networks that must speak the PROXY protocol (SMTP and LMTP)", "PROXY プロトコルを話すネットワーク(SMTP と LMTP)")   \
    OPT(LIST, listen, xclient_from, "", 1, 100, "Networks that may use XCLIENT", "XCLIENT を使えるネットワーク")                \
    OPT(LIST, tls, certificates, "", 1, 4000, "PEM files: certificate chain and private key; only keyd reads them", "証明書と秘密鍵の PEM ファイル(keyd だけが読む)") \
    OPT(STR, tls, policy, "cryptrec", 1, 20, "Cipher policy: cryptrec, modern or compatible", "暗号方針: cryptrec, modern, compatible") \
    OPT(TIME, tls, ticket_rotation, 3600000, 60000, 86400000, "How often session ticket keys change", "セッションチケット鍵の更新間隔") \
    OPT(TIME, tls, handshake_timeout, 20000, 1000, 300000, "Time for a handshake", "ハンドシェイクの時間")                      \
    OPT(SIZE, smtp, max_message_size, 52428800, 65536, 2147483647, "Largest message accepted", "受け入れるメールの最大の大きさ")    \
    OPT(SIZE, smtp, max_in_flight, 536870912, 1048576, 1099511627776, "Bytes of messages being received, all connections together", "受信中のメールの総量") \
    OPT(INT, smtp, max_recipients, 100, 1, 1000, "Recipients of one message", "1 通の宛先数")                                    \
    OPT(INT, smtp, max_messages, 1000, 1, 1000000000, "Messages of one connection", "1 接続の通数")                               \
    OPT(INT, smtp, max_errors, 20, 1, 10000, "Errors before a connection is closed", "接続を切るまでの誤り数")                     \
    OPT(INT, smtp, max_commands, 100000, 10, 1000000000, "Commands of one connection", "1 接続のコマンド数")                       \
    OPT(INT, smtp, max_connections, 10000, 1, 100000, "Connections at a time", "同時接続数")                                       \
    OPT(INT, smtp, max_connections_per_client, 50, 1, 100000, "Connections at a time of one IPv4 address or IPv6 /64", "IPv4 アドレスまたは IPv6 /64 ごとの同時接続数") \
    OPT(INT, smtp, max_rate_per_client, 600, 1, 1000000000, "New connections a minute of one IPv4 address or IPv6 /64", "同じく 1 分当たりの新規接続数") \
    OPT(INT, smtp, max_message_rate_per_client, 6000, 1, 1000000000, "Messages a minute of one IPv4 address or IPv6 /64", "同じく 1 分当たりの通数") \
    OPT(INT, smtp, max_received, 50, 5, 1000, "Received fields before a message is taken for looping", "ループとみなす Received の数") \
    OPT(TIME, smtp, command_timeout, 300000, 1000, 3600000, "Wait for a command (RFC 5321 4.5.3.2.7: five minutes)", "コマンドを待つ時間") \
    OPT(TIME, smtp, data_timeout, 180000, 1000, 3600000, "Wait for each part of a message", "本文の各部分を待つ時間")              \
    OPT(TIME, smtp, session_timeout, 7200000, 10000, 86400000, "Longest connection", "接続の最長時間")                            \
    OPT(INT, smtp, min_data_rate, 100, 0, 1000000, "Bytes a second that a sender must reach within a message, after a minute", "本文受信の最低速度(1 分後から, 毎秒バイト)") \
    OPT(TIME, smtp, banner_delay, 0, 0, 60000, "Wait before the greeting; who speaks first is refused", "挨拶までの待ち時間(先に話す相手は断る)") \
    OPT(TIME, smtp, tarpit, 1000, 0, 60000, "Delay of each answer to an error, after the third", "4 回目からの誤りへの応答の遅れ")      \
    OPT(STR, smtp, helo_check, "syntax", 1, 20, "off, syntax or own-name: refuse HELO names that are no names, or are ours", "HELO の検査: off, syntax, own-name") \
    OPT(LIST, smtp, unlimited_from, "", 1, 100, "Networks without limits of rate and number", "速度と数の制限を受けないネットワーク")     \
    OPT(STR, address, delimiter, "+", 0, 1, "Separates a sub-address (user+detail); empty: none", "サブアドレスの区切り(空なら無し)")   \
    OPT(BOOL, pop3, plaintext_login, false, 0, 1, "Allow login without TLS: passwords can be read on the way", "TLS なしのログインを許す(パスワードが途中で読まれる)") \
    OPT(INT, pop3, max_connections, 10000, 1, 100000, "Connections at a time", "同時接続数")                                       \
    OPT(INT, pop3, max_connections_per_client, 50, 1, 100000, "Connections at a time of one IPv4 address or IPv6 /64", "IPv4 アドレスまたは IPv6 /64 ごとの同時接続数") \
    OPT(TIME, pop3, login_timeout, 60000, 1000, 3600000, "Time until login", "ログインまでの時間")                                  \
    OPT(TIME, pop3, idle_timeout, 600000, 10000, 86400000, "Wait for a command (RFC 1939: at least ten minutes)", "コマンドを待つ時間") \
    OPT(TIME, auth, failure_delay, 2000, 0, 60000, "Delay of the answer to a wrong password", "誤ったパスワードへの応答の遅れ")      \
    OPT(INT, auth, max_failures, 10, 1, 1000, "Wrong passwords of one account from one network in a quarter of an hour before refusal", "同一アカウント・同一ネットワークで 15 分間に許す失敗数") \
    OPT(SIZE, auth, argon2_memory, 19922944, 8388608, 1073741824, "Memory of one password hash (Argon2id)", "パスワードハッシュ(Argon2id)のメモリ") \
    OPT(INT, auth, argon2_passes, 2, 1, 20, "Passes of one password hash", "パスワードハッシュの反復数")                            \
    OPT(TIME, auth, cache, 300000, 0, 3600000, "How long a proved password is remembered in memory (as a keyed digest); 0: never", "確かめたパスワードを(鍵付きダイジェストで)覚える時間") \
    OPT(SIZE, store, segment_size, 268435456, 1048576, 4294967296, "Size of a segment file", "セグメントファイルの大きさ")             \
    OPT(INT, store, zstd_level, 1, 1, 19, "Compression level", "圧縮レベル")                                                       \
    OPT(SIZE, store, default_quota, 0, 0, 1125899906842624, "Quota of a new account; 0: none", "新しいアカウントの容量(0 は無制限)") \
    OPT(SIZE, store, index_map, 68719476736, 16777216, 17592186044416, "Address space of the index (not disk space)", "索引のアドレス空間(ディスク量ではない)") \
    OPT(SIZE, store, reserve, 67108864, 0, 1099511627776, "Free disk below which new mail is put off (452)", "新しいメールを断る空き容量") \
    OPT(SIZE, trail, file_size, 268435456, 65536, 17179869184, "Size of a trail file before the next is begun", "証跡ファイルの大きさ") \
    OPT(INT, trail, outbox_limit, 100000, 100, 10000000, "Events that may wait for a trail that cannot be written before mail is put off", "証跡に書けないとき待てる事象の数") \
    OPT(TIME, trail, login_wait, 5000, 100, 60000, "How long a login waits until it is in the trail; then it is refused", "ログインが証跡に書かれるのを待つ時間(過ぎれば断る)")

#define CONF_C_BOOL bool
#define CONF_C_INT int64_t
#define CONF_C_SIZE int64_t
#define CONF_C_TIME int64_t
#define CONF_C_STR const char *
#define CONF_C_LIST struct conf_list
#define CONF_MEMBER_(kind, section, name, ...) CONF_C_##kind section##_##name;

/* Members are named section_name: conf->smtp_max_message_size. */
struct conf {
    CONF_OPTIONS(CONF_MEMBER_)
    struct arena *arena;   /* owns everything above */
    const unsigned *lines; /* where each option of the table was set; 0: it has its default */
    uint64_t version;     /* of the kept file; 0: none */
};

/* m_listener.protocol */
enum listener_protocol { LISTEN_SMTP, LISTEN_LMTP, LISTEN_SUBMISSION, LISTEN_POP3, LISTEN_IMAP, LISTEN_PROTOCOLS };

/* Parses and checks syntax, names, types and ranges. Every problem is reported through report ("file:line: sentence"), not only the
 * first; ERR_CONFIG when there was one. name: what to call the file. */
typedef void conf_report_fn(void *arg, bool is_error, const char *sentence);
int conf_parse(struct slice text, const char *name, conf_report_fn *report, void *arg, struct conf **ret);
/* Checks the configuration as a whole, with what it names outside of itself: certificates present, readable and
 * matching, unsafe combinations (warnings), listeners that clash, state directory. */
int conf_check(const struct conf *c, const char *name, conf_report_fn *report, void *arg);
void conf_free(struct conf *c);
/* The whole file with comments in both languages, valid as it is. What is not set stands there as a comment with its default.
 * set: "section.name=value"; the items of a LIST separated by spaces. hostname, domain: NULL leaves the default. */
void conf_print_template(struct buf *out, const char *hostname, const char *domain, const char *const *set, size_t n_set);
/* "address:port" of a listener; "*" for all addresses sets ret_any. false when it is neither. */
bool conf_listener(const char *text, struct netaddr *ret, bool *ret_any);
/* The networks of a LIST of addresses; ERR_CONFIG names the bad one. */
int conf_networks(const struct conf_list *l, struct arena *a, struct netmask **ret, size_t *ret_n, struct err *err);

/* Kept versions: <state>/config/<number>.conf and an index with who, when, why. */
struct conf_version {
    uint64_t number;
    int64_t time_ms;
    const char *who, *why;
};
/* Keeps the text as the newest version, unless it equals the newest, whose number is then given. */
int conf_history_add(int state_dir, struct slice text, const char *who, const char *why, uint64_t *ret_number, struct err *err);
int conf_history_list(int state_dir, struct arena *a, struct conf_version **ret, size_t *ret_n, struct err *err);
int conf_history_read(int state_dir, uint64_t number, struct buf *ret_text, struct err *err);

#endif
