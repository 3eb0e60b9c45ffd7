/* body_frame.h: the header of a body's frame, shared by its writer and its reader (store/body.h describes it). */
#ifndef KK_STORE_BODY_FRAME_H
#define KK_STORE_BODY_FRAME_H

#include "store/body.h"

struct body_frame {
    uint8_t codec;
    bool last;
    uint32_t plain_n, stored_n;
};
void body_frame_encode(const struct body_frame *f, uint8_t out[BODY_FRAME_HEADER]);
/* ERR_CORRUPT, ERR_VERSION (an unknown codec). */
int body_frame_decode(const uint8_t in[BODY_FRAME_HEADER], struct body_frame *ret);

#endif
