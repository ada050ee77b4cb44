/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv arch/x86_64 (ghcb.c, tdx.c) fake_arch */
/*
 * Machines isolated by the processor: what goes over the wire, byte for byte. The expected pages are built here from
 * the offsets of the papers (AMD 56421; Hyper-V's layout after its guests), not from the structs; the host behind the
 * instructions is a script. tests/unit/test_paravisor.c has the same below the whole of hv/.
 */
#include "arch/x86_64/ghcb.h"
#include "arch/x86_64/tdx.h"
#include "hv/hv_internal.h"
#include "tests/fake_arch/fake_hv.h"
#include "tests/unit/child.h"

#define GHCB_GPA  0x4000123000ull      /* above a boundary at bit 38 */

static uint8_t page[4096] __attribute__((aligned(4096))), expected[4096];

static void put(unsigned offset, unsigned bytes, uint64_t value) { memcpy(expected + offset, &value, bytes); }

static uint64_t get(unsigned offset, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, page + offset, bytes);
    return value;
}

/* What was in the page before, and what of it is always written: bitmap, protocol version, usage. */
static void begin_page(uint16_t version, uint32_t usage)
{
    memset(page, 0xEE, sizeof(page));
    memset(expected, 0xEE, sizeof(expected));
    put(0xFFA, 2, version);
    put(0xFFC, 4, usage);
}

static bool same(void)
{
    for (unsigned i = 0; i < sizeof(page); i++) {
        if (page[i] != expected[i]) {
            printf("byte 0x%03x is 0x%02x, expected 0x%02x\n", i, page[i], expected[i]);
            return false;
        }
    }
    return true;
}

/* ---- the page ---- */

TEST(ghcb_msr_write_page)
{
    begin_page(2, 0);
    put(0x1F8, 8, 0x55667788);
    put(0x308, 8, 0x40000092);
    put(0x310, 8, 0x11223344);
    put(0x390, 8, 0x7C);
    put(0x398, 8, 1);
    put(0x3A0, 8, 0);
    put(0x3F0, 8, 0x8000000000000000);           /* RAX: 0x1F8 / 8 = 63 */
    put(0x3F8, 8, 0x001C000600000000);           /* RCX 97, RDX 98, exit code and infos 114 to 116, less 64 */
    ghcb_put_msr((void *)page, 2, 0x40000092, true, 0x1122334455667788);
    CHECK(same());
}

TEST(ghcb_msr_read_page)
{
    uint64_t value = 1;

    begin_page(1, 0);
    put(0x308, 8, 0x40000083);
    put(0x390, 8, 0x7C);
    put(0x398, 8, 0);
    put(0x3A0, 8, 0);
    put(0x3F0, 8, 0);
    put(0x3F8, 8, 0x001C000200000000);
    ghcb_put_msr((void *)page, 1, 0x40000083, false, 0x1122334455667788);
    CHECK(same());
    memset(page, 0xEE, sizeof(page));            /* upper halves of RAX and RDX mean nothing */
    memcpy(page + 0x1F8, &(uint64_t){0xDEADBEEF87654321}, 8);
    memcpy(page + 0x310, &(uint64_t){0xDEADBEEF12345678}, 8);
    memcpy(page + 0x398, &(uint64_t){0x0000000700000000}, 8);
    CHECK(ghcb_take_msr((void *)page, &value));
    CHECK_EQ(value, 0x1234567887654321);
    memcpy(page + 0x398, &(uint64_t){2}, 8);     /* "exception" */
    CHECK(!ghcb_take_msr((void *)page, &value));
    CHECK_EQ(value, 0x1234567887654321);
}

TEST(ghcb_vmmcall_page)
{
    begin_page(2, 0);
    put(0x0CB, 1, 0);
    put(0x1F8, 8, 0);
    put(0x308, 8, 0x000100020000009A);
    put(0x310, 8, 0xAABBCC000);
    put(0x340, 8, 0xDDEEFF000);
    put(0x390, 8, 0x81);
    put(0x398, 8, 0);
    put(0x3A0, 8, 0);
    put(0x3F0, 8, 0x8000000002000000);           /* RAX 63, CPL 0xCB / 8 = 25 */
    put(0x3F8, 8, 0x001C010600000000);           /* and R8: 104 - 64 = 40 */
    ghcb_put_vmmcall((void *)page, 2, 0x000100020000009A, 0xAABBCC000, 0xDDEEFF000);
    CHECK(same());
    memcpy(page + 0x1F8, &(uint64_t){0x0000000300000078}, 8);
    CHECK_EQ(ghcb_take_vmmcall((void *)page), 0x0000000300000078);
    page[0x3F7] = 0;                             /* RAX is not meant: nothing was answered */
    CHECK_EQ(ghcb_take_vmmcall((void *)page), HV_STATUS_OPERATION_FAILED);
    page[0x3F7] = 0x80;
    page[0x398] = 1;
    CHECK_EQ(ghcb_take_vmmcall((void *)page), HV_STATUS_OPERATION_FAILED);
}

TEST(ghcb_hypercall_page)
{
    uint8_t message[256];

    for (unsigned i = 0; i < 256; i++)
        message[i] = (uint8_t)(i * 7 + 1);
    begin_page(2, 1);
    memcpy(expected, message, 256);
    put(0xFE8, 8, 0);
    put(0xFF0, 8, 0x5C);
    put(0xFF8, 2, 0);
    ghcb_put_hypercall((void *)page, 2, 0x5C, message, 256, (gpa_t){0});
    CHECK(same());

    begin_page(1, 1);                            /* a signal: fast, which the page does not say */
    put(0x000, 8, 0x0000000300010004);
    put(0xFE8, 8, 0);
    put(0xFF0, 8, 0x5D);
    put(0xFF8, 2, 0);
    ghcb_put_hypercall((void *)page, 1, 0x1005D, &(uint64_t){0x0000000300010004}, 8, (gpa_t){0});
    CHECK(same());

    begin_page(2, 1);                            /* repetitions 5 to 11, with output */
    put(0x000, 8, 0x0123456789ABCDEF);
    put(0xFE8, 8, 0x7654321000);
    put(0xFF0, 8, 0x0005000C000000DB);
    put(0xFF8, 2, 0);
    ghcb_put_hypercall((void *)page, 2, 0x0005000C000000DB, &(uint64_t){0x0123456789ABCDEF}, 8,
                       (gpa_t){0x7654321000});
    CHECK(same());
}

/* The host can put anything there: what a result word does not have is cut off, and the page is closed again. */
TEST(ghcb_hypercall_result)
{
    begin_page(2, 1);
    memset(page + 0xFF0, 0xFF, 8);
    CHECK_EQ(ghcb_take_hypercall((void *)page), 0x00000FFF0000FFFF);
    CHECK_EQ(get(0xFFC, 4), 0xFFFFFFFF);
    CHECK_EQ(get(0x3F0, 8), 0);
    CHECK_EQ(get(0x3F8, 8), 0);
}

/* ---- the register ---- */

TEST(ghcb_page_state_requests)
{
    CHECK_EQ(ghcb_msr_page_state(pa(0x12345000), GHCB_PAGE_SHARED), 0x0020000012345014);
    CHECK_EQ(ghcb_msr_page_state(pa(0x12345000), GHCB_PAGE_PRIVATE), 0x0010000012345014);
    CHECK_EQ(ghcb_msr_page_state(pa(0x000FFFFFFFFFF000), GHCB_PAGE_SHARED), 0x002FFFFFFFFFF014);
}

TEST(ghcb_versions)
{
    static const struct { uint64_t answer; unsigned version; } cases[] = {
        {0x0002000100000001, 2}, {0x0001000133000001, 1}, {0x00FF000100000001, 2}, {0x0002000200000001, 2},
        {0x00FF000200000001, 2},
        {0x00FF000300000001, 0},       /* too new for us */
        {0x0000000000000001, 0},       /* none */
        {0x0001000200000001, 0},       /* lowest above highest */
        {0x0002000100000002, 0},       /* our own question */
        {0x0002000100000100, 0},       /* "terminate" */
        {0, 0}, {~0ull, 0},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        uint16_t version = 0;
        CHECK_EQ(ghcb_msr_version(cases[i].answer, &version), cases[i].version != 0);
        CHECK_EQ(version, cases[i].version);
    }
}

/* ---- the exchange: a host of lines ---- */

static char story[512];                /* "w2 x w4000123000 ": writes of the register, exits, validations */
static uint64_t msr, answers[8];
static unsigned answer, validate_result;
static bool validate_changed, irqs_were_on;
static void (*host_does)(void);        /* to the page, at an exit */

static void tell(const char *format, unsigned long long value)
{
    size_t n = strlen(story);

    snprintf(story + n, sizeof(story) - n, format, value);
}

static uint64_t read_msr(void) { return msr; }
static void write_msr(uint64_t value)
{
    tell("w%llx ", value);
    msr = value;
}

static void leave(void)
{
    irqs_were_on |= arch_irq_enabled();
    tell("x ", 0);
    if (msr == GHCB_GPA) {
        if (host_does)
            host_does();
    } else {
        msr = answers[answer++];
    }
}

static unsigned validate(const void *at, bool valid, bool *changed)
{
    tell(valid ? "v1:%llx " : "v0:%llx ", (unsigned long long)(uintptr_t)at);
    *changed = validate_changed;
    return validate_result;
}

static const struct ghcb_machine machine = {read_msr, write_msr, leave, validate};
static struct ghcb ghcb = {.machine = &machine, .page = page, .msr = GHCB_GPA, .version = 2};

static void script(uint64_t first_answer)
{
    story[0] = '\0';
    msr = GHCB_GPA;
    answer = 0;
    answers[0] = first_answer;
    validate_result = PVALIDATE_SUCCESS;
    validate_changed = true;
    host_does = NULL;
    irqs_were_on = false;
}

TEST(ghcb_negotiation)
{
    arch_irq_enable();
    ghcb.version = 0;
    script(0x00050001AA000001);
    CHECK(ghcb_negotiate(&ghcb));
    CHECK_EQ(ghcb.version, 2);
    CHECK(!strcmp(story, "w2 x w4000123000 x "));
    script(0x0001000100000001);
    CHECK(ghcb_negotiate(&ghcb));
    CHECK_EQ(ghcb.version, 1);
    CHECK(!irqs_were_on && arch_irq_enabled());
}

/* The register is as it was: the page is still the paravisor's. */
TEST(ghcb_negotiation_refused)
{
    static const uint64_t bad[] = {0x0000000000000100, 0x0009000300000001, 0x2, 0};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        script(bad[i]);
        CHECK(!ghcb_negotiate(&ghcb));
        CHECK(!strcmp(story, "w2 x w4000123000 "));
        CHECK_EQ(msr, GHCB_GPA);
    }
}

static void serve_msr(void)
{
    memset(page + 0x398, 0, 8);
    memcpy(page + 0x1F8, &(uint64_t){0x21}, 8);
    memcpy(page + 0x310, &(uint64_t){0x43}, 8);
}
static void refuse(void) { memcpy(page + 0x398, &(uint64_t){0x1}, 8); }

TEST(ghcb_registers)
{
    uint64_t value = 7;

    arch_irq_enable();
    script(0);
    host_does = serve_msr;
    CHECK(ghcb_msr_read(&ghcb, 0x40000082, &value));
    CHECK_EQ(value, 0x4300000021);
    CHECK_EQ(get(0x308, 8), 0x40000082);
    CHECK(ghcb_msr_write(&ghcb, 0x40000080, 1));
    CHECK_EQ(get(0xFFA, 2), 2);
    CHECK(!strcmp(story, "x x "));
    host_does = refuse;
    CHECK(!ghcb_msr_read(&ghcb, 0x40000082, &value));
    CHECK_EQ(value, 0x4300000021);
    CHECK(!ghcb_msr_write(&ghcb, 0x40000080, 1));
    host_does = NULL;                  /* a write that nobody touched: info1 is still our 1, which is an error */
    CHECK(!ghcb_msr_write(&ghcb, 0x40000080, 1));
    CHECK(!irqs_were_on);
}

/* ---- pages, without a paravisor ---- */

TEST(ghcb_pages_change_hands)
{
    void *at = (void *)0x7000;

    script(0x15);
    CHECK(ghcb_page_share(&ghcb, pa(0x5000), at));
    CHECK(!strcmp(story, "v0:7000 w20000000005014 x w4000123000 "));
    script(0x15);
    CHECK(ghcb_page_unshare(&ghcb, pa(0x5000), at));
    CHECK(!strcmp(story, "w10000000005014 x w4000123000 v1:7000 "));
}

TEST(ghcb_page_changes_refused)
{
    static const uint64_t bad[] = {0x0000000100000015, 0x0000000000001015, 0x14, 0x13, 0, ~0ull};
    static const unsigned failures[] = {PVALIDATE_FAIL_INPUT, PVALIDATE_FAIL_SIZE_MISMATCH, 99};
    void *at = (void *)0x7000;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        script(bad[i]);
        CHECK(!ghcb_page_share(&ghcb, pa(0x5000), at));
        CHECK_EQ(msr, GHCB_GPA);
        script(bad[i]);
        CHECK(!ghcb_page_unshare(&ghcb, pa(0x5000), at));
        CHECK(!strstr(story, "v1"));                     /* nothing is validated that the host did not give */
    }
    for (unsigned i = 0; i < ARRAY_SIZE(failures); i++) {
        script(0x15);
        validate_result = failures[i];
        CHECK(!ghcb_page_share(&ghcb, pa(0x5000), at));
        CHECK(!strchr(story, 'w'));                      /* and nothing given away that is still validated */
        CHECK(!ghcb_page_unshare(&ghcb, pa(0x5000), at));
    }
    script(0x15);
    validate_changed = false;                            /* it was valid all the time: another page than ours */
    CHECK(!ghcb_page_unshare(&ghcb, pa(0x5000), at));
    CHECK(!ghcb_page_share(&ghcb, pa(0x5000), at));
}

/* ---- repetitions: hv_call_rep above the page, against hosts that stop where they like ---- */

static unsigned rounds, step;
static uint64_t first_status;
static bool lie_about_reps;

static void some_repetitions(void)
{
    uint64_t word = get(0xFF0, 8);
    unsigned count = word >> 32 & 0xFFF, start = word >> 48 & 0xFFF, reached = MIN(start + step, count);

    rounds++;
    KASSERT((word & 0xFFFF) == 0xDB && get(0xFFC, 4) == 1);
    word = reached < count ? 0x78 : 0;
    if (first_status && rounds == 3)
        word = first_status;
    if (lie_about_reps)
        reached = 0xFFF;
    word |= (uint64_t)reached << 32;
    memcpy(page + 0xFF0, &word, 8);
}

static uint64_t call_by_page(uint64_t control, uint64_t in, uint64_t out)
{
    return ghcb_hypercall(&ghcb, control, fake_phys(in), 2048, (gpa_t){out});
}

static bool discover(struct arch_hv_features *f)
{
    f->features[0] = HV_ACCESS_HYPERCALL;
    return true;
}
static uint64_t hypercall_register;
static bool page_read(uint32_t reg, uint64_t *value)
{
    *value = reg == HV_X64_MSR_HYPERCALL ? hypercall_register : 0;
    return true;
}
static bool page_write(uint32_t reg, uint64_t value)
{
    if (reg == HV_X64_MSR_HYPERCALL)
        hypercall_register = value;
    return true;
}

TEST(ghcb_repetitions_are_continued)
{
    unsigned done = 99;

    fake_arch_boot(32ull << 20);
    fake_hv_ops = (struct fake_hv_ops){
        .discover = discover, .reg_read = page_read, .reg_write = page_write, .hypercall = call_by_page,
    };
    CHECK(hv_init());
    script(0);
    host_does = some_repetitions;
    step = 7;
    CHECK_EQ(hv_call_rep(0xDB, 0, 100, false, &done), HV_STATUS_SUCCESS);
    CHECK_EQ(done, 100);
    CHECK_EQ(rounds, 15);

    rounds = 0;
    first_status = HV_STATUS_OPERATION_DENIED;   /* at the third stop: what was done until then is known */
    CHECK_EQ(hv_call_rep(0xDB, 0, 100, false, &done), HV_STATUS_OPERATION_DENIED);
    CHECK_EQ(done, 21);

    rounds = 0;
    first_status = 0;
    step = 0;                                    /* "call again" without an end */
    CHECK_EQ(hv_call_rep(0xDB, 0, 100, false, &done), HV_STATUS_TIMEOUT);
    CHECK_EQ(done, 0);
    CHECK_EQ(rounds, 1);

    lie_about_reps = true;                       /* more done than was asked for */
    step = 100;
    CHECK(hv_call_rep(0xDB, 0, 100, false, &done) != HV_STATUS_SUCCESS);
    CHECK_EQ(done, 0);
}

/* ---- TDX ---- */

static const struct tdx_registers nothing;

static bool equal(struct tdx_registers a, struct tdx_registers b) { return memcmp(&a, &b, sizeof(a)) == 0; }

TEST(tdx_registers)
{
    CHECK(equal(tdx_put_msr(0x40000092, true, 0x1122334455667788),
                (struct tdx_registers){.rcx = 0xFC00, .r11 = 32, .r12 = 0x40000092, .r13 = 0x1122334455667788}));
    CHECK(equal(tdx_put_msr(0x40000083, false, 0),
                (struct tdx_registers){.rcx = 0xFC00, .r11 = 31, .r12 = 0x40000083}));
    CHECK(equal(tdx_put_hypercall(0x1005D, 0x0000000300010004, 0),
                (struct tdx_registers){.rcx = 0x0D04, .r10 = 0x1005D, .rdx = 0x0000000300010004}));
    CHECK(equal(tdx_put_hypercall(0x5C, 0x12345000, 0x6000),
                (struct tdx_registers){.rcx = 0x0D04, .r10 = 0x5C, .rdx = 0x12345000, .r8 = 0x6000}));
    CHECK(equal(tdx_put_map(0x8000000012345000, 4096),
                (struct tdx_registers){.rcx = 0xFC00, .r11 = 0x10001, .r12 = 0x8000000012345000, .r13 = 4096}));
    CHECK(equal(tdx_put_accept(pa(0x12345000)), (struct tdx_registers){.rax = 6, .rcx = 0x12345000}));
}

/* A module and a host of prepared answers, in turn; the last one stays. */
static struct tdx_registers tdx_answers[8], tdx_asked[8];
static unsigned tdx_calls;
static bool tdx_known;

static bool tdcall(struct tdx_registers *r)
{
    unsigned n = MIN(tdx_calls, 7u);

    tdx_asked[n] = *r;
    tdx_calls++;
    *r = tdx_answers[n];
    return tdx_known;
}

static void answers_are(struct tdx_registers a, struct tdx_registers b)
{
    tdx_answers[0] = a;
    for (unsigned i = 1; i < 8; i++)
        tdx_answers[i] = b;
    tdx_calls = 0;
    tdx_known = true;
}

TEST(tdx_registers_of_the_host)
{
    uint64_t value = 5;

    answers_are((struct tdx_registers){.r11 = 0x1234567890}, nothing);
    CHECK(tdx_msr_read(tdcall, 0x40000083, &value));
    CHECK_EQ(value, 0x1234567890);
    CHECK(equal(tdx_asked[0], tdx_put_msr(0x40000083, false, 0)));
    CHECK(tdx_msr_write(tdcall, 0x40000083, 6));
    CHECK(equal(tdx_asked[1], tdx_put_msr(0x40000083, true, 6)));
    answers_are((struct tdx_registers){.r10 = 0x8000000000000000, .r11 = 9}, nothing);      /* invalid operand */
    CHECK(!tdx_msr_read(tdcall, 0x40000083, &value));
    answers_are((struct tdx_registers){.rax = 0xC000010000000000, .r11 = 9}, nothing);      /* the module's no */
    CHECK(!tdx_msr_read(tdcall, 0x40000083, &value));
    answers_are(nothing, nothing);
    tdx_known = false;
    CHECK(!tdx_msr_read(tdcall, 0x40000083, &value) && !tdx_msr_write(tdcall, 0x40000083, 1));
    CHECK_EQ(value, 0x1234567890);
}

TEST(tdx_hypercalls)
{
    answers_are((struct tdx_registers){.r10 = 0x77, .r11 = 0xFFFFF00AFFFF0078}, nothing);
    CHECK_EQ(tdx_hypercall(tdcall, 0x0002000A000000DB, 0x5000, 0), 0x0000000A00000078);
    CHECK_EQ(tdx_asked[0].r10, 0x0002000A000000DB);
    answers_are((struct tdx_registers){.rax = 1}, nothing);
    CHECK_EQ(tdx_hypercall(tdcall, 0x5C, 0x5000, 0), HV_STATUS_OPERATION_FAILED);
    tdx_known = false;
    CHECK_EQ(tdx_hypercall(tdcall, 0x5C, 0x5000, 0), HV_STATUS_OPERATION_FAILED);
}

TEST(tdx_pages_change_hands)
{
    answers_are(nothing, nothing);
    CHECK(tdx_page_share(tdcall, pa(0x5000), 1ull << 47));
    CHECK_EQ(tdx_calls, 1);
    CHECK(equal(tdx_asked[0], tdx_put_map(0x800000005000, 4096)));
    answers_are(nothing, nothing);
    CHECK(tdx_page_unshare(tdcall, pa(0x5000)));
    CHECK_EQ(tdx_calls, 2);
    CHECK(equal(tdx_asked[0], tdx_put_map(0x5000, 4096)));
    CHECK(equal(tdx_asked[1], tdx_put_accept(pa(0x5000))));
}

TEST(tdx_page_changes_refused)
{
    const struct tdx_registers retry = {.r10 = 1, .r11 = 0x5000}, elsewhere = {.r10 = 1, .r11 = 0x6000};

    answers_are(retry, nothing);
    CHECK(tdx_page_unshare(tdcall, pa(0x5000)));
    CHECK_EQ(tdx_calls, 3);
    answers_are(retry, retry);                           /* for ever */
    CHECK(!tdx_page_unshare(tdcall, pa(0x5000)));
    CHECK_EQ(tdx_calls, 4);
    answers_are(elsewhere, nothing);                     /* "go on" where we did not want to go */
    CHECK(!tdx_page_unshare(tdcall, pa(0x5000)));
    CHECK_EQ(tdx_calls, 1);
    answers_are((struct tdx_registers){.r10 = 0x8000000000000002}, nothing);
    CHECK(!tdx_page_share(tdcall, pa(0x5000), 1ull << 47));
    CHECK_EQ(tdx_calls, 1);
    answers_are(nothing, (struct tdx_registers){.rax = 0x00000B0A00000000});      /* accepted before */
    CHECK(!tdx_page_unshare(tdcall, pa(0x5000)));
    answers_are(nothing, (struct tdx_registers){.rax = 0xC0000B0B00000001});      /* size mismatch */
    CHECK(!tdx_page_unshare(tdcall, pa(0x5000)));
}

TEST_MAIN()
