/* SPDX-License-Identifier: BSD-2-Clause */
/* Files that QEMU's command line gives (-fw_cfg name=opt/...,file=...), read by DMA. */
#pragma once
#include "tests/lab/lab.h"

/* False: no such file. */
bool fwcfg_find(const char *name, uint16_t *select, uint32_t *bytes);
/* The first bytes of the file to physical memory. */
void fwcfg_read(uint16_t select, uint64_t hpa, uint32_t bytes);
/* Whole text, NUL-terminated, cut to size; false and unchanged when there is no such file. */
bool fwcfg_read_text(const char *name, char *text, size_t size);
