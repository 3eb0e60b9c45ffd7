/* text.h: every sentence that POP3 says to a person, in the languages of LANG (RFC 6856 section 3), and the answers' frame. */
#ifndef KK_PROTO_POP3_TEXT_H
#define KK_PROTO_POP3_TEXT_H

#include "io/stream.h"

/* name, status ("+OK" or "-ERR" with the response code of RFC 2449, 3206 or 6856), English, Japanese. %llu: a number. */
#define POP3_TEXTS(T)                                                                                                         \
    T(GREETING, "+OK", "Kakitome POP3 ready", "Kakitome POP3 の準備ができました")                                              \
    T(BYE, "+OK", "Bye", "さようなら")                                                                                        \
    T(DONE, "+OK", "Done", "完了しました")                                                                                    \
    T(CAPA_FOLLOWS, "+OK", "Capability list follows", "機能の一覧です")                                                       \
    T(LANGS_FOLLOW, "+OK", "Language listing follows", "言語の一覧です")                                                      \
    T(SASL_FOLLOWS, "+OK", "SASL mechanisms follow", "SASL 方式の一覧です")                                                   \
    T(BEGIN_TLS, "+OK", "Begin TLS negotiation", "TLS を始めてください")                                                      \
    T(UTF8_ON, "+OK", "UTF8 enabled", "UTF8 を有効にしました")                                                                \
    T(SEND_PASS, "+OK", "Send PASS", "PASS を送ってください")                                                                 \
    T(DELETED, "+OK", "Marked for deletion", "削除の印を付けました")                                                          \
    T(QUIT_DELETED, "+OK", "Bye (%llu messages deleted)", "さようなら(%llu 通を削除しました)")                                \
    T(LOGGED_IN, "+OK", "Maildrop has %llu messages (%llu octets)", "メールは %llu 通(%llu オクテット)あります")              \
    T(LIST_FOLLOWS, "+OK", "%llu messages (%llu octets)", "%llu 通(%llu オクテット)")                                         \
    T(UIDL_FOLLOWS, "+OK", "Unique-id listing follows", "一意識別子の一覧です")                                               \
    T(OCTETS, "+OK", "%llu octets", "%llu オクテット")                                                                        \
    T(TOP_FOLLOWS, "+OK", "Top of message follows", "メールの先頭です")                                                       \
    T(BAD_LINE, "-ERR", "Line is not UTF-8 text", "行が UTF-8 の文字列ではありません")                                        \
    T(LINE_TOO_LONG, "-ERR", "Line too long", "行が長すぎます")                                                               \
    T(UNKNOWN, "-ERR", "Unknown command", "知らないコマンドです")                                                             \
    T(WRONG_STATE, "-ERR", "Command not allowed in this state", "この状態では使えないコマンドです")                           \
    T(BAD_ARGS, "-ERR", "Wrong arguments", "引数が正しくありません")                                                          \
    T(TOO_MANY_ERRORS, "-ERR", "Too many errors, closing", "誤りが多すぎるので切断します")                                    \
    T(NO_TLS_LOGIN, "-ERR", "Start TLS first: passwords are not taken over an open line",                                     \
      "先に TLS を始めてください(暗号化されていない接続ではパスワードを受け付けません)")                                      \
    T(NEED_USER, "-ERR", "Send USER first", "先に USER を送ってください")                                                     \
    T(BAD_LOGIN, "-ERR [AUTH]", "Wrong user name or password", "ユーザ名またはパスワードが違います")                          \
    T(DISABLED, "-ERR [AUTH]", "This account cannot be used now; ask your administrator",                                     \
      "このアカウントは現在使えません。管理者にお尋ねください")                                                              \
    T(SLOW_DOWN, "-ERR [AUTH]", "Too many wrong passwords; try again later", "パスワードの誤りが多すぎます。後でお試しください") \
    T(AUTH_TEMPORARY, "-ERR [SYS/TEMP]", "Login is not possible at the moment", "現在ログインできません")                     \
    T(IN_USE, "-ERR [IN-USE]", "Maildrop is open in another session", "メールボックスはほかのセッションで使用中です")         \
    T(BAD_MECHANISM, "-ERR", "Unknown SASL mechanism", "知らない SASL 方式です")                                              \
    T(BAD_SASL, "-ERR", "Malformed SASL message", "SASL の形式が正しくありません")                                            \
    T(CANCELLED, "-ERR", "Authentication cancelled", "認証を取りやめました")                                                  \
    T(TLS_ACTIVE, "-ERR", "TLS is already active", "すでに TLS を使っています")                                               \
    T(STLS_AFTER_UTF8, "-ERR", "STLS is not allowed after UTF8", "UTF8 の後に STLS は使えません")                             \
    T(BAD_LANG, "-ERR", "Language not known", "その言語はありません")                                                         \
    T(NO_MESSAGE, "-ERR", "No such message", "そのメールはありません")                                                        \
    T(IS_DELETED, "-ERR", "Message is marked for deletion", "そのメールには削除の印が付いています")                           \
    T(GONE, "-ERR", "Message is gone", "そのメールはもうありません")                                                          \
    T(READ_TEMPORARY, "-ERR [SYS/TEMP]", "Message cannot be read at the moment", "現在そのメールを読めません")                \
    T(READ_PERMANENT, "-ERR [SYS/PERM]", "Message is damaged; ask your administrator",                                        \
      "そのメールは壊れています。管理者にお尋ねください")                                                                    \
    T(NOT_REMOVED, "-ERR [SYS/TEMP]", "Some deleted messages not removed", "削除できなかったメールがあります")                \
    T(REVOKED, "-ERR [AUTH]", "Access to this mailbox has been withdrawn", "このメールボックスへのアクセスは取り消されました") \
    T(STORE_GONE, "-ERR [SYS/TEMP]", "Mail store restarted, please reconnect", "メール保管庫が再起動しました。接続し直してください") \
    T(SHUTDOWN, "-ERR [SYS/TEMP]", "Service is stopping, please reconnect", "サービスを停止します。接続し直してください")

enum pop3_text {
#define POP3_TEXT_ENUM_(name, ...) POP3_T_##name,
    POP3_TEXTS(POP3_TEXT_ENUM_) POP3_N_TEXTS
};

enum pop3_lang { POP3_EN, POP3_JA, POP3_N_LANGS };

/* RFC 4647 3.4 lookup of a basic language range: "ja-JP" gives Japanese. "*" and "i-default" give English. */
bool pop3_lang_find(struct slice range, enum pop3_lang *ret);
const char *pop3_lang_tag(enum pop3_lang lang);

/* One line: status, sentence. The sentences with %llu take a and b. */
int MAY_YIELD pop3_reply(struct stream *s, enum pop3_lang lang, enum pop3_text text);
int MAY_YIELD pop3_reply_n(struct stream *s, enum pop3_lang lang, enum pop3_text text, uint64_t a, uint64_t b);
bool pop3_text_is_ok(enum pop3_text text);

/* LANG with and without argument (RFC 6856 section 3); changes *lang when it succeeds. Returns a stream's code. */
int MAY_YIELD pop3_answer_lang(struct stream *s, const struct slice *range, enum pop3_lang *lang);

#endif
