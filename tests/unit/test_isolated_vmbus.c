/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus host fake_arch */
/* The bus's tests in an isolated machine. The test's device takes the name of a class that such a machine serves. */
#define ECHO_CLASS VMBUS_GUID_TIMESYNC
#include "tests/unit/isolated.h"
#include "tests/unit/test_vmbus.c"

/* Versions before 5.2 are not spoken here: test_isolation.c. The test of GPA-direct packets gives the host private
 * memory, which is the model's to refuse. */
TESTS_LEFT_OUT("vmbus_gpa_direct",
               "vmbus_every_version", "vmbus_connection_4_refused", "vmbus_qemu_bridge", "vmbus_openvmm_kvm",
               "vmbus_version_by_configuration")
