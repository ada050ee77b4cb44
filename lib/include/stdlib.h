/* SPDX-License-Identifier: BSD-2-Clause */
/* What lwIP expects of <stdlib.h>; the kernel's own rooms use the checked parsers of their own. */
#pragma once
#include <stddef.h>

int atoi(const char *s);   /* saturates instead of overflowing */
