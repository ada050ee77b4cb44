/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/* All of netvsc's tests with a host that changes what was read once. */
#include "tests/unit/flip.h"
#include "tests/unit/test_netvsc.c"

/* Parts of its messages lie over one another, so they are read as often as the host named them. */
TESTS_LEFT_OUT("random_messages_are_survived")
