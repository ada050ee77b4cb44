/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RSDP -> XSDT or RSDT -> FADT -> DSDT. Source: ACPI Specification 6.5, sections 5.2 (tables), 4.8.3 (PM1 control, PM
 * timer, reset and sleep control registers). The OEM0 table: what Hyper-V's firmware provides.
 */
#define LOG_ROOM "acpi"
#include <string.h>
#include "boot/acpi.h"
#include "boot/acpi_arm.h"
#include "boot/aml.h"
#include "mm/mm.h"

#define TABLE_BYTES_MAX   (4u << 20)     /* larger than any DSDT seen; bounds the checksum loop */
#define ROOT_ENTRIES_MAX  256
#define SEARCH_START      0xE0000ull     /* where a BIOS puts the RSDP, on 16-byte boundaries */
#define SEARCH_BYTES      0x20000ull
#define SPACE_IO          ARCH_SPACE_IO  /* ACPI's numbers, 5.2.3.2 */
_Static_assert(ARCH_SPACE_MEMORY == 0 && ARCH_SPACE_IO == 1, "ACPI's numbers of address spaces");

struct rsdp {
    char signature[8];           /* "RSD PTR " */
    uint8_t checksum;            /* of the first 20 bytes */
    char oem_id[6];
    uint8_t revision;            /* 2 and above: the rest exists */
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum, reserved[3];
} __attribute__((packed));
#define RSDP_V1_BYTES 20
_Static_assert(sizeof(struct rsdp) == 36, "ACPI 2.0 RSDP");

/* Firmware puts tables where it likes. */
struct table {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem_id[6], oem_table_id[8];
    uint32_t oem_revision, creator_id, creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct table) == 36, "ACPI table header");

struct address { uint8_t space, bits, offset, access; uint64_t address; } __attribute__((packed));

/* Offsets in the FADT; a table shorter than a field does not have it. */
enum {
    FADT_DSDT = 40, FADT_PM1A_CONTROL = 64, FADT_PM1B_CONTROL = 68, FADT_PM_TIMER = 76, FADT_PM_TIMER_BYTES = 91,
    FADT_FLAGS = 112, FADT_RESET = 116, FADT_RESET_VALUE = 128, FADT_X_DSDT = 140, FADT_X_PM1A_CONTROL = 172,
    FADT_X_PM1B_CONTROL = 184, FADT_X_PM_TIMER = 208, FADT_SLEEP_CONTROL = 244,
};
#define FADT_FLAG_RESET (1u << 10)

static uint64_t roots[ROOT_ENTRIES_MAX];
static unsigned root_count;

static bool sums_to_zero(const void *p, size_t bytes)
{
    const uint8_t *b = p;
    uint8_t sum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum = (uint8_t)(sum + b[i]);
    return sum == 0;
}

/* The whole table at a physical address, mapped and checked, or NULL. Unmapped by table_put. */
static const struct table *table_get(uint64_t address)
{
    const struct table *head, *whole;
    uint32_t length;
    if (address == 0)
        return NULL;
    if ((head = mm_map_phys(pa(address), sizeof *head, MAP_READ)) == NULL) {
        log_warn("a table at 0x%llx is out of reach", (unsigned long long)address);
        return NULL;
    }
    length = head->length;
    mm_unmap_phys((void *)head, sizeof *head);
    if (length < sizeof *head || length > TABLE_BYTES_MAX) {
        log_warn("the table at 0x%llx claims %u bytes", (unsigned long long)address, length);
        return NULL;
    }
    whole = mm_map_phys(pa(address), length, MAP_READ);
    if (whole == NULL)
        return NULL;
    if (whole->length != length || !sums_to_zero(whole, length)) {
        log_warn("the table %.4s at 0x%llx has a wrong checksum", whole->signature, (unsigned long long)address);
        mm_unmap_phys((void *)whole, length);
        return NULL;
    }
    return whole;
}

static void table_put(const struct table *t)
{
    if (t != NULL)
        mm_unmap_phys((void *)t, t->length);
}

/* The first table of that name, or NULL. */
static const struct table *table_find(const char *signature)
{
    for (unsigned i = 0; i < root_count; i++) {
        const struct table *t, *head = mm_map_phys(pa(roots[i]), sizeof *head, MAP_READ);
        bool same = head != NULL && memcmp(head->signature, signature, 4) == 0;
        if (head != NULL)
            mm_unmap_phys((void *)head, sizeof *head);
        if (same && (t = table_get(roots[i])) != NULL)
            return t;
    }
    return NULL;
}

/* ---- finding the root ---- */

static bool rsdp_valid(const struct rsdp *r)
{
    return memcmp(r->signature, "RSD PTR ", 8) == 0 && sums_to_zero(r, RSDP_V1_BYTES);
}

static bool rsdp_read(uint64_t at, struct rsdp *out)
{
    const struct rsdp *r = mm_map_phys(pa(at), sizeof *r, MAP_READ);
    bool ok = r != NULL && rsdp_valid(r);
    if (ok) {
        memcpy(out, r, sizeof *out);
        if (out->revision >= 2 && (out->length < sizeof *out || out->length > PAGE_BYTES))
            ok = false;
    }
    if (r != NULL)
        mm_unmap_phys((void *)r, sizeof *r);
    return ok;
}

static uint64_t rsdp_search(void)
{
    const uint8_t *area;
    uint64_t found = 0;
    if (strcmp(ARCH_NAME, "x86_64") != 0 || (area = mm_map_phys(pa(SEARCH_START), SEARCH_BYTES, MAP_READ)) == NULL)
        return 0;
    for (uint64_t at = 0; at + RSDP_V1_BYTES <= SEARCH_BYTES && found == 0; at += 16) {
        if (rsdp_valid((const void *)(area + at)))
            found = SEARCH_START + at;
    }
    mm_unmap_phys((void *)area, SEARCH_BYTES);
    return found;
}

static void read_root(const struct rsdp *r)
{
    bool extended = r->revision >= 2 && r->xsdt != 0;
    const struct table *t = table_get(extended ? r->xsdt : r->rsdt);
    size_t step = extended ? 8 : 4;
    if (t == NULL || memcmp(t->signature, extended ? "XSDT" : "RSDT", 4) != 0) {
        table_put(t);
        return;
    }
    for (uint32_t at = sizeof *t; t->length - at >= step && root_count < ROOT_ENTRIES_MAX; at += step) {
        uint64_t entry = 0;
        memcpy(&entry, (const char *)t + at, step);
        if (entry != 0)
            roots[root_count++] = entry;
    }
    table_put(t);
}

/* ---- FADT ---- */

static uint64_t field(const struct table *t, uint32_t offset, size_t bytes)
{
    uint64_t value = 0;
    if (t->length < bytes || offset > t->length - bytes)
        return 0;
    memcpy(&value, (const char *)t + offset, bytes);
    return value;
}

static struct address address_field(const struct table *t, uint32_t offset)
{
    struct address a = {0};
    if (t->length >= sizeof a && offset <= t->length - sizeof a)
        memcpy(&a, (const char *)t + offset, sizeof a);
    return a;
}

/* A port given twice, as plain number and as an address structure; the structure wins where it is filled. */
static uint16_t port_field(const struct table *t, uint32_t plain, uint32_t extended)
{
    struct address a = address_field(t, extended);
    uint64_t port = a.address != 0 && a.space == SPACE_IO ? a.address : plain == 0 ? 0 : field(t, plain, 4);
    return port <= 0xFFFF ? (uint16_t)port : 0;
}

/* A register in memory or at a port; other spaces (PCI configuration, embedded controllers) are not used. */
static struct arch_register register_field(const struct table *t, uint32_t offset)
{
    struct address a = address_field(t, offset);
    if (a.space > SPACE_IO || (a.space == SPACE_IO && a.address > 0xFFFF))
        return (struct arch_register){0};
    return (struct arch_register){a.address, a.space};
}

/* ---- what the machine language of DSDT and SSDTs has ---- */

static bool s5_in(const struct table *t, struct arch_platform *platform)
{
    return aml_find_s5((const uint8_t *)(t + 1), t->length - sizeof *t, &platform->s5_type_a,
                       &platform->s5_type_b);
}

static void look_into(const struct table *t, struct arch_platform *platform)
{
    if (t == NULL)
        return;
    if (!platform->has_s5)
        platform->has_s5 = s5_in(t, platform);
    if (platform->vmbus_irq == 0)
        platform->vmbus_irq = aml_find_vmbus_interrupt((const uint8_t *)(t + 1), t->length - sizeof *t);
}

static void read_fadt(const struct table *t, struct arch_platform *platform)
{
    uint64_t dsdt_address = field(t, FADT_X_DSDT, 8);
    const struct table *dsdt;

    platform->pm1a_control_port = port_field(t, FADT_PM1A_CONTROL, FADT_X_PM1A_CONTROL);
    platform->pm1b_control_port = port_field(t, FADT_PM1B_CONTROL, FADT_X_PM1B_CONTROL);
    if (field(t, FADT_PM_TIMER_BYTES, 1) == 4)
        platform->pm_timer_port = port_field(t, FADT_PM_TIMER, FADT_X_PM_TIMER);
    platform->sleep_control = register_field(t, FADT_SLEEP_CONTROL);
    if (field(t, FADT_FLAGS, 4) & FADT_FLAG_RESET) {
        platform->reset = register_field(t, FADT_RESET);
        platform->reset_value = (uint8_t)field(t, FADT_RESET_VALUE, 1);
    }
    dsdt = table_get(dsdt_address != 0 ? dsdt_address : field(t, FADT_DSDT, 4));
    look_into(dsdt, platform);
    table_put(dsdt);
    acpi_arm_fadt((const uint8_t *)t, t->length, platform);
}

static void read_arm(struct arch_platform *platform)
{
    static const struct {
        const char *signature;
        void (*take)(const uint8_t *table, uint32_t bytes, struct arch_platform *platform);
    } tables[] = {{"APIC", acpi_arm_madt}, {"GTDT", acpi_arm_gtdt}, {"SPCR", acpi_arm_spcr}};
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
        const struct table *t = table_find(tables[i].signature);
        if (t != NULL)
            tables[i].take((const uint8_t *)t, t->length, platform);
        table_put(t);
    }
}

static const char *power_off_name(const struct arch_platform *platform)
{
    if (platform->psci != ARCH_PSCI_UNKNOWN)
        return platform->psci == ARCH_PSCI_HVC ? "PSCI (HVC)" : "PSCI (SMC)";
    if (!platform->has_s5)
        return "no way";
    return platform->sleep_control.address != 0 ? "sleep control" : "PM1 control";
}

bool acpi_init(paddr_t given)
{
    struct arch_platform platform = {0};
    struct rsdp r;
    uint64_t at = given.v;
    const struct table *fadt;
    if (at == 0 || !rsdp_read(at, &r)) {
        if (at != 0)
            log_warn("no valid RSDP at 0x%llx, where the loader says it is", (unsigned long long)at);
        at = rsdp_search();
        if (at == 0 || !rsdp_read(at, &r)) {
            log_info("no ACPI: power-off and restart by other ways");
            return false;
        }
    }
    read_root(&r);
    fadt = table_find("FACP");
    if (fadt == NULL) {
        log_warn("%u tables and no FADT among them", root_count);
        return false;
    }
    read_fadt(fadt, &platform);
    table_put(fadt);
    for (unsigned i = 0; i < root_count && !(platform.has_s5 && platform.vmbus_irq != 0); i++) {
        const struct table *t = table_get(roots[i]);
        if (t != NULL && memcmp(t->signature, "SSDT", 4) == 0)
            look_into(t, &platform);
        table_put(t);
    }
    read_arm(&platform);
    if (platform.pm1a_control_port == 0 && platform.sleep_control.address == 0)
        platform.has_s5 = false;             /* a value, and no register to write it to */
    arch_platform_set(&platform);
    log_info("RSDP at 0x%llx, %u tables, power-off by %s, PM timer at port 0x%x", (unsigned long long)at, root_count,
             power_off_name(&platform), platform.pm_timer_port);
    return true;
}

size_t acpi_random_bytes(uint8_t *buf, size_t max)
{
    const struct table *t = table_find("OEM0");
    size_t n = 0;
    if (t != NULL && memcmp(t->oem_table_id, "MICROSFT", 8) == 0) {
        n = MIN((size_t)t->length - sizeof *t, max);
        memcpy(buf, t + 1, n);
    }
    table_put(t);
    return n;
}
