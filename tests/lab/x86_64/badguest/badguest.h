/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the files of the guest that misbehaves. */
#pragma once
#include <stdbool.h>

/* What only an isolated machine forbids (isolated.c). False: no such way. */
bool isolated_way(const char *word);
