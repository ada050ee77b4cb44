/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls to whoever is beneath: a hypervisor by HVC, firmware by SMC. Source: Arm SMC Calling Convention (DEN 0028),
 * Arm Power State Coordination Interface (DEN 0022).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* x0: the function, then the result. What the callee may change beyond these, x8 to x17, nobody looks at. */
struct arm64_call { uint64_t x[8]; };

/* Immediate 0 in both. False when the instruction is undefined here: nobody beneath takes such calls. */
bool arm64_hvc(struct arm64_call *call);
bool arm64_smc(struct arm64_call *call);

#define SMCCC_VENDOR_HYP_UID     0x8600FF01u     /* w0 to w3: whose the hypervisor services are */
#define SMCCC_NOT_SUPPORTED      UINT64_MAX      /* in x0, 64 bits wide; in w0 all ones too */

#define PSCI_VERSION             0x84000000u
#define PSCI_CPU_SUSPEND         0x84000001u
#define PSCI_CPU_OFF             0x84000002u
#define PSCI_CPU_ON              0x84000003u
#define PSCI_AFFINITY_INFO       0x84000004u
#define PSCI_MIGRATE_INFO_TYPE   0x84000006u
#define PSCI_SYSTEM_OFF          0x84000008u
#define PSCI_SYSTEM_RESET        0x84000009u
#define PSCI_FEATURES            0x8400000Au
#define PSCI_64BIT               0x40000000u     /* added to CPU_SUSPEND, CPU_ON, AFFINITY_INFO */
