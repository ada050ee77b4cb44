/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers apps/nbd host fake_arch */
/* The liar and an isolated machine that connects: everything of test_malice_connect once more. */
#define MALICE_ISOLATED
#define SEEDS 12u
#define ISOLATED_SETTINGS "net.recv_buffer=256K net.send_buffer=64K hv.bounce=2M"
#include "tests/unit/test_malice_connect.c"
