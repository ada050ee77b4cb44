/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus host fake_arch */
/* The bus's faults in an isolated machine: every one of its tests ends with the memory it began with. */
#define ECHO_CLASS VMBUS_GUID_TIMESYNC
#include "tests/unit/isolated.h"
#include "tests/unit/test_vmbus_faults.c"
