/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/* netvsc's faults in an isolated machine; with small buffers, since each page that changes hands takes its time here. */
#define ISOLATED_SETTINGS "net.recv_buffer=256K net.send_buffer=64K"
#include "tests/unit/isolated.h"
#include "tests/unit/test_netvsc_faults.c"
