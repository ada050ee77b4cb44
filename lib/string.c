/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * String functions of the C standard, plain loops: none is on a data path. Not linked into hosted programs, which have
 * their C library's. The pragma keeps the compiler from recognising a loop as the very function it implements.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#undef memcmp
#undef strlen

int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < n; i++) {
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}

void *memchr(const void *p, int c, size_t n)
{
    const unsigned char *x = p;
    for (size_t i = 0; i < n; i++) {
        if (x[i] == (unsigned char)c)
            return (void *)(x + i);
    }
    return NULL;
}

size_t strlen(const char *s)
{
    size_t n = 0;
    while (s[n] != '\0')
        n++;
    return n;
}

size_t strnlen(const char *s, size_t max)
{
    size_t n = 0;
    while (n < max && s[n] != '\0')
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b)
        a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n > 0; n--, a++, b++) {
        if (*a != *b || *a == '\0')
            return (unsigned char)*a - (unsigned char)*b;
    }
    return 0;
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)s;
        if (*s == '\0')
            return NULL;
    }
}

char *strrchr(const char *s, int c)
{
    const char *found = NULL;
    for (;; s++) {
        if (*s == (char)c)
            found = s;
        if (*s == '\0')
            return (char *)found;
    }
}

char *strstr(const char *s, const char *needle)
{
    size_t length = strlen(needle);
    for (;; s++) {
        if (strncmp(s, needle, length) == 0)
            return (char *)s;
        if (*s == '\0')
            return NULL;
    }
}

int atoi(const char *s)
{
    long value = 0;
    int negative = 0;
    while (*s == ' ' || (*s >= '\t' && *s <= '\r'))
        s++;
    if (*s == '-' || *s == '+')
        negative = *s++ == '-';
    for (; *s >= '0' && *s <= '9'; s++) {
        value = value * 10 + (*s - '0');
        if (value > (long)INT_MAX + 1)
            value = (long)INT_MAX + 1;
    }
    if (negative)
        return (int)-value;
    return value > INT_MAX ? INT_MAX : (int)value;
}
