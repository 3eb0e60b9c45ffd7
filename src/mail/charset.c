/* Character sets to UTF-8: see charset.h. The converters are the one piece of state of this directory: they are opened once, hold
 * no text between two calls (each is reset before use), and cannot be passed along without tying every parser to them. */
#include "mail/charset.h"

#include <iconv.h>

#include "base/utf8.h"

enum how { BY_ICONV, BY_UTF8, BY_ASCII, BY_JIS, BY_UTF16, BY_ISO2022KR };

struct charset {
    const char *iconv_name;
    enum how how;
    const char *labels; /* lower case, separated by spaces */
};

/* Order: what is common first. The escape-ridden ISO-2022-CN-EXT is left out on purpose. */
static const struct charset charsets[] = {
    {NULL, BY_UTF8, "utf-8 utf8 unicode-1-1-utf-8 cp65001 x-utf-8 utf-8n"},
    {NULL, BY_ASCII,
     "us-ascii ascii ansi_x3.4-1968 ansi_x3.4-1986 iso-ir-6 iso646-us us csascii 646 cp367 unknown-8bit "
     "x-unknown unknown default"},
    {"ISO-2022-JP-2", BY_JIS,
     "iso-2022-jp csiso2022jp iso-2022-jp-1 iso-2022-jp-2 csiso2022jp2 iso-2022-jp-ms cp50220 cp50221 cp50222 "
     "x-iso-2022-jp iso2022jp iso-2022-jp-ext iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_ext jis jis7"},
    {"CP932", BY_ICONV,
     "shift_jis shift-jis sjis x-sjis ms_kanji csshiftjis windows-31j cswindows31j cp932 ms932 windows-932 "
     "x-ms-cp932 s_jis"},
    {"EUC-JP-MS", BY_ICONV, "euc-jp x-euc-jp eucjp euc_jp ujis cseucpkdfmtjapanese cp51932 cp20932 eucjp-ms euc-jp-ms u-jis"},
    {"CP1252", BY_ICONV,
     "iso-8859-1 iso8859-1 iso_8859-1 iso_8859-1:1987 latin1 latin-1 l1 iso-ir-100 csisolatin1 ibm819 cp819 "
     "iso88591 windows-1252 cp1252 x-cp1252 ansi x-ansi"},
    {"ISO-8859-2", BY_ICONV, "iso-8859-2 iso8859-2 iso_8859-2 latin2 l2 csisolatin2 iso88592"},
    {"ISO-8859-3", BY_ICONV, "iso-8859-3 iso8859-3 iso_8859-3 latin3 l3 csisolatin3 iso8859_3"},
    {"ISO-8859-4", BY_ICONV, "iso-8859-4 iso8859-4 iso_8859-4 latin4 l4 csisolatin4"},
    {"ISO-8859-5", BY_ICONV, "iso-8859-5 iso8859-5 iso_8859-5 cyrillic csisolatincyrillic iso8859_5"},
    {"ISO-8859-6", BY_ICONV,
     "iso-8859-6 iso8859-6 iso_8859-6 arabic csisolatinarabic iso-8859-6-e iso-8859-6-i asmo-708 ecma-114"},
    {"ISO-8859-7", BY_ICONV, "iso-8859-7 iso8859-7 iso_8859-7 greek greek8 csisolatingreek iso8859_7 ecma-118 elot_928"},
    {"ISO-8859-8", BY_ICONV,
     "iso-8859-8 iso8859-8 iso_8859-8 hebrew csisolatinhebrew iso-8859-8-i iso-8859-8-e logical visual "
     "iso8859_8"},
    {"CP1254", BY_ICONV, "iso-8859-9 iso8859-9 iso_8859-9 latin5 l5 csisolatin5 windows-1254 cp1254 x-cp1254 iso8859_9"},
    {"ISO-8859-10", BY_ICONV, "iso-8859-10 iso8859-10 latin6 l6 csisolatin6"},
    {"TIS-620", BY_ICONV, "tis-620 tis620 tis620.2533 iso-8859-11 iso8859-11 iso-ir-166"},
    {"ISO-8859-13", BY_ICONV, "iso-8859-13 iso8859-13 latin7"},
    {"ISO-8859-14", BY_ICONV, "iso-8859-14 iso8859-14 latin8 iso-celtic"},
    {"ISO-8859-15", BY_ICONV, "iso-8859-15 iso8859-15 iso_8859-15 latin-9 latin9 l9 csisolatin9"},
    {"ISO-8859-16", BY_ICONV, "iso-8859-16 iso8859-16 latin10"},
    {"CP874", BY_ICONV, "windows-874 cp874 dos-874 x-windows-874"},
    {"CP1250", BY_ICONV, "windows-1250 cp1250 x-cp1250"},
    {"CP1251", BY_ICONV, "windows-1251 cp1251 x-cp1251 win-1251"},
    {"CP1253", BY_ICONV, "windows-1253 cp1253 x-cp1253"},
    {"CP1255", BY_ICONV, "windows-1255 cp1255 x-cp1255"},
    {"CP1256", BY_ICONV, "windows-1256 cp1256 x-cp1256"},
    {"CP1257", BY_ICONV, "windows-1257 cp1257 x-cp1257"},
    {"CP1258", BY_ICONV, "windows-1258 cp1258 x-cp1258"},
    {"KOI8-R", BY_ICONV, "koi8-r koi8 koi cskoi8r koi8_r"},
    {"KOI8-U", BY_ICONV, "koi8-u koi8-ru cskoi8u koi8_u"},
    {"GB18030", BY_ICONV,
     "gb2312 gb_2312-80 gb_2312 csgb2312 csiso58gb231280 chinese iso-ir-58 gbk x-gbk cp936 ms936 windows-936 "
     "gb18030 euc-cn euccn x-euc-cn gb-2312"},
    {"HZ", BY_ICONV, "hz-gb-2312 hz"},
    {"BIG5-HKSCS", BY_ICONV, "big5-hkscs big5hkscs csbig5hkscs"},
    {"CP950", BY_ICONV, "big5 big-5 csbig5 cn-big5 x-x-big5 cp950 ms950 windows-950 big5-eten big5_tw"},
    {"EUC-TW", BY_ICONV, "euc-tw x-euc-tw euctw"},
    {"ISO-2022-CN", BY_ICONV, "iso-2022-cn csiso2022cn"},
    {"CP949", BY_ICONV,
     "euc-kr euckr euc_kr cseuckr ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 korean csksc56011987 "
     "iso-ir-149 windows-949 cp949 uhc ms949 ks_c_5601"},
    {"ISO-2022-KR", BY_ISO2022KR, "iso-2022-kr csiso2022kr iso2022_kr"},
    {"JOHAB", BY_ICONV, "johab cp1361 ms1361"},
    {"ISO-2022-JP-3", BY_ICONV, "iso-2022-jp-3 iso-2022-jp-2004 iso2022_jp_3 iso2022_jp_2004"},
    {"EUC-JISX0213", BY_ICONV, "euc-jisx0213 euc-jis-2004 euc_jisx0213 euc_jis_2004"},
    {"SHIFT_JISX0213", BY_ICONV, "shift_jisx0213 shift_jis-2004 shift_jis_2004 sjisx0213"},
    {"UTF-7", BY_ICONV, "utf-7 unicode-1-1-utf-7 csutf7 utf7"},
    {"UTF-16LE", BY_UTF16, "utf-16le"},
    {"UTF-16BE", BY_UTF16, "utf-16be utf-16 utf16 unicode ucs-2 iso-10646-ucs-2 csunicode"},
    {"UTF-32LE", BY_ICONV, "utf-32le"},
    {"UTF-32BE", BY_ICONV, "utf-32be"},
    {"UTF-32", BY_ICONV, "utf-32 utf32 ucs-4 iso-10646-ucs-4"},
    {"MACINTOSH", BY_ICONV, "macintosh mac x-mac-roman csmacintosh macroman mac_roman"},
    {"MAC-CYRILLIC", BY_ICONV, "x-mac-cyrillic mac-cyrillic mac_cyrillic x-mac-ukrainian"},
    {"MAC-CENTRALEUROPE", BY_ICONV, "x-mac-ce mac-centraleurope mac_latin2"},
    {"VISCII", BY_ICONV, "viscii csviscii"},
    {"ARMSCII-8", BY_ICONV, "armscii-8"},
    {"GEORGIAN-PS", BY_ICONV, "georgian-ps"},
    {"PT154", BY_ICONV, "pt154 ptcp154 cp154"},
    {"CP437", BY_ICONV, "ibm437 cp437 437 cspc8codepage437"},
    {"CP737", BY_ICONV, "cp737"},
    {"CP775", BY_ICONV, "ibm775 cp775"},
    {"CP850", BY_ICONV, "ibm850 cp850 850"},
    {"CP852", BY_ICONV, "ibm852 cp852 852"},
    {"CP855", BY_ICONV, "ibm855 cp855 855"},
    {"IBM856", BY_ICONV, "ibm856 cp856"},
    {"CP857", BY_ICONV, "ibm857 cp857 857"},
    {"CP858", BY_ICONV, "ibm00858 cp00858 cp858"},
    {"CP860", BY_ICONV, "ibm860 cp860"},
    {"CP861", BY_ICONV, "ibm861 cp861"},
    {"CP862", BY_ICONV, "ibm862 cp862"},
    {"CP863", BY_ICONV, "ibm863 cp863"},
    {"CP864", BY_ICONV, "ibm864 cp864"},
    {"CP865", BY_ICONV, "ibm865 cp865"},
    {"CP866", BY_ICONV, "ibm866 cp866 866 csibm866"},
    {"CP869", BY_ICONV, "ibm869 cp869"},
    /* EBCDIC: from mainframes. */
    {"IBM037", BY_ICONV, "ibm037 cp037 ebcdic-cp-us"},
    {"IBM273", BY_ICONV, "ibm273 cp273"},
    {"IBM424", BY_ICONV, "ibm424 cp424 ebcdic-cp-he"},
    {"IBM500", BY_ICONV, "ibm500 cp500 ebcdic-cp-be"},
    {"IBM875", BY_ICONV, "ibm875 cp875"},
    {"IBM1026", BY_ICONV, "ibm1026 cp1026"},
};
#define CHARSETS_N (sizeof(charsets) / sizeof(charsets[0]))
#define LABEL_MAX 40

static struct {
    bool ready;
    bool held[CHARSETS_N];
    iconv_t cd[CHARSETS_N];
    bool jis_held; /* EUC-JP-MS, what ISO-2022-JP is turned into first */
    iconv_t jis;
} converters;

int mail_charset_init(struct err *err)
{
    size_t n = 0;
    if (converters.ready)
        return 0;
    for (size_t i = 0; i < CHARSETS_N; i++) {
        if (charsets[i].iconv_name == NULL)
            continue;
        converters.cd[i] = iconv_open("UTF-8", charsets[i].iconv_name);
        converters.held[i] = converters.cd[i] != (iconv_t)-1;
        n += converters.held[i];
    }
    converters.jis = iconv_open("UTF-8", "EUC-JP-MS");
    converters.jis_held = converters.jis != (iconv_t)-1;
    converters.ready = true;
    return n != 0 ? 0 : err_set(err, -ENOSYS, "this system's iconv converts no character set: are its gconv modules installed?");
}

void mail_charset_done(void)
{
    for (size_t i = 0; i < CHARSETS_N; i++)
        if (converters.held[i])
            (void)iconv_close(converters.cd[i]);
    if (converters.jis_held)
        (void)iconv_close(converters.jis);
    memset(&converters, 0, sizeof(converters));
}

static bool labels_have(const char *labels, const char *label, size_t n)
{
    for (const char *p = labels; *p != '\0';) {
        const char *end = strchrnul(p, ' ');
        if ((size_t)(end - p) == n && memcmp(p, label, n) == 0)
            return true;
        p = *end != '\0' ? end + 1 : end;
    }
    return false;
}

/* NULL: unknown. */
static const struct charset *charset_find(struct slice label)
{
    char low[LABEL_MAX];
    label = slice_trim(label);
    if (label.n == 0 || label.n > sizeof(low))
        return NULL;
    for (size_t i = 0; i < label.n; i++)
        low[i] = ascii_lower(label.p[i]);
    for (size_t i = 0; i < CHARSETS_N; i++)
        if (labels_have(charsets[i].labels, low, label.n))
            return &charsets[i];
    return NULL;
}

bool mail_charset_known(struct slice label)
{
    const struct charset *c = charset_find(label);
    return c != NULL && (c->iconv_name == NULL || converters.held[c - charsets]);
}

bool mail_utf8_put(struct buf *out, const char *p, size_t n)
{
    size_t room = out->max > out->n ? out->max - out->n : 0;
    bool fits = n <= room;
    if (!fits) {
        n = room;
        while (n > 0 && ((unsigned char)p[n] & 0xc0) == 0x80)
            n--;
    }
    buf_put(out, p, n);
    return fits && buf_ok(out);
}

static bool put_replacement(struct buf *out)
{
    return mail_utf8_put(out, "\xef\xbf\xbd", 3);
}

void mail_utf8_put_lossy(struct buf *out, struct slice in)
{
    while (in.n > 0) {
        size_t run = 0;
        while (run < in.n) {
            size_t len = (unsigned char)in.p[run] < 0x80 ? 1 : utf8_next(slice_of(in.p + run, in.n - run), NULL);
            if (len == 0)
                break;
            run += len;
        }
        if (!mail_utf8_put(out, in.p, run))
            return;
        in = slice_from(in, run);
        if (in.n > 0 && !put_replacement(out))
            return;
        in = slice_from(in, 1);
    }
}

/* Runs a held converter over `in`. The converter is reset first, and flushed at the end. */
static void convert(iconv_t cd, struct buf *out, struct slice in)
{
    char chunk[1024];
    char *from = (char *)(uintptr_t)in.p; /* iconv's prototype; it does not write there */
    size_t left = in.n;
    (void)iconv(cd, NULL, NULL, NULL, NULL);
    for (bool flush = false;;) {
        char *to = chunk;
        size_t room = sizeof(chunk);
        size_t rc = iconv(cd, flush ? NULL : &from, flush ? NULL : &left, &to, &room);
        int e = rc == (size_t)-1 ? errno : 0;
        if (!mail_utf8_put(out, chunk, (size_t)(to - chunk)))
            return;
        if (e == E2BIG)
            continue;
        if (flush)
            return;
        if (e != 0 && !put_replacement(out))
            return;
        if (e == EILSEQ && left > 0) {
            from++;
            left--;
        }
        /* EINVAL: a sequence that the end cuts off. */
        flush = left == 0 || e == EINVAL;
    }
}

/* --- ISO-2022-JP (RFC 1468, 1554, 2237) and what is sent under its name --- */

enum jis_set { JIS_ASCII, JIS_KANA, JIS_0208, JIS_0212 };

struct jis_escape {
    const char *bytes;
    enum jis_set set;
};
static const struct jis_escape jis_escapes[] = {
    {"(B", JIS_ASCII}, {"(J", JIS_ASCII}, {"(H", JIS_ASCII}, {"(I", JIS_KANA}, {"$@", JIS_0208}, {"$B", JIS_0208},
    {"$(@", JIS_0208}, {"$(B", JIS_0208}, {"$(D", JIS_0212}, {"&@", JIS_0208},
};

/* The escape that s begins with (after ESC), or NULL. */
static const struct jis_escape *jis_escape_find(struct slice s)
{
    for (size_t i = 0; i < sizeof(jis_escapes) / sizeof(jis_escapes[0]); i++)
        if (slice_starts(s, slice_str(jis_escapes[i].bytes)))
            return &jis_escapes[i];
    return NULL;
}

/* Chinese, Korean, Latin and Greek sets of ISO-2022-JP-2: left to iconv. */
static bool jis_is_multilingual(struct slice in)
{
    for (const char *p = in.p; in.n > 0 && (p = memchr(p, 0x1b, (size_t)(in.p + in.n - p))) != NULL; p++) {
        struct slice s = slice_from(in, (size_t)(p - in.p) + 1);
        if (slice_starts(s, SLICE("$A")) || slice_starts(s, SLICE("$(C")) || slice_starts(s, SLICE(".")))
            return true;
    }
    return false;
}

static bool is_jis_byte(char c)
{
    return c >= 0x21 && c <= 0x7e;
}

/* Turns one character at in into EUC-JP in to[3]; returns how many bytes it took, *ret_n what it gave. 0xff is invalid in EUC. */
static size_t jis_step(struct slice in, enum jis_set *set, bool shift_out, char to[3], size_t *ret_n)
{
    char c = in.p[0];
    enum jis_set now = shift_out ? JIS_KANA : *set;
    *ret_n = 1;
    to[0] = c;
    if (c == '\r' || c == '\n') {
        *set = JIS_ASCII; /* RFC 1468: a line ends in ASCII; some forget */
        return 1;
    }
    if ((now == JIS_0208 || now == JIS_0212) && is_jis_byte(c)) {
        size_t lead = now == JIS_0212;
        if (in.n < 2 || !is_jis_byte(in.p[1])) {
            to[0] = (char)0xff;
            return 1;
        }
        to[0] = (char)0x8f;
        to[lead] = (char)(c | 0x80);
        to[lead + 1] = (char)(in.p[1] | 0x80);
        *ret_n = lead + 2;
        return 2;
    }
    bool eight_bit_kana = (unsigned char)c >= 0xa1 && (unsigned char)c <= 0xdf;
    if (eight_bit_kana || (now == JIS_KANA && c >= 0x21 && c <= 0x5f)) {
        to[0] = (char)0x8e;
        to[1] = (char)(c | 0x80);
        *ret_n = 2;
    } else if ((unsigned char)c >= 0x80) {
        to[0] = (char)0xff;
    }
    return 1;
}

/* Half-width kana, NEC's and IBM's characters are unknown to iconv's ISO-2022-JP, but EUC-JP-MS has them all. */
static void jis_to_utf8(struct buf *out, struct slice in)
{
    char chunk[512];
    size_t n = 0;
    enum jis_set set = JIS_ASCII;
    bool shift_out = false;
    while (in.n > 0) {
        const struct jis_escape *e = in.p[0] == 0x1b ? jis_escape_find(slice_from(in, 1)) : NULL;
        size_t used = 1, made = 0;
        if (e != NULL) {
            set = e->set;
            used = 1 + strlen(e->bytes);
        } else if (in.p[0] == 0x0e || in.p[0] == 0x0f) {
            shift_out = in.p[0] == 0x0e;
        } else {
            used = jis_step(in, &set, shift_out, chunk + n, &made);
        }
        n += made;
        in = slice_from(in, used);
        if (n + 3 > sizeof(chunk) || in.n == 0) {
            convert(converters.jis, out, slice_of(chunk, n));
            n = 0;
        }
    }
}

static bool has_jis_escape(struct slice in)
{
    const char *p = in.n != 0 ? memmem(in.p, in.n, "\x1b$", 2) : NULL;
    return p != NULL && jis_escape_find(slice_from(in, (size_t)(p - in.p) + 1)) != NULL;
}

static void unlabelled_to_utf8(struct buf *out, struct slice in)
{
    if (converters.jis_held && has_jis_escape(in))
        jis_to_utf8(out, in);
    else if (utf8_valid(in))
        (void)mail_utf8_put(out, in.p, in.n);
    else
        for (size_t i = 0; i < in.n; i++)
            if ((unsigned char)in.p[i] < 0x80 ? !mail_utf8_put(out, in.p + i, 1) : !put_replacement(out))
                return;
}

/* RFC 2781 3.2, 4.3: a byte order mark decides, else the label; plain utf-16 is big-endian. */
static void utf16_to_utf8(iconv_t cd, struct buf *out, struct slice in)
{
    bool le = slice_starts(in, SLICE("\xff\xfe"));
    if (!le && !slice_starts(in, SLICE("\xfe\xff"))) {
        convert(cd, out, in);
        return;
    }
    const struct charset *c = charset_find(le ? SLICE("utf-16le") : SLICE("utf-16be"));
    if (converters.held[c - charsets])
        convert(converters.cd[c - charsets], out, slice_from(in, 2));
}

/* RFC 1557: the designation stands once at the start of the text; an encoded-word is often without it. */
static void iso2022kr_to_utf8(iconv_t cd, struct buf *out, struct slice in)
{
    static const char designation[] = "\x1b$)C\n";
    if (slice_starts(in, slice_of(designation, 4))) {
        convert(cd, out, in);
        return;
    }
    struct buf with;
    buf_init(&with, in.n + sizeof(designation));
    buf_put(&with, designation, sizeof(designation) - 1);
    buf_put_slice(&with, in);
    size_t at = out->n;
    convert(cd, out, buf_slice(&with));
    buf_done(&with);
    if (out->n > at && out->p[at] == '\n') {
        memmove(out->p + at, out->p + at + 1, out->n - at - 1);
        out->n--;
    }
}

void mail_charset_to_utf8(struct buf *out, struct slice label, struct slice in)
{
    const struct charset *c = charset_find(label);
    if (in.n == 0)
        return;
    if (c == NULL || c->how == BY_ASCII || (c->iconv_name != NULL && !converters.held[c - charsets])) {
        unlabelled_to_utf8(out, in);
        return;
    }
    iconv_t cd = converters.cd[c - charsets];
    switch (c->how) {
    case BY_UTF8: mail_utf8_put_lossy(out, slice_starts(in, SLICE("\xef\xbb\xbf")) ? slice_from(in, 3) : in); break;
    case BY_JIS:
        if (converters.jis_held && !jis_is_multilingual(in))
            jis_to_utf8(out, in);
        else
            convert(cd, out, in);
        break;
    case BY_UTF16: utf16_to_utf8(cd, out, in); break;
    case BY_ISO2022KR: iso2022kr_to_utf8(cd, out, in); break;
    case BY_ICONV: convert(cd, out, in); break;
    case BY_ASCII: break; /* above */
    }
}
