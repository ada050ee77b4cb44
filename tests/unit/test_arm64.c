/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib host fake_arch */
/*
 * What of arm64 is numbers alone: register images of the hypervisor interface, held against the model of the host,
 * feature words, the way to the own redistributor, and the ACPI tables of Arm machines with the interrupt of VMBus.
 */
#define LOG_ROOM "acpi"         /* as boot/acpi_arm.c has it */
#include "tests/unit/played_guest.h"
#include "arch/arm64/gic_find.c"
#include "arch/arm64/hv_registers.c"
#include "arch/arm64/irq_numbers.c"
#include "boot/acpi_arm.c"
#include "boot/aml.c"
#include "tests/fake_arch/fake_arch.h"
#include "tests/host/host_internal.h"

/* ---- registers ---- */

TEST(arm64_register_names)
{
    static const struct { uint32_t msr, name; } known[] = {
        {HV_X64_MSR_GUEST_OS_ID, 0x90002}, {HV_X64_MSR_VP_INDEX, 0x90003}, {HV_X64_MSR_VP_RUNTIME, 0x90000},
        {HV_X64_MSR_TIME_REF_COUNT, 0x90004}, {HV_X64_MSR_REFERENCE_TSC, 0x90017},
        {HV_X64_MSR_VP_ASSIST_PAGE, 0x90013}, {HV_X64_MSR_SINT0, 0xA0000}, {HV_X64_MSR_SINT(2), 0xA0002},
        {HV_X64_MSR_SINT15, 0xA000F}, {HV_X64_MSR_SCONTROL, 0xA0010}, {HV_X64_MSR_SVERSION, 0xA0011},
        {HV_X64_MSR_SIEFP, 0xA0012}, {HV_X64_MSR_SIMP, 0xA0013}, {HV_X64_MSR_EOM, 0xA0014},
        {HV_X64_MSR_STIMER_CONFIG(0), 0xB0000}, {HV_X64_MSR_STIMER_COUNT(0), 0xB0001},
        {HV_X64_MSR_STIMER_CONFIG(3), 0xB0006}, {HV_X64_MSR_STIMER3_COUNT, 0xB0007},
        {HV_X64_MSR_CRASH_P0, 0x210}, {HV_X64_MSR_CRASH_P4, 0x214}, {HV_X64_MSR_CRASH_CTL, 0x215},
        {HV_X64_MSR_GUEST_IDLE, 0x250},
    };
    static const uint32_t unknown[] = {
        HV_X64_MSR_HYPERCALL, HV_X64_MSR_RESET, HV_X64_MSR_TSC_FREQUENCY, HV_X64_MSR_APIC_FREQUENCY, HV_X64_MSR_EOI,
        HV_X64_MSR_ICR, HV_X64_MSR_TPR, HV_X64_MSR_SINT15 + 1, HV_X64_MSR_STIMER3_COUNT + 1,
        HV_X64_MSR_REENLIGHTENMENT_CTL, HV_X64_MSR_GHCB, 0, UINT32_MAX,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
        CHECK_EQ(arm64_hv_register(known[i].msr), known[i].name);
    for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
        CHECK_EQ(arm64_hv_register(unknown[i]), 0);
}

static void image_is(const struct arm64_call *call, const uint64_t (*x)[8])
{
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(call->x[i], (*x)[i]);
}

/* The images that other guests of such hosts send, register by register. */
TEST(arm64_register_calls)
{
    struct arm64_call get = arm64_hv_get_call(0x90003), set = arm64_hv_set_call(0xA0013, 0x123456789ABCD001);
    static const uint64_t get_image[8] = {0x46000001, 0x100010050, UINT64_MAX, 0xFFFFFFFE, 0x90003};
    static const uint64_t set_image[8] = {0x46000001, 0x100010051, UINT64_MAX, 0xFFFFFFFE, 0xA0013, 0,
                                          0x123456789ABCD001};
    image_is(&get, &get_image);
    image_is(&set, &set_image);
    CHECK_EQ(hv_control(HVCALL_SIGNAL_EVENT, 0, 0, 0) | HV_CONTROL_FAST, 0x1005D);
    CHECK_EQ(hv_control(HVCALL_POST_MESSAGE, 0, 0, 0), 0x5C);

    get.x[0] = hv_result(HV_STATUS_SUCCESS, 1), get.x[6] = 7, get.x[7] = 8;
    CHECK(arm64_hv_succeeded(&get));
    CHECK(arm64_hv_got(&get).low == 7 && arm64_hv_got(&get).high == 8);
    get.x[0] = hv_result(HV_STATUS_ACCESS_DENIED, 0);
    CHECK(!arm64_hv_succeeded(&get));
    get.x[0] = SMCCC_NOT_SUPPORTED;
    CHECK(!arm64_hv_succeeded(&get));
}

/* HVC #0 as the lab passes it on. */
static void hvc(struct arm64_call *call)
{
    uint64_t regs[HOST_HCALL_REGS] = {0}, control = call->x[1];
    CHECK_EQ(call->x[0], HV_SMCCC_FUNCTION);
    for (unsigned i = 0; i < 6; i++)
        regs[i] = call->x[2 + i];
    do
        call->x[0] = host_hypercall(host, 0, &control, regs);
    while (control != call->x[1] && (call->x[1] = control));
    for (unsigned i = 0; i < 6; i++)
        call->x[2 + i] = regs[i];
}

static bool get(uint32_t name, struct hv_register_value *value)
{
    struct arm64_call call = arm64_hv_get_call(name);
    hvc(&call);
    *value = arm64_hv_got(&call);
    return arm64_hv_succeeded(&call);
}

static bool set(uint32_t name, uint64_t value)
{
    struct arm64_call call = arm64_hv_set_call(name, value);
    hvc(&call);
    return arm64_hv_succeeded(&call);
}

TEST(arm64_registers_of_the_model)
{
    uint64_t id = hv_guest_os_id(HV_GUEST_OS_TYPE_UNDEFINED, 0x43, 1, 0);
    struct hv_register_value value, hints;
    struct arch_hv_features f = {0};
    struct host_config cfg;

    host_config_default(&cfg);
    cfg.arm64 = true;
    host = host_create(&cfg, &ops, NULL);
    CHECK(get(HV_REGISTER_PRIVILEGES, &value) && get(HV_REGISTER_FEATURES, &hints));
    arm64_hv_features(&f, value, hints);
    CHECK_EQ(f.features[0], host->cfg.access);
    CHECK_EQ(f.features[1], host->cfg.privileges);
    CHECK_EQ(f.features[3] & (HV_FEATURE_CRASH_MSRS | HV_FEATURE_STIMER_DIRECT | HV_FEATURE_FREQUENCY_MSRS),
             host->cfg.features & (HV_FEATURE_CRASH_MSRS | HV_FEATURE_STIMER_DIRECT | HV_FEATURE_FREQUENCY_MSRS));
    CHECK(f.hints[0] & HV_RECOMMEND_NO_AUTO_EOI);
    CHECK(!(f.hints[0] & HV_RECOMMEND_REMOTE_FLUSH));

    CHECK(set(HV_REGISTER_GUEST_OS_ID, id));
    CHECK(get(arm64_hv_register(HV_X64_MSR_GUEST_OS_ID), &value) && value.low == id && value.high == 0);
    CHECK(get(arm64_hv_register(HV_X64_MSR_VP_INDEX), &value) && value.low == 0);
    CHECK(set(arm64_hv_register(HV_X64_MSR_SINT(2)), 18) && get(HV_REGISTER_SINT0 + 2, &value) && value.low == 18);
    CHECK(!set(HV_REGISTER_VP_INDEX, 1));
    CHECK(!get(0x12345, &value));
    host_destroy(host);
}

/* The largest block of registers: five names are 36 bytes, 48 with their pair, and five values 80: X2 to X17. */
TEST(arm64_registers_by_the_largest_block)
{
    struct host_config cfg;
    struct { struct hv_vp_registers header; uint32_t names[5]; } in = {
        {.partition_id = HV_PARTITION_ID_SELF, .vp_index = HV_VP_INDEX_SELF},
        {HV_REGISTER_VP_INDEX, HV_REGISTER_SVERSION, HV_REGISTER_VP_INDEX, HV_REGISTER_SVERSION,
         HV_REGISTER_HYPERVISOR_VERSION},
    };
    uint64_t regs[HOST_HCALL_REGS] = {0}, control = HV_CONTROL_FAST | hv_control(HVCALL_GET_VP_REGISTERS, 0, 5, 0);

    host_config_default(&cfg);
    cfg.arm64 = true;
    host = host_create(&cfg, &ops, NULL);
    memcpy(regs, &in, sizeof(in.header) + sizeof(in.names));
    CHECK_EQ(host_hypercall(host, 0, &control, regs), hv_result(HV_STATUS_SUCCESS, 5));
    CHECK_EQ(regs[6], 0);
    CHECK_EQ(regs[8], HV_SYNIC_VERSION_1);
    CHECK_EQ(regs[12], HV_SYNIC_VERSION_1);
    CHECK_EQ(regs[14], cfg.version_words[0] | (uint64_t)cfg.version_words[1] << 32);
    CHECK_EQ(regs[15], cfg.version_words[2] | (uint64_t)cfg.version_words[3] << 32);
    host_destroy(host);
}

TEST(arm64_feature_words)
{
    struct arch_hv_features f = {0};
    struct hv_register_value none = {0, 0};
    uint32_t words[4];

    arm64_hv_features(&f, none, none);
    CHECK(f.features[0] == 0 && f.features[1] == 0 && f.features[3] == 0 && f.hints[0] == HV_RECOMMEND_NO_AUTO_EOI);
    /* Word 2 of a real host: bits 0, 5, 6, 7, 8, 12, 13. */
    arm64_hv_features(&f, (struct hv_register_value){0x2BB0FF00000E7F, 0x31E1},
                      (struct hv_register_value){0xFF0000001A, 0});
    CHECK_EQ(f.features[0], 0x00000E7F);
    CHECK_EQ(f.features[1], 0x2BB0FF);
    CHECK_EQ(f.features[3], HV_FEATURE_FREQUENCY_MSRS | HV_FEATURE_CRASH_MSRS | HV_FEATURE_SINT_POLLING |
                            HV_FEATURE_STIMER_DIRECT);
    CHECK_EQ(f.hints[0], HV_RECOMMEND_RELAXED_TIMING | HV_RECOMMEND_EX_PROCESSOR_MASKS | HV_RECOMMEND_NESTED |
                         HV_RECOMMEND_NO_AUTO_EOI);
    CHECK_EQ(f.hints[1], 0xFF);
    arm64_hv_words(words, (struct hv_register_value){0x200000001, 0x400000003});
    CHECK(words[0] == 1 && words[1] == 2 && words[2] == 3 && words[3] == 4);
}

TEST(arm64_who_is_beneath)
{
    struct arm64_call hyperv = {{0x4D32BA58, 0xCD244764, 0x8EEF6C75, 0x16597024}}, wide = hyperv;
    struct arm64_call kvm = {{0xB66FB428, 0xE911C52E, 0x564BCAA9, 0x743A004D}}, else_ = {{5}};
    struct arm64_call nobody = {{UINT64_MAX}}, narrow = {{UINT32_MAX}};
    wide.x[1] |= 1ull << 40;                   /* the upper halves are nobody's business */
    CHECK(arm64_hv_is_microsoft(&hyperv) && arm64_hv_is_microsoft(&wide));
    hyperv.x[3]++;
    CHECK(!arm64_hv_is_microsoft(&hyperv) && !arm64_hv_is_microsoft(&nobody) && !arm64_hv_is_microsoft(&kvm));
    CHECK(!strcmp(arm64_hv_other(&kvm), "KVMKVMKVM") && !strcmp(arm64_hv_other(&else_), "unknown"));
    CHECK(!strcmp(arm64_hv_other(&nobody), "") && !strcmp(arm64_hv_other(&narrow), ""));
}

/* ---- redistributors ---- */

struct frames { const uint64_t *typer; unsigned count, stride, reads; };

static uint64_t typer(void *context, uint64_t offset)
{
    struct frames *f = context;
    f->reads++;
    KASSERT(offset % GICR_FRAME_BYTES == 0);
    return offset / f->stride < f->count ? f->typer[offset / f->stride] : 0xFFFFFFFF00000000;
}
#define TYPER(affinity, flags) ((uint64_t)(affinity) << 32 | (flags))

TEST(arm64_own_redistributor)
{
    static const uint64_t three[] = {TYPER(0, 0), TYPER(1, 0), TYPER(0x100, GICR_TYPER_LAST), TYPER(7, 0)};
    static const uint64_t big[] = {TYPER(0, GICR_TYPER_VLPIS), TYPER(1, GICR_TYPER_VLPIS | GICR_TYPER_LAST)};
    struct frames f = {three, 4, 0x20000, 0}, v4 = {big, 2, 0x40000, 0};
    uint64_t at = 99;
    CHECK(gic_find_redistributor(0, 0x80000, false, typer, &f, &at) && at == 0);
    CHECK(gic_find_redistributor(0x100, 0x80000, false, typer, &f, &at) && at == 0x40000);
    CHECK(!gic_find_redistributor(7, 0x80000, false, typer, &f, &at));         /* behind the last */
    CHECK(gic_find_redistributor(7, 0x80000, true, typer, &f, &at) && at == 0x60000);
    CHECK(!gic_find_redistributor(0x100, 0x40000, false, typer, &f, &at));     /* beyond the range */
    CHECK(!gic_find_redistributor(0, 0x1FFFF, false, typer, &f, &at));
    CHECK(!gic_find_redistributor(0, 0, false, typer, &f, &at));
    CHECK(gic_find_redistributor(1, 0x100000, false, typer, &v4, &at) && at == 0x40000);
    f.reads = 0;
    CHECK(!gic_find_redistributor(0xABCD, GIC_RANGE_BYTES_MAX, true, typer, &f, &at));     /* one that never ends */
    CHECK_EQ(f.reads, GIC_RANGE_BYTES_MAX / 0x20000);
    CHECK_EQ(gic_affinity(0xAA81010203ull), 0xAA010203u);      /* U and MT bits left out */
}

/* ---- tables ---- */

static uint8_t table[1024];
static uint32_t end;
static struct arch_platform platform;

static void begin(uint32_t head)
{
    memset(table, 0, sizeof table);
    memset(&platform, 0, sizeof platform);
    end = head;
}

static uint8_t *entry(uint8_t type, uint8_t bytes)
{
    uint8_t *e = table + end;
    e[0] = type, e[1] = bytes;
    end += bytes;
    return e;
}
static void put(uint8_t *p, uint64_t value, size_t bytes) { memcpy(p, &value, bytes); }

static void gicd(uint64_t base, unsigned version)
{
    uint8_t *e = entry(0x0C, 24);
    put(e + 8, base, 8);
    e[20] = (uint8_t)version;
}

static void gicc(unsigned n, uint64_t redistributor)
{
    uint8_t *e = entry(0x0B, 80);
    put(e + 4, n, 4);
    put(e + 12, 1, 4);
    put(e + 60, redistributor, 8);
    put(e + 68, n, 8);
}

static void gicr(uint64_t base, uint64_t bytes)
{
    uint8_t *e = entry(0x0E, 16);
    put(e + 4, base, 8);
    put(e + 12, bytes, 4);
}

/* Every timer with everything that tables may say of the bus: three numbers, all PPIs, no two the same. */
TEST(arm64_interrupt_numbers)
{
    struct arm64_irq_numbers n;
    for (uint32_t timer = GIC_PPI_FIRST; timer < GIC_SPI_FIRST; timer++) {
        for (uint32_t told = 0; told < 48; told++) {
            bool good = told >= GIC_PPI_FIRST && told < GIC_SPI_FIRST && told != timer;
            CHECK_EQ(arm64_irq_choose(timer, told, &n), good || told == 0);
            CHECK_EQ(n.timer, timer);
            CHECK(gic_is_ppi(n.vmbus) && gic_is_ppi(n.stimer));
            CHECK(n.vmbus != timer && n.stimer != timer && n.vmbus != n.stimer);
            if (good)
                CHECK_EQ(n.vmbus, told);
        }
    }
    arm64_irq_choose(27, 0, &n);
    CHECK(n.vmbus == 18 && n.stimer == 17);
}

TEST(arm64_madt)
{
    fake_arch_boot(16 << 20);
    /* QEMU: a range, and no addresses beside the processors. */
    begin(44);
    gicd(0x8000000, 3);
    gicc(0, 0);
    gicc(1, 0);
    gicr(0x80A0000, 0xF60000);
    gicr(0x4000000000, 0x4000000);
    acpi_arm_madt(table, end, &platform);
    CHECK(platform.gic_distributor == 0x8000000 && platform.gic_version == 3 && platform.gic_ranges == 2);
    CHECK(platform.gic_redistributors[0].start == 0x80A0000 && platform.gic_redistributors[0].bytes == 0xF60000);
    CHECK(!platform.gic_redistributors[0].one_by_one && platform.gic_redistributors[1].start == 0x4000000000);

    /* Hyper-V: each processor's own, one behind the other; the distributor at the end. */
    begin(44);
    for (unsigned n = 0; n < 8; n++)
        gicc(n, 0xEFFEE000 + n * 0x20000);
    gicd(0xFFFF0000, 3);
    acpi_arm_madt(table, end, &platform);
    CHECK(platform.gic_distributor == 0xFFFF0000 && platform.gic_ranges == 1);
    CHECK(platform.gic_redistributors[0].one_by_one && platform.gic_redistributors[0].start == 0xEFFEE000);
    CHECK(platform.gic_redistributors[0].bytes == 8 * 0x20000);

    CHECK(!fake_log_contains("redistributors"));

    /* Apart from each other, and more of them than there is room: the first stay, one line tells. */
    begin(44);
    for (unsigned n = 0; n < 12; n++)
        gicc(n, 0x1000000 + n * 0x100000ull);
    acpi_arm_madt(table, end, &platform);
    CHECK(platform.gic_ranges == ARCH_GIC_RANGES && platform.gic_redistributors[7].start == 0x1700000);
    CHECK_EQ(platform.gic_distributor, 0);
    CHECK(fake_log_contains("redistributors in more than 8 places: the last 4 are left out"));
}

/* Processors of every affinity: by the MADT's ranges, in the frames behind them, to the one of each MPIDR. */
TEST(arm64_madt_affinities)
{
    static const uint64_t mpidr[] = {0x80000000, 0x80000100, 0x81010000, 0x0180000000, 0xFF81FF02FF, 0x8100FF0203};
    struct { uint64_t start; bool one_by_one; } places[] = {{0x2000000, true}, {0x4000000, false}};
    for (unsigned place = 0; place < ARRAY_SIZE(places); place++) {
        uint64_t frames_typer[ARRAY_SIZE(mpidr)];
        struct frames f = {frames_typer, ARRAY_SIZE(mpidr), 0x20000, 0};
        begin(44);
        for (unsigned n = 0; n < ARRAY_SIZE(mpidr); n++) {
            bool last = !places[place].one_by_one && n + 1 == ARRAY_SIZE(mpidr);
            frames_typer[n] = TYPER(gic_affinity(mpidr[n]), last ? GICR_TYPER_LAST : 0);
            gicc(n, places[place].one_by_one ? places[place].start + n * 0x20000 : 0);
            put(table + end - 80 + 68, mpidr[n] & 0xFF00FFFFFF, 8);
        }
        if (!places[place].one_by_one)
            gicr(places[place].start, sizeof(mpidr) / sizeof(mpidr[0]) * 0x20000);
        acpi_arm_madt(table, end, &platform);
        CHECK(platform.gic_ranges == 1 && platform.gic_redistributors[0].start == places[place].start);
        const struct arch_gic_range *r = &platform.gic_redistributors[0];
        for (unsigned n = 0; n < ARRAY_SIZE(mpidr); n++) {
            uint64_t at = 99;
            CHECK(gic_find_redistributor(gic_affinity(mpidr[n]), r->bytes, r->one_by_one, typer, &f, &at));
            CHECK_EQ(at, n * 0x20000u);
        }
        for (unsigned bit = 0; bit < 40; bit++) {          /* no other differs in what counts alone */
            uint64_t other = mpidr[4] ^ 1ull << bit, at;
            bool counts = bit < 24 || bit >= 32;
            CHECK_EQ(gic_find_redistributor(gic_affinity(other), r->bytes, r->one_by_one, typer, &f, &at), !counts);
        }
    }
}

TEST(arm64_madt_that_lies)
{
    uint32_t whole;
    fake_arch_boot(16 << 20);
    begin(44);
    gicd(0x8000000, 3);
    gicr(UINT64_MAX - 5, 0x20000);             /* wraps */
    gicr(0x80A0000, 0);
    gicc(0, 0x9000000);
    table[end - 80 + 12] = 0;                  /* a processor that is not there */
    acpi_arm_madt(table, end, &platform);
    CHECK(platform.gic_distributor == 0x8000000 && platform.gic_ranges == 0);
    begin(44);
    gicd(0x8000000, 3);
    gicc(0, 0x9000000);
    whole = end;
    for (uint32_t cut = 0; cut <= whole; cut++) {
        uint8_t *exact = malloc(cut);          /* the sanitizer watches its end */
        memcpy(exact, table, cut);
        memset(&platform, 0, sizeof platform);
        acpi_arm_madt(exact, cut, &platform);
        CHECK_EQ(platform.gic_ranges, cut == whole);
        free(exact);
    }
    table[44 + 1] = 0;                         /* structures of no length */
    acpi_arm_madt(table, end, &platform);
    table[44 + 1] = 200;
    acpi_arm_madt(table, end, &platform);
    CHECK(fake_log_contains("claims 200 bytes"));
    table[44 + 1] = 8;                         /* too short for what it is */
    memset(&platform, 0, sizeof platform);
    acpi_arm_madt(table, 52, &platform);
    CHECK(platform.gic_distributor == 0 && platform.gic_version == 0);
}

TEST(arm64_fadt_gtdt_spcr)
{
    begin(276);
    put(table + 129, 3, 2);
    memcpy(table + 268, "MsHyperV", 8);
    acpi_arm_fadt(table, end, &platform);
    CHECK(platform.psci == ARCH_PSCI_HVC && platform.hyperv);
    put(table + 129, 1, 2);
    acpi_arm_fadt(table, 275, &platform);
    CHECK(platform.psci == ARCH_PSCI_SMC && !platform.hyperv);
    memset(&platform, 0, sizeof platform);
    acpi_arm_fadt(table, 130, &platform);
    CHECK_EQ(platform.psci, ARCH_PSCI_UNKNOWN);

    begin(104);
    put(table + 64, 20, 4);
    put(table + 72, 26, 4);
    acpi_arm_gtdt(table, end, &platform);
    CHECK(platform.timer_irq == 20 && platform.timer_irq_el2 == 26);
    acpi_arm_gtdt(table, 66, &platform);
    CHECK(platform.timer_irq == 0 && platform.timer_irq_el2 == 0);

    begin(80);
    table[36] = 3;
    put(table + 44, 0xEFFEC000, 8);
    acpi_arm_spcr(table, end, &platform);
    CHECK(platform.serial == ARCH_SERIAL_PL011 && platform.serial_address == 0xEFFEC000);
    table[36] = 0x0E;
    acpi_arm_spcr(table, end, &platform);
    CHECK(platform.serial == ARCH_SERIAL_SBSA);
    table[36] = 0x12, table[41] = 32, table[43] = 3;
    acpi_arm_spcr(table, end, &platform);
    CHECK(platform.serial == ARCH_SERIAL_16550 && platform.serial_shift == 2 && platform.serial_width == 4);
    memset(&platform, 0, sizeof platform);
    table[36] = 0x77;
    acpi_arm_spcr(table, end, &platform);
    table[36] = 3, table[40] = 1;              /* at a port */
    acpi_arm_spcr(table, end, &platform);
    table[40] = 0;
    acpi_arm_spcr(table, 51, &platform);
    CHECK(platform.serial == ARCH_SERIAL_NONE && platform.serial_address == 0);
}

/* ---- machine language, as the compiler made it ---- */

/* A button and a UART with interrupts of their own, and between them a module with VMBus (Name _CRS): 18. */
static const uint8_t dsdt[] = {
    0x10, 0x48, 0x10, 0x5f, 0x53, 0x42, 0x5f, 0x5b, 0x82, 0x27, 0x50, 0x57, 0x52, 0x42, 0x08, 0x5f, 0x48, 0x49, 0x44,
    0x0d, 0x50, 0x4e, 0x50, 0x30, 0x43, 0x30, 0x43, 0x00, 0x08, 0x5f, 0x43, 0x52, 0x53, 0x11, 0x0e, 0x0a, 0x0b, 0x89,
    0x06, 0x00, 0x01, 0x01, 0x28, 0x00, 0x00, 0x00, 0x79, 0x00, 0x5b, 0x82, 0x41, 0x0a, 0x56, 0x4d, 0x4f, 0x44, 0x08,
    0x5f, 0x48, 0x49, 0x44, 0x0d, 0x41, 0x43, 0x50, 0x49, 0x30, 0x30, 0x30, 0x34, 0x00, 0x08, 0x5f, 0x43, 0x52, 0x53,
    0x11, 0x33, 0x0a, 0x30, 0x8a, 0x2b, 0x00, 0x00, 0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x79, 0x00, 0x5b, 0x82, 0x41, 0x05, 0x56,
    0x4d, 0x42, 0x53, 0x08, 0x53, 0x54, 0x41, 0x5f, 0x0a, 0x0f, 0x08, 0x5f, 0x41, 0x44, 0x52, 0x00, 0x08, 0x5f, 0x44,
    0x44, 0x4e, 0x0d, 0x56, 0x4d, 0x42, 0x55, 0x53, 0x00, 0x08, 0x5f, 0x48, 0x49, 0x44, 0x0d, 0x56, 0x4d, 0x42, 0x75,
    0x73, 0x00, 0x08, 0x5f, 0x55, 0x49, 0x44, 0x00, 0x14, 0x0b, 0x5f, 0x53, 0x54, 0x41, 0x00, 0xa4, 0x53, 0x54, 0x41,
    0x5f, 0x08, 0x5f, 0x43, 0x52, 0x53, 0x11, 0x0e, 0x0a, 0x0b, 0x89, 0x06, 0x00, 0x03, 0x01, 0x12, 0x00, 0x00, 0x00,
    0x79, 0x00, 0x5b, 0x82, 0x34, 0x43, 0x4f, 0x4d, 0x31, 0x08, 0x5f, 0x48, 0x49, 0x44, 0x0d, 0x41, 0x52, 0x4d, 0x48,
    0x30, 0x30, 0x31, 0x31, 0x00, 0x08, 0x5f, 0x43, 0x52, 0x53, 0x11, 0x1a, 0x0a, 0x17, 0x86, 0x09, 0x00, 0x01, 0x00,
    0xc0, 0xfe, 0xef, 0x00, 0x10, 0x00, 0x00, 0x89, 0x06, 0x00, 0x01, 0x01, 0x21, 0x00, 0x00, 0x00, 0x79, 0x00, 0x08,
    0x5f, 0x53, 0x35, 0x5f, 0x12, 0x08, 0x04, 0x0a, 0x05, 0x0a, 0x05, 0x00, 0x00,
};
/* Device (\_SB.VMB8) with _CID MSFT1000 and a Method _CRS, memory before the interrupts: 22, 23. */
static const uint8_t ssdt[] = {
    0x5b, 0x82, 0x4a, 0x05, 0x5c, 0x2e, 0x5f, 0x53, 0x42, 0x5f, 0x56, 0x4d, 0x42, 0x38, 0x08, 0x5f, 0x48, 0x49, 0x44,
    0x0d, 0x4d, 0x53, 0x46, 0x54, 0x38, 0x30, 0x30, 0x30, 0x00, 0x08, 0x5f, 0x43, 0x49, 0x44, 0x0d, 0x4d, 0x53, 0x46,
    0x54, 0x31, 0x30, 0x30, 0x30, 0x00, 0x14, 0x2f, 0x5f, 0x43, 0x52, 0x53, 0x08, 0x08, 0x52, 0x42, 0x55, 0x46, 0x11,
    0x1e, 0x0a, 0x1b, 0x86, 0x09, 0x00, 0x01, 0x00, 0x10, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x89, 0x0a, 0x00, 0x03,
    0x02, 0x16, 0x00, 0x00, 0x00, 0x17, 0x00, 0x00, 0x00, 0x79, 0x00, 0xa4, 0x52, 0x42, 0x55, 0x46,
};

static uint32_t irq_of(const uint8_t *aml, size_t bytes)
{
    uint8_t *exact = malloc(bytes);
    memcpy(exact, aml, bytes);
    uint32_t irq = aml_find_vmbus_interrupt(exact, bytes);
    free(exact);
    return irq;
}

static size_t find(const uint8_t *aml, size_t bytes, const char *text)
{
    for (size_t at = 0; at + strlen(text) <= bytes; at++)
        if (memcmp(aml + at, text, strlen(text)) == 0)
            return at;
    abort();
}

TEST(arm64_vmbus_interrupt)
{
    uint8_t copy[sizeof dsdt];
    size_t name = find(dsdt, sizeof dsdt, "VMBus"), device = find(dsdt, sizeof dsdt, "VMBS");
    size_t crs = device + find(dsdt + device, sizeof dsdt - device, "_CRS");

    CHECK_EQ(irq_of(dsdt, sizeof dsdt), 18);
    CHECK_EQ(irq_of(ssdt, sizeof ssdt), 22);
    CHECK_EQ(irq_of(dsdt, 0), 0);
    memcpy(copy, dsdt, sizeof copy);
    memcpy(copy + name, "VMBUS", 5);
    CHECK_EQ(irq_of(copy, sizeof copy), 18);
    memcpy(copy + name, "VMBu!", 5);           /* another device */
    CHECK_EQ(irq_of(copy, sizeof copy), 0);
    memcpy(copy, dsdt, sizeof copy);
    memcpy(copy + crs, "_PRS", 4);             /* without current resources: not its neighbour's */
    CHECK_EQ(irq_of(copy, sizeof copy), 0);
    memcpy(copy, dsdt, sizeof copy);
    copy[device - 2] = 0x7F;                   /* a device longer than everything */
    copy[device - 1] = 0x7F;
    CHECK(irq_of(copy, sizeof copy) != 33);
}

/* Cut anywhere, or any byte wrong: no read outside (the sanitizer watches), and no long search. */
TEST(arm64_vmbus_interrupt_broken)
{
    static uint8_t hostile[1 << 20];
    uint8_t copy[sizeof dsdt];
    for (size_t cut = 0; cut < sizeof dsdt; cut++)
        irq_of(dsdt, cut);
    for (size_t cut = 0; cut < sizeof ssdt; cut++)
        CHECK_EQ(irq_of(ssdt, cut), 0);
    for (size_t at = 0; at < sizeof dsdt; at++)
        for (unsigned wrong = 0; wrong < 256; wrong += 17) {
            memcpy(copy, dsdt, sizeof copy);
            copy[at] ^= (uint8_t)wrong;
            irq_of(copy, sizeof copy);
        }
    /* Nothing but devices that are the bus, each in the one before, with resources that are buffers without end. */
    static const uint8_t piece[] = {
        0x5B, 0x82, 0xC0, 0xFF, 0xFF, 0x00, 'A', 'A', 'A', 'A', 0x08, '_', 'H', 'I', 'D', 0x0D,
        'V', 'M', 'B', 'u', 's', 0, 0x08, '_', 'C', 'R', 'S', 0x11, 0xC0, 0xFF, 0xFF, 0x00,
        0x0C, 0xFF, 0xFF, 0xFF, 0x7F, 0x00, 0x00, 0x00,
    };
    for (size_t at = 0; at + sizeof piece <= sizeof hostile; at += sizeof piece)
        memcpy(hostile + at, piece, sizeof piece);
    CHECK_EQ(aml_find_vmbus_interrupt(hostile, sizeof hostile), 0);
    memset(hostile + 1024, 0x11, sizeof hostile - 1024);
    CHECK_EQ(aml_find_vmbus_interrupt(hostile, sizeof hostile), 0);
}

TEST_MAIN()
