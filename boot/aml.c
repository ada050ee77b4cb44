/* SPDX-License-Identifier: BSD-2-Clause */
/* Objects of ACPI's machine language, found by their encoding; the contract is in aml.h. */
#include <string.h>
#include "boot/aml.h"

enum {
    OP_NAME = 0x08, OP_BYTE = 0x0A, OP_WORD = 0x0B, OP_DWORD = 0x0C, OP_STRING = 0x0D, OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12, OP_EXTENDED = 0x5B, OP_EXTENDED_DEVICE = 0x82, ROOT_PREFIX = '\\',
};
#define NAME_BYTES 4
#define HITS_MAX   16          /* devices that claim to be the bus: more are nonsense, and each costs a walk */
#define BUFFERS_MAX 16         /* looked at behind a _CRS */
#define TEMPLATE_BYTES_MAX 4096

/* One small integer: ZeroOp, OneOp, or a prefix with 1, 2 or 4 bytes. Returns bytes taken, 0: something else. */
static size_t integer(const uint8_t *p, size_t left, uint32_t *value)
{
    static const uint8_t sizes[] = {[OP_BYTE] = 1, [OP_WORD] = 2, [OP_DWORD] = 4};
    if (left == 0)
        return 0;
    *value = p[0];
    if (p[0] <= 1)
        return 1;
    if (p[0] < OP_BYTE || p[0] > OP_DWORD || left < 1u + sizes[p[0]])
        return 0;
    *value = 0;
    memcpy(value, p + 1, sizes[p[0]]);
    return 1u + sizes[p[0]];
}

/* PkgLength: how many bytes, itself included, belong together. Returns the bytes of its own encoding; 0: cut short, or
 * more than there are. */
static size_t package_length(const uint8_t *p, size_t left, size_t *length)
{
    size_t extra, n;
    if (left == 0)
        return 0;
    extra = p[0] >> 6;
    if (left < 1 + extra)
        return 0;
    n = extra == 0 ? p[0] & 0x3Fu : p[0] & 0x0Fu;
    for (size_t i = 0; i < extra; i++)
        n |= (size_t)p[1 + i] << (4 + 8 * i);
    if (n < 1 + extra || n > left)
        return 0;
    *length = n;
    return 1 + extra;
}

/* Is the four-letter name at `at` the one that a NameOp defines? */
static bool is_definition(const uint8_t *aml, size_t at)
{
    return at >= 1 && (aml[at - 1] == OP_NAME || (aml[at - 1] == ROOT_PREFIX && at >= 2 && aml[at - 2] == OP_NAME));
}

/* ---- \_S5 ---- */

/* Name (_S5, Package () {SLP_TYPa, SLP_TYPb, ...}): NameOp, perhaps a root prefix, the name, PackageOp, PkgLength, the
 * number of elements, the elements. The length need not be right. */
bool aml_find_s5(const uint8_t *aml, size_t bytes, uint8_t *type_a, uint8_t *type_b)
{
    for (size_t at = 1; at + NAME_BYTES <= bytes; at++) {
        size_t p = at + NAME_BYTES, taken;
        uint32_t value;
        if (memcmp(aml + at, "_S5_", NAME_BYTES) != 0 || !is_definition(aml, at))
            continue;
        if (bytes - p < 2 || aml[p] != OP_PACKAGE)
            continue;
        p += 2u + (aml[p + 1] >> 6);
        if (p >= bytes || aml[p] == 0)
            continue;
        p++;
        taken = integer(aml + p, bytes - p, &value);
        if (taken == 0)
            continue;
        *type_a = (uint8_t)value;
        p += taken;
        *type_b = integer(aml + p, bytes - p, &value) != 0 ? (uint8_t)value : 0;
        return true;
    }
    return false;
}

/* ---- VMBus ---- */

/* Name (_HID or _CID, "VMBus" or "MSFT1000") at `at`, where the four letters begin. */
static bool names_the_bus(const uint8_t *aml, size_t bytes, size_t at)
{
    static const char *const ids[] = {"VMBus", "VMBUS", "MSFT1000"};
    size_t left = bytes - at - NAME_BYTES;
    const uint8_t *value = aml + at + NAME_BYTES;
    if ((memcmp(aml + at, "_HID", NAME_BYTES) != 0 && memcmp(aml + at, "_CID", NAME_BYTES) != 0) ||
        !is_definition(aml, at) || left < 1 || value[0] != OP_STRING)
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        size_t n = strlen(ids[i]) + 1;
        if (left - 1 >= n && memcmp(value + 1, ids[i], n) == 0)
            return true;
    }
    return false;
}

struct span { size_t start, end; };

/* The innermost Device around a place. */
static bool enclosing_device(const uint8_t *aml, size_t bytes, size_t place, struct span *device)
{
    bool found = false;
    for (size_t at = 0; at + 2 < place; at++) {
        size_t length, head;
        if (aml[at] != OP_EXTENDED || aml[at + 1] != OP_EXTENDED_DEVICE)
            continue;
        head = package_length(aml + at + 2, bytes - at - 2, &length);
        if (head == 0 || at + 2 + length <= place)
            continue;
        *device = (struct span){at + 2 + head, at + 2 + length};     /* the last that holds it is the innermost */
        found = true;
    }
    return found;
}

/* The first interrupt of a resource template: small and large descriptors up to the end tag. */
static uint32_t template_interrupt(const uint8_t *p, size_t bytes)
{
    enum { LARGE = 0x80, LARGE_HEAD = 3, END_TAG = 0x0F, EXTENDED_INTERRUPT = 0x89, FIXED = 2 };
    size_t at = 0;
    while (at < bytes) {
        size_t n, left = bytes - at;
        if (!(p[at] & LARGE)) {
            if (p[at] >> 3 == END_TAG)
                return 0;
            n = 1u + (p[at] & 7u);
        } else {
            if (left < LARGE_HEAD)
                return 0;
            n = LARGE_HEAD + (p[at + 1] | (size_t)p[at + 2] << 8);
            if (p[at] == EXTENDED_INTERRUPT && n <= left && n >= LARGE_HEAD + FIXED + 4u &&
                p[at + LARGE_HEAD + 1] != 0) {
                uint32_t number;
                memcpy(&number, p + at + LARGE_HEAD + FIXED, 4);
                return number;
            }
        }
        if (n > left)
            return 0;
        at += n;
    }
    return 0;
}

/* _CRS of a device: by a Name, or in the body of a Method, the first buffer behind it that has an interrupt. */
static uint32_t device_interrupt(const uint8_t *aml, struct span device)
{
    size_t at = device.start;
    unsigned buffers = 0;
    while (at + NAME_BYTES <= device.end && memcmp(aml + at, "_CRS", NAME_BYTES) != 0)
        at++;
    for (at += NAME_BYTES; at < device.end && buffers < BUFFERS_MAX; at++) {
        size_t length, head, taken, p;
        uint32_t size, number;
        if (aml[at] != OP_BUFFER)
            continue;
        head = package_length(aml + at + 1, device.end - at - 1, &length);
        if (head == 0)
            continue;
        p = at + 1 + head;
        taken = integer(aml + p, at + 1 + length - p, &size);
        if (taken == 0)
            continue;
        p += taken;
        buffers++;
        size = MIN(size, (uint32_t)TEMPLATE_BYTES_MAX);
        number = template_interrupt(aml + p, MIN((size_t)size, at + 1 + length - p));
        if (number != 0)
            return number;
    }
    return 0;
}

uint32_t aml_find_vmbus_interrupt(const uint8_t *aml, size_t bytes)
{
    unsigned hits = 0;
    for (size_t at = 1; bytes >= NAME_BYTES && at <= bytes - NAME_BYTES && hits < HITS_MAX; at++) {
        struct span device;
        uint32_t number;
        if (!names_the_bus(aml, bytes, at))
            continue;
        hits++;
        if (enclosing_device(aml, bytes, at, &device) && (number = device_interrupt(aml, device)) != 0)
            return number;
    }
    return 0;
}
