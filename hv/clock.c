/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reference time in units of 100 ns. Source: TLFS, partition reference time.
 *
 * The first of these that the host provides is the clock:
 *
 *   reference TSC page    a multiplication; while the page says "invalid", each reading asks the counter register
 *   reference counter     a register that costs an exit, so the CPU's own counter runs between readings, one a second;
 *                         each reading corrects the rate, so the announced frequency needs to be only roughly right
 *   plain counter         the CPU's counter at the host's frequency, else at the frequency the platform tells
 *
 * Only the first two count reference time, which is what synthetic timers compare against. A page that disagrees with
 * the counter is not used: of arm64 nothing says which of the CPU's counters it means. Configuration, for tests:
 * hv.tsc_page=0, hv.reference_counter=0, hv.frequency=0.
 */
#define LOG_ROOM "hv"
#include "hv/hv_internal.h"

/* A frequency to live with when nothing tells one: waits become wrong by a factor, but they end. */
#define GUESSED_HZ            1000000000ull
#define MIN_HZ                100000ull
#define RESYNC_100NS          S_100NS(1)
#define RATE_WINDOW_100NS     MS_100NS(500)   /* shorter intervals do not teach the rate */
#define CALIBRATE_100NS       MS_100NS(1)
#define CALIBRATE_PAIRS       5
#define SEQUENCE_TRIES        1000            /* a page that changes at every look is a broken one */
#define PAGE_ERROR_100NS      MS_100NS(10)    /* by which page and counter may differ; other units differ by a lot */
#define RATE_SHIFT            56

static struct {
    enum { CLOCK_NONE, CLOCK_TSC_PAGE, CLOCK_REFERENCE_COUNTER, CLOCK_COUNTER } kind;
    const struct hv_reference_tsc_page *page;
    /* counters: time = base_100ns + ((counter - base_counter) * rate >> RATE_SHIFT) */
    uint64_t base_100ns, base_counter, rate, resync_cycles;
    uint64_t newest_100ns;             /* no reading is older than another before it */
} hv_time;

/* (high:low) / d; the quotient must fit 64 bits. Shifts and subtracts: there is no library division of 128 bits. */
static uint64_t divide_128(uint64_t high, uint64_t low, uint64_t d)
{
    uint64_t quotient = 0;

    KASSERT(high < d);
    for (int i = 0; i < 64; i++) {
        bool carry = high >> 63;
        high = high << 1 | low >> 63;
        low <<= 1;
        quotient <<= 1;
        if (carry || high >= d) {
            high -= d;
            quotient |= 1;
        }
    }
    return quotient;
}

static uint64_t multiply_shift(uint64_t a, uint64_t b, unsigned shift)
{
    return (uint64_t)((unsigned __int128)a * b >> shift);
}

/* time_100ns << RATE_SHIFT / cycles, the factor from cycles to time. */
static uint64_t rate_of(uint64_t time_100ns, uint64_t cycles)
{
    return divide_128(time_100ns >> (64 - RATE_SHIFT), time_100ns << RATE_SHIFT, cycles);
}

static uint64_t reference_counter(void)
{
    uint64_t v;

    if (hv_access(HV_ACCESS_REFERENCE_COUNTER) && arch_hv_reg_read(HV_X64_MSR_TIME_REF_COUNT, &v))
        hv_time.newest_100ns = MAX(v, hv_time.newest_100ns);
    return hv_time.newest_100ns;
}

/* False: the page is invalid at present. Inline: every request reads the clock. */
static inline __attribute__((always_inline)) bool read_tsc_page(uint64_t *now)
{
    const volatile struct hv_reference_tsc_page *p = hv_time.page;

    for (unsigned tries = 0; tries < SEQUENCE_TRIES; tries++) {
        uint32_t sequence = p->sequence;
        if (sequence == HV_REFERENCE_TSC_INVALID)
            break;
        arch_fence_ord_read();         /* scale and offset belong to the sequence read before them ... */
        uint64_t scale = p->scale;
        uint64_t offset = (uint64_t)p->offset;
        *now = multiply_shift(arch_counter(), scale, 64) + offset;
        arch_fence_ord_read();         /* ... and to the one read after them, if it is the same */
        if (p->sequence == sequence)
            return true;
    }
    return false;
}

static uint64_t tsc_page_now(void)
{
    uint64_t now;

    return read_tsc_page(&now) ? now : reference_counter();
}

/* Does the page tell the time that the reference counter tells? Without the counter it is believed where the CPU has
 * one counter, and where the CPU's own frequency is known it is not needed. */
static bool tsc_page_is_right(void)
{
    uint64_t before, page, after;

    if (!hv_access(HV_ACCESS_REFERENCE_COUNTER))
        return !ARCH_COUNTER_TOLD;
    if (!arch_hv_reg_read(HV_X64_MSR_TIME_REF_COUNT, &before) || !read_tsc_page(&page) ||
        !arch_hv_reg_read(HV_X64_MSR_TIME_REF_COUNT, &after))
        return true;                   /* invalid at present, or no counter after all: nothing to compare */
    if (page + PAGE_ERROR_100NS >= before && page <= after + PAGE_ERROR_100NS)
        return true;
    log_warn("the reference TSC page says %llu where the reference counter says %llu: not used",
             (unsigned long long)page, (unsigned long long)after);
    return false;
}

static uint64_t counter_at(uint64_t counter)
{
    return hv_time.base_100ns + multiply_shift(counter - hv_time.base_counter, hv_time.rate, RATE_SHIFT);
}

static void resync(void)
{
    uint64_t reference, counter = arch_counter();

    if (!arch_hv_reg_read(HV_X64_MSR_TIME_REF_COUNT, &reference))
        return;
    if (reference > hv_time.base_100ns && reference - hv_time.base_100ns >= RATE_WINDOW_100NS &&
        counter > hv_time.base_counter &&
        counter - hv_time.base_counter > (reference - hv_time.base_100ns) >> 8) {
        hv_time.rate = rate_of(reference - hv_time.base_100ns, counter - hv_time.base_counter);
        hv_time.resync_cycles = divide_128(RESYNC_100NS >> (64 - RATE_SHIFT), RESYNC_100NS << RATE_SHIFT, hv_time.rate);
    }
    hv_time.base_100ns = reference;
    hv_time.base_counter = counter;
}

/* The bases are read and moved by interrupt handlers too. */
static uint64_t counter_now(void)
{
    uint64_t irq = arch_irq_save();
    uint64_t counter = arch_counter();

    if (hv_time.kind == CLOCK_REFERENCE_COUNTER && counter - hv_time.base_counter > hv_time.resync_cycles) {
        resync();
        counter = arch_counter();
    } else if (counter < hv_time.base_counter) {   /* the machine was moved or restored: time goes on from here */
        hv_time.base_100ns = hv_time.newest_100ns;
        hv_time.base_counter = counter;
    }
    uint64_t now = counter_at(counter);
    if (now < hv_time.newest_100ns)
        now = hv_time.newest_100ns;
    hv_time.newest_100ns = now;
    arch_irq_restore(irq);
    return now;
}

uint64_t hv_reference_time_100ns(void)
{
    if (hv_time.kind == CLOCK_TSC_PAGE)
        return tsc_page_now();
    return hv_time.kind == CLOCK_NONE ? 0 : counter_now();
}

bool hv_clock_is_reference(void)
{
    return hv_time.kind == CLOCK_TSC_PAGE || hv_time.kind == CLOCK_REFERENCE_COUNTER;
}

void hv_clock_resync(void)
{
    if (hv_time.kind != CLOCK_REFERENCE_COUNTER)
        return;
    uint64_t irq = arch_irq_save();
    resync();
    arch_irq_restore(irq);
}

static bool host_frequency(uint32_t reg, uint64_t *hz)
{
    return hv_state.present && hv_access(HV_ACCESS_FREQUENCY) && hv_feature(HV_FEATURE_FREQUENCY_MSRS) &&
           config_bool("hv.frequency", true) && arch_hv_reg_read(reg, hz) && *hz >= MIN_HZ;
}

uint64_t hv_apic_frequency(void)
{
    uint64_t hz;
    return host_frequency(HV_X64_MSR_APIC_FREQUENCY, &hz) ? hz : 0;
}

static bool start_tsc_page(void)
{
    static paddr_t p;                  /* kept for ever: readers of the clock do not stop */
    uint64_t old = 0;

    if (pa_is_none(p))
        p = page_alloc_zeroed(0);
    if (pa_is_none(p))
        return false;
    arch_hv_reg_read(HV_X64_MSR_REFERENCE_TSC, &old);
    old &= HV_MSR_PAGE_PRESERVE_MASK;
    if (!arch_hv_reg_write(HV_X64_MSR_REFERENCE_TSC, old | hv_gpa(p).v | HV_MSR_PAGE_ENABLE))
        return false;
    hv_time.page = arch_phys_to_virt(p);
    if (((const volatile struct hv_reference_tsc_page *)hv_time.page)->sequence == HV_REFERENCE_TSC_INVALID) {
        log_info("the reference TSC page is invalid at present");
        if (!hv_access(HV_ACCESS_REFERENCE_COUNTER)) {
            arch_hv_reg_write(HV_X64_MSR_REFERENCE_TSC, old);
            return false;
        }
    }
    if (!tsc_page_is_right()) {
        arch_hv_reg_write(HV_X64_MSR_REFERENCE_TSC, old);
        return false;
    }
    hv_time.kind = CLOCK_TSC_PAGE;
    return true;
}

/* The reference counter and the CPU's at the same time: the closest of some pairs, since this processor may be taken
 * away between two readings. */
static bool read_pair(uint64_t *reference, uint64_t *counter)
{
    uint64_t closest = UINT64_MAX;

    for (unsigned n = 0; n < CALIBRATE_PAIRS; n++) {
        uint64_t v, before = arch_counter();
        if (!arch_hv_reg_read(HV_X64_MSR_TIME_REF_COUNT, &v))
            return false;
        uint64_t width = arch_counter() - before;
        if (width < closest) {
            closest = width;
            *reference = v;
            *counter = before + width / 2;
        }
    }
    return true;
}

/* Frequency of the CPU's counter by watching the reference counter: only when nobody tells it. */
static uint64_t measure_hz(void)
{
    uint64_t start, end, begin, counter;

    if (!read_pair(&start, &begin))
        return 0;
    do {
        arch_cpu_relax();
        if (!arch_hv_reg_read(HV_X64_MSR_TIME_REF_COUNT, &end) || end < start)
            return 0;
    } while (end - start < CALIBRATE_100NS && arch_counter() - begin < 1ull << 32);
    if (!read_pair(&end, &counter))
        return 0;
    return end > start ? (counter - begin) * 1000 / ((end - start + 9) / 10) * 1000 : 0;
}

static uint64_t start_counter(bool reference)
{
    uint64_t hz = 0;

    if (!host_frequency(HV_X64_MSR_TSC_FREQUENCY, &hz)) {
        hz = reference && !ARCH_COUNTER_TOLD ? measure_hz() : arch_counter_calibrate();
        if (hz < MIN_HZ) {
            log_warn("nothing tells the frequency of the CPU's counter: taking %llu Hz",
                     (unsigned long long)GUESSED_HZ);
            hz = GUESSED_HZ;
        }
    }
    hv_time.rate = rate_of(HV_TICKS_PER_SECOND, hz);
    hv_time.resync_cycles = hz * (RESYNC_100NS / S_100NS(1));
    hv_time.base_counter = arch_counter();
    hv_time.base_100ns = 0;
    hv_time.kind = reference ? CLOCK_REFERENCE_COUNTER : CLOCK_COUNTER;
    if (reference)
        hv_clock_resync();
    return hz;
}

void hv_clock_init(void)
{
    static const char *const names[] = {"none", "reference TSC page", "reference counter", "CPU counter"};
    static struct rt_clock clock = {.now_100ns = hv_reference_time_100ns, .arm = hv_timer_arm};
    bool use_page = config_bool("hv.tsc_page", true), use_counter = config_bool("hv.reference_counter", true);
    uint64_t hz = 0;

    hv_time.kind = CLOCK_NONE;
    hv_time.newest_100ns = 0;
    /* Behind a paravisor the page would be the host's, which could set our clock by it at will. */
    use_page = use_page && !hv_two_listeners();
    if (!(use_page && hv_state.present && hv_access(HV_ACCESS_REFERENCE_TSC) && start_tsc_page()))
        hz = start_counter(use_counter && hv_state.present && hv_access(HV_ACCESS_REFERENCE_COUNTER));
    hv_timer_init();
    clock.name = names[hv_time.kind];
    rt_set_clock(&clock);
    if (hz)
        log_info("time: %s, %llu.%03u MHz; timer: %s", clock.name, (unsigned long long)(hz / 1000000),
                 (unsigned)(hz / 1000 % 1000), hv_timer_name());
    else
        log_info("time: %s; timer: %s", clock.name, hv_timer_name());
}
