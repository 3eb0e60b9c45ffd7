/* Fuzz target: one frame as any role may send it to any other. The first two bytes choose the roles. */
#include "ipc/ipc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    (void)ipc_frame_check((enum role)(data[0] % ROLE_COUNT), (enum role)(data[1] % ROLE_COUNT),
                          slice_of(data + 2, size - 2));
    return 0;
}
