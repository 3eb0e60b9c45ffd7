/* POP3's sentences in two languages: see text.h. */
#include "proto/pop3/text.h"

struct text {
    const char *status;
    const char *sentence[POP3_N_LANGS];
};
#define ROW(name, status, en, ja) {(status), {(en), (ja)}},
static const struct text texts[POP3_N_TEXTS] = {POP3_TEXTS(ROW)};

static const struct {
    const char *tag, *self;
} langs[POP3_N_LANGS] = {
    [POP3_EN] = {"en", "English"},
    [POP3_JA] = {"ja", "日本語"},
};

bool pop3_lang_find(struct slice range, enum pop3_lang *ret)
{
    if (slice_eq(range, SLICE("*")) || slice_ieq(range, SLICE("i-default"))) {
        *ret = POP3_EN;
        return true;
    }
    struct slice primary = slice_head(range, slice_find(range, '-'));
    for (unsigned i = 0; i < POP3_N_LANGS; i++) {
        if (slice_ieq(primary, slice_str(langs[i].tag))) {
            *ret = (enum pop3_lang)i;
            return true;
        }
    }
    return false;
}

const char *pop3_lang_tag(enum pop3_lang lang)
{
    return langs[lang].tag;
}

int pop3_reply(struct stream *s, enum pop3_lang lang, enum pop3_text text)
{
    return pop3_reply_n(s, lang, text, 0, 0);
}

/* Puts the two numbers where the sentence wants them: formats that come from a table are not for printf. */
int pop3_reply_n(struct stream *s, enum pop3_lang lang, enum pop3_text text, uint64_t a, uint64_t b)
{
    static const char mark[] = "%llu";
    const uint64_t numbers[2] = {a, b};
    char line[512]; /* RFC 2449 4: answers have at most 512 octets */
    size_t n = (size_t)snprintf(line, sizeof(line), "%s ", texts[text].status);
    const char *p = texts[text].sentence[lang];
    for (unsigned i = 0; i < 2; i++) {
        const char *at = strstr(p, mark);
        if (at == NULL)
            break;
        n += (size_t)snprintf(line + n, sizeof(line) - n, "%.*s%llu", (int)(at - p), p, (unsigned long long)numbers[i]);
        p = at + sizeof(mark) - 1;
    }
    n += (size_t)snprintf(line + n, sizeof(line) - n, "%s\r\n", p);
    return stream_write(s, line, n);
}

bool pop3_text_is_ok(enum pop3_text text)
{
    return texts[text].status[0] == '+';
}

int pop3_answer_lang(struct stream *s, const struct slice *range, enum pop3_lang *lang)
{
    if (range != NULL) {
        if (!pop3_lang_find(*range, lang))
            return pop3_reply(s, *lang, POP3_T_BAD_LANG);
        return stream_printf(s, "+OK %s %s\r\n", pop3_lang_tag(*lang), texts[POP3_T_DONE].sentence[*lang]);
    }
    int rc = pop3_reply(s, *lang, POP3_T_LANGS_FOLLOW);
    for (unsigned i = 0; i < POP3_N_LANGS && rc == 0; i++)
        rc = stream_printf(s, "%s %s\r\n", langs[i].tag, langs[i].self);
    return rc != 0 ? rc : stream_write(s, ".\r\n", 3);
}
