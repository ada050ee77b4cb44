/* SPDX-License-Identifier: BSD-2-Clause */
/* Words for error numbers, from the one list in errno.h. */
#include "lib/errno.h"

const char *error_name(int error)
{
    switch (error < 0 ? -error : error) {
    case 0:
        return "success";
#define X(n, name, text) case n: return text;
    CANDELA_ERRORS(X)
#undef X
    default:
        return "unknown error";
    }
}
