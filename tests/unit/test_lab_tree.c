/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib */
/* The lab's device trees, read back by the kernel's own reader. */
#include <string.h>

#include "tests/unit/test.h"

#include "boot/arm64/fdt.c"
#undef MAGIC
#include "tests/lab/arm64/tree.c"

#define ROOM 4096u

static uint8_t blob[ROOM] __attribute__((aligned(8)));
static struct tree tree;

static size_t build(void)
{
    static const uint32_t line[] = {1, 2, 1};
    static const uint64_t reg[] = {0x40000000, 0x10000000, 0x880000000000, 0x123456789000};
    tree_start(&tree, blob, sizeof(blob));
    tree_begin(&tree, "");
    tree_cell(&tree, "#address-cells", 2);
    tree_cell(&tree, "#size-cells", 2);
    tree_begin(&tree, "memory@40000000");
    tree_text(&tree, "device_type", "memory");
    tree_wide(&tree, "reg", reg, 4);
    tree_end(&tree);
    tree_begin(&tree, "vmbus");
    tree_bytes(&tree, "compatible", "first\0microsoft,vmbus", sizeof("first\0microsoft,vmbus"));
    tree_flag(&tree, "dma-coherent");
    tree_cells(&tree, "interrupts", line, 3);
    tree_end(&tree);
    tree_end(&tree);
    return tree_finish(&tree, 7);
}

TEST(tree_read_back)
{
    struct fdt fdt;
    struct fdt_walk w;
    uint64_t start, bytes;
    uint32_t length = 99;
    unsigned memory = 0, bus = 0;
    size_t total = build();
    CHECK(fdt_claimed_bytes(blob) == total && fdt_open(&fdt, blob, total));
    CHECK(!fdt_reservation(&fdt, 0, &start, &bytes));
    for (fdt_walk_begin(&w, &fdt); fdt_walk_next(&w);) {
        if (!strcmp(w.path, "/memory@40000000")) {
            memory++;
            CHECK(fdt_text_is(&w, "device_type", "memory"));
            CHECK(fdt_reg(&w, 0, &start, &bytes) && start == 0x40000000 && bytes == 0x10000000);
            CHECK(fdt_reg(&w, 1, &start, &bytes) && start == 0x880000000000 && bytes == 0x123456789000);
            CHECK(!fdt_reg(&w, 2, &start, &bytes));
        } else if (fdt_compatible(&w, "microsoft,vmbus")) {
            bus++;
            CHECK(fdt_gic_interrupt(&w, 0) == 18);
            CHECK(fdt_property(&w, "dma-coherent", &length) != NULL && length == 0);
            CHECK(fdt_compatible(&w, "first") && !fdt_compatible(&w, "microsoft"));
        }
    }
    CHECK(memory == 1 && bus == 1);
}

/* A name of a property is stored once, and one that is the end of another is still itself. */
TEST(tree_names)
{
    struct fdt fdt;
    struct fdt_walk w;
    uint64_t value;
    tree_start(&tree, blob, sizeof(blob));
    tree_begin(&tree, "");
    tree_cell(&tree, "long-name", 1);
    tree_cell(&tree, "name", 2);
    tree_begin(&tree, "child");
    size_t before = tree.string_bytes;
    tree_cell(&tree, "long-name", 3);
    CHECK(tree.string_bytes == before);
    tree_end(&tree);
    tree_end(&tree);
    CHECK(fdt_open(&fdt, blob, tree_finish(&tree, 0)));
    fdt_walk_begin(&w, &fdt);
    CHECK(fdt_walk_next(&w) && fdt_number(&w, "long-name", &value) && value == 1);
    CHECK(fdt_number(&w, "name", &value) && value == 2);
    CHECK(fdt_walk_next(&w) && fdt_number(&w, "long-name", &value) && value == 3);
    CHECK(!fdt_number(&w, "name", &value) && !fdt_walk_next(&w));
}

TEST_MAIN()
