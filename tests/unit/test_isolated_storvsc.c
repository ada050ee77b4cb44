/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/* All of storvsc's tests in an isolated machine. */
#include "tests/unit/isolated.h"
#include "tests/unit/test_storvsc.c"
