/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The catalogue of errors. Functions return 0 or a negative one of these as int.
 * One list, expanded into the enum here and into names by error_name() (lib/error.c).
 */
#pragma once

#define CANDELA_ERRORS(X)                                                                    \
    X(1, E_NOMEM, "out of memory")                                                           \
    X(2, E_INVAL, "invalid argument")                                                        \
    X(3, E_IO, "the device reported an error")                                               \
    X(4, E_TIMEOUT, "no answer within the limit")                                            \
    X(5, E_REMOVED, "the device was removed")                                                \
    X(6, E_PROTO, "the host broke the protocol")                                             \
    X(7, E_REFUSED, "the host refused")                                                      \
    X(8, E_NOTSUP, "not supported")                                                          \
    X(9, E_AGAIN, "no room now, try again")                                                  \
    X(10, E_NOENT, "no such thing")                                                          \
    X(11, E_EXIST, "exists already")                                                         \
    X(12, E_RANGE, "out of range")                                                           \
    X(13, E_ROFS, "the disk is read-only")                                                   \
    X(14, E_BUSY, "busy")                                                                    \
    X(15, E_NOSPC, "no space left on the device")

enum candela_error {
#define X(n, name, text) name = n,
    CANDELA_ERRORS(X)
#undef X
};

const char *error_name(int error);  /* accepts positive and negative; "success" for 0 */
