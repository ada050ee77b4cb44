/* SPDX-License-Identifier: BSD-2-Clause */
/* Source: QEMU's docs/specs/fw_cfg.txt. Numbers on the wire are big endian. */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/x86_64/fwcfg.h"

#define FW_CFG_SELECT    0x510
#define FW_CFG_DATA      0x511
#define FW_CFG_DMA_HIGH  0x514
#define FW_CFG_DMA_LOW   0x518
#define KEY_SIGNATURE    0x00
#define KEY_DIRECTORY    0x19
#define DMA_ERROR        1u
#define DMA_READ         2u
#define DMA_SELECT       8u

struct dma_access { uint32_t control, bytes; uint64_t address; };

static void read_bytes(void *to, size_t n)
{
    uint8_t *b = to;
    for (size_t i = 0; i < n; i++)
        b[i] = x86_in8(FW_CFG_DATA);
}

static uint32_t read_be32(void)
{
    uint32_t v;
    read_bytes(&v, sizeof(v));
    return __builtin_bswap32(v);
}

static bool present(void)
{
    char signature[4];
    x86_out16(FW_CFG_SELECT, KEY_SIGNATURE);
    read_bytes(signature, sizeof(signature));
    return memcmp(signature, "QEMU", sizeof(signature)) == 0;
}

bool fwcfg_find(const char *name, uint16_t *select, uint32_t *bytes)
{
    if (!present())
        return false;
    x86_out16(FW_CFG_SELECT, KEY_DIRECTORY);
    for (uint32_t n = read_be32(); n > 0; n--) {
        char found[57] = "";
        *bytes = read_be32();
        *select = (uint16_t)(read_be32() >> 16);
        read_bytes(found, 56);
        if (!strcmp(found, name))
            return true;
    }
    return false;
}

void fwcfg_read(uint16_t select, uint64_t hpa, uint32_t bytes)
{
    static volatile struct dma_access access __attribute__((aligned(16)));
    access.control = __builtin_bswap32((uint32_t)select << 16 | DMA_SELECT | DMA_READ);
    access.bytes = __builtin_bswap32(bytes);
    access.address = __builtin_bswap64(hpa);
    arch_fence_ord_write();
    uint64_t at = image_phys_base + ((uint64_t)(uintptr_t)&access - IMAGE_VIRT_BASE);
    x86_out32(FW_CFG_DMA_HIGH, __builtin_bswap32((uint32_t)(at >> 32)));
    x86_out32(FW_CFG_DMA_LOW, __builtin_bswap32((uint32_t)at));
    while (__builtin_bswap32(access.control) & ~DMA_ERROR)
        ;                               /* QEMU finishes before the port write returns */
    if (access.control)
        panic("fw_cfg file %u can't be read", select);
}

bool fwcfg_read_text(const char *name, char *text, size_t size)
{
    uint16_t select;
    uint32_t bytes;
    if (!fwcfg_find(name, &select, &bytes))
        return false;
    x86_out16(FW_CFG_SELECT, select);
    size_t n = MIN((size_t)bytes, size - 1);
    read_bytes(text, n);
    text[n] = '\0';
    return true;
}
