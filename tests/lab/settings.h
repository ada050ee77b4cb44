/* SPDX-License-Identifier: BSD-2-Clause */
/* What the words with a dot on the lab's command line set in the model; settings.c lists them. */
#pragma once
#include "tests/host/host.h"
#include "tests/lab/balloon.h"
#include "tests/lab/isolation.h"
#include "tests/lab/liar.h"

struct lab_fault { uint32_t points; uint64_t number; enum host_fault_kind kind; };

struct lab_settings {
    struct host_config host;
    struct host_scsi_config scsi;
    struct host_nic_config nic;          /* MAC, MTU and link come from the virtio NIC */
    struct host_ic_config ic;
    struct lab_balloon_settings balloon;
    struct lab_isolation_settings isolation;
    bool scsi_present;
    uint64_t absent_luns, absent_nics;   /* bit per number: plugged in later, by command */
    struct lab_fault fault;
    struct lab_liar_settings liar;
};
void settings_defaults(struct lab_settings *s);
/* words: "key=value key=value"; trace: "vmbus,storvsp". Bad ones are named and ignored. */
void settings_parse(struct lab_settings *s, const char *words, const char *trace);
/* Decimal or 0x; stops at the first other character. */
bool settings_number(const char **text, uint64_t *value);
/* "1,2" -> bits */
bool settings_bit_list(const char *text, uint64_t *bits);
/* "storvsp-io", "drop,5"; false: malformed */
bool settings_fault(struct lab_fault *f, const char *point, const char *how);
