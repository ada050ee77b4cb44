/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lwIP's view of the compiler and of the runtime. Included by every lwIP source, so it pulls in nothing of ours: the
 * functions it names are rt/net's (port.c, checksum.c).
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef CANDELA_HOSTED
/* The C library of hosted tests has these too; lwIP then takes them from there. */
#include <sys/select.h>
#include <sys/time.h>
#define LWIP_TIMEVAL_PRIVATE 0
#endif

#define LWIP_NO_INTTYPES_H 1
#define X8_F  "02x"
#define U16_F "u"
#define S16_F "d"
#define X16_F "x"
#define U32_F "u"
#define S32_F "d"
#define X32_F "x"
#define SZT_F "zu"
#define LWIP_NO_UNISTD_H 1
#define LWIP_NO_LIMITS_H 1
#define LWIP_NO_CTYPE_H  1
#ifndef SSIZE_MAX
#define SSIZE_MAX INT32_MAX
typedef long ssize_t;
#endif
#ifndef INT_MAX
#define INT_MAX INT32_MAX
#endif
#ifndef BYTE_ORDER
#define BYTE_ORDER 1234             /* little endian on both architectures */
#endif

/* One variable for all tasks: valid until the task that got the error blocks. */
#define errno net_errno
extern int net_errno;

#define lwip_htons(x) __builtin_bswap16(x)
#define lwip_htonl(x) __builtin_bswap32(x)

void net_diag(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void net_assert_failed(const char *what, const char *file, int line) __attribute__((noreturn));
uint32_t net_random32(void);
void *net_malloc(size_t bytes);
void *net_calloc(size_t n, size_t bytes);
void net_free(void *p);
uint16_t net_checksum(const void *data, int bytes);
char *net_strncpy(char *to, const char *from, size_t bytes);
#define strncpy net_strncpy         /* netdb.c alone wants it */

#define LWIP_PLATFORM_DIAG(x)   do { net_diag x; } while (0)
#define LWIP_PLATFORM_ASSERT(x) net_assert_failed(x, __FILE__, __LINE__)
#define LWIP_RAND()             net_random32()
