/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/* All of storvsc's tests with a host that changes what was read once. */
#include "tests/unit/flip.h"
#include "tests/unit/test_storvsc.c"
