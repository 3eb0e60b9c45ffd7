#include "ipc/ipc.h"
