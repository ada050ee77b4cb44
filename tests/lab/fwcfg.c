/* SPDX-License-Identifier: BSD-2-Clause */
/* Source: QEMU's docs/specs/fw_cfg.txt. Numbers on the wire are big endian. */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/fwcfg.h"
#include "tests/lab/machine.h"

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
        b[i] = machine_fwcfg_byte();
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
    machine_fwcfg_select(KEY_SIGNATURE);
    read_bytes(signature, sizeof(signature));
    return memcmp(signature, "QEMU", sizeof(signature)) == 0;
}

bool fwcfg_find(const char *name, uint16_t *select, uint32_t *bytes)
{
    if (!present())
        return false;
    machine_fwcfg_select(KEY_DIRECTORY);
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
    machine_fwcfg_dma(mm_virt_to_phys((const void *)&access).v);
    while (__builtin_bswap32(access.control) & ~DMA_ERROR)
        ;                               /* QEMU finishes before that write returns */
    if (access.control)
        panic("fw_cfg file %u can't be read", select);
}

bool fwcfg_read_text(const char *name, char *text, size_t size)
{
    uint16_t select;
    uint32_t bytes;
    if (!fwcfg_find(name, &select, &bytes))
        return false;
    machine_fwcfg_select(select);
    size_t n = MIN((size_t)bytes, size - 1);
    read_bytes(text, n);
    text[n] = '\0';
    return true;
}
