/* export_format.h: the logical export of an account: docs/STORE.md section 9.
 *
 * File: magic "KKEXPRT" NUL, u32 version, u32 features, then items {u8 type, u32 length, content}. A message is followed by its body in
 * EXPORT_DATA items. The last item, EXPORT_END, holds the SHA-256 of everything before it. All integers little-endian. */
#ifndef KK_STORE_EXPORT_FORMAT_H
#define KK_STORE_EXPORT_FORMAT_H

#include <openssl/evp.h>

#include "ipc/record.h"
#include "store/body.h"
#include "store/journal.h"

#define EXPORT_VERSION 1
#define EXPORT_HEADER 16
#define EXPORT_ITEM_HEADER 5
#define EXPORT_ITEM_MAX (512 * 1024)
#define EXPORT_DIGEST 32

enum export_type { EXPORT_ACCOUNT = 1, EXPORT_MAILBOX = 2, EXPORT_MESSAGE = 3, EXPORT_DATA = 4, EXPORT_END = 5 };

#define RECORD_x_account(F, S) F(S, U64, quota, 0) F(S, U64, created_ms, 0) F(S, U64, exported_ms, 0)
#define RECORD_x_mailbox(F, S)                                                                                    \
    F(S, U64, id, UINT32_MAX) F(S, STR, name, STORE_MAILBOX_NAME_MAX) F(S, U64, flags, 0) F(S, U64, uidvalidity, UINT32_MAX) \
    F(S, U64, uidnext, UINT32_MAX)
/* own and common: header lines before the body. sha256: of own, common and body. */
#define RECORD_x_message(F, S)                                                                                    \
    F(S, U64, mailbox, UINT32_MAX) F(S, U64, uid, UINT32_MAX) F(S, U64, flags, STORE_FLAGS_ALL) F(S, U64, internal_ms, 0) \
    F(S, U64, save_ms, 0) F(S, U64, body_size, STORE_BODY_MAX) F(S, LIST, keywords, STORE_KEYWORDS_MAX, j_keyword)    \
    F(S, BYTES, own, STORE_PREFIX_MAX) F(S, BYTES, common, STORE_COMMON_MAX) F(S, BYTES, meta, STORE_META_MAX)
RECORD_DECLARE(x_account);
RECORD_DECLARE(x_mailbox);
RECORD_DECLARE(x_message);

/* Reading an export: pread of a file that does not change. */
struct export_reader {
    int fd;
    uint64_t offset;
    struct buf content; /* of the last item */
};
/* Checks the header. ERR_SYNTAX, ERR_VERSION. */
int export_reader_init(struct export_reader *r, int fd);
void export_reader_done(struct export_reader *r);
/* The next item; the content is in r->content. ERR_SYNTAX, -errno. */
int export_reader_next(struct export_reader *r, enum export_type *ret);
/* The whole file: structure, order of items, sizes of bodies, digest at the end. Nothing else is applied before this said 0. */
int export_check(int fd, uint64_t *ret_messages);

#endif
