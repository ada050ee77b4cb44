/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Flush lists (hv/tlb.c): for any range and any set of processors what the host is told of is exactly the pages of the
 * range, the processors are exactly those online, and the input fits its half of the hypercall page.
 */
#include "tests/cbmc/proof.h"
#include "hv/hv_internal.h"
/* Smaller than in life, the code being the same: 512 processors in 8 banks, a list of 65 ranges. */
#undef HV_VP_BANKS
#define HV_VP_BANKS 8u
#undef HV_CALL_HALF
#define HV_CALL_HALF (sizeof(struct hv_flush_ex) + (HV_VP_BANKS + 65) * sizeof(uint64_t))
#include "hv/tlb.c"

struct hv_state hv_state;
struct hv_counters hv_counters;

static uint64_t half[HV_CALL_HALF / sizeof(uint64_t)];     /* an access outside fails the proof */
static vaddr_t start;
static uint64_t bytes, first_page, last_page;
static unsigned entries_seen;
static bool called, native;

void *hv_call_input(void) { return half; }
void log_line(enum log_level level UNUSED, const char *room UNUSED, const char *fmt UNUSED, ...) {}
void panic(const char *fmt UNUSED, ...) { prove(false, "no panic"); assume(false); }
const char *hv_status_name(uint16_t status UNUSED) { return ""; }
bool config_bool(const char *key UNUSED, bool unset UNUSED) { return any_bool(); }
void mm_set_tlb_flush(void (*fn)(vaddr_t at, uint64_t length) UNUSED) {}

void arch_tlb_flush(vaddr_t at, uint64_t length)
{
    prove(at.v == start.v && length == bytes, "natively the same range");
    native = true;
}

/* Word of the list that begins behind the header. */
static uint64_t *check_header(uint16_t code, uint16_t varhead, uint16_t plain, uint16_t ex)
{
    unsigned banks = 0, bank = ANY(unsigned), before = 0;

    called = true;
    prove(code == plain || code == ex, "the right call");
    if (code == plain) {
        struct hv_flush *in = (void *)half;
        prove(varhead == 0 && in->flags == HV_FLUSH_ALL_ADDRESS_SPACES, "global mappings of every address space");
        prove(in->processor_mask == hv_state.online[0], "the processors");
        assume(bank > 0 && bank < HV_VP_BANKS);
        prove(hv_state.online[bank] == 0, "the plain form names all that are online");
        return (uint64_t *)(void *)(in + 1);
    }
    struct hv_flush_ex *in = (void *)half;
    uint64_t *list = (uint64_t *)(void *)(in + 1);
    prove(in->flags == HV_FLUSH_ALL_ADDRESS_SPACES && in->processors.format == HV_VP_SET_SPARSE_4K, "the header");
    assume(bank < HV_VP_BANKS);
    for (unsigned b = 0; b < HV_VP_BANKS; b++) {
        before += b < bank && hv_state.online[b];
        banks += hv_state.online[b] != 0;
    }
    prove(varhead == banks, "as many banks as have processors");
    prove((in->processors.valid_bank_mask >> bank & 1) == (hv_state.online[bank] != 0), "the mask of banks");
    if (hv_state.online[bank])
        prove(list[before] == hv_state.online[bank], "each bank at its place");
    return list + varhead;
}

uint16_t hv_call(uint16_t code, uint16_t varhead, bool output)
{
    check_header(code, varhead, HVCALL_FLUSH_ADDRESS_SPACE, HVCALL_FLUSH_ADDRESS_SPACE_EX);
    prove(!output, "no output");
    return ANY(uint16_t);
}

/* The entries one by one, as far as they are to be looked at. */
uint16_t hv_call_rep(uint16_t code, uint16_t varhead, unsigned count, bool output, unsigned *done)
{
    uint64_t *list = check_header(code, varhead, HVCALL_FLUSH_ADDRESS_LIST, HVCALL_FLUSH_ADDRESS_LIST_EX);
    uint64_t next = first_page;

    prove(!output && !done, "no output");
    prove(count > 0 && count <= LIST_MAX && list + count <= half + ARRAY_SIZE(half), "a count for which there is room");
    for (unsigned i = 0; i < count && i < entries_seen; i++) {
        prove(list[i] >> PAGE_SHIFT == next, "it begins where the one before ended");
        next += (list[i] & PAGE_MASK) + 1;
    }
    prove(count > entries_seen || next == last_page + 1, "the last one ends with the range");
    return ANY(uint16_t);
}

static void any_flush(uint64_t bytes_most)
{
    start = ANY(vaddr_t);
    bytes = ANY(uint64_t);
    assume(bytes <= bytes_most && start.v <= UINT64_MAX - (bytes + PAGE_BYTES));
    first_page = start.v >> PAGE_SHIFT;
    last_page = (start.v + bytes - 1) >> PAGE_SHIFT;
    refused = ANY(uint8_t) & 1;
    flush(start, bytes);
    if (bytes)
        prove(native || called, "somebody flushes");
    else
        prove(!native && !called, "nothing is asked for nothing");
}

static void one_bank(void)
{
    hv_state = ANY(struct hv_state);
    for (unsigned b = 1; b < HV_VP_BANKS; b++)
        hv_state.online[b] = 0;
}

/* A range of up to four entries, anywhere: the list is the range. */
void proof_range(void)
{
    one_bank();
    entries_seen = 4;
    any_flush(3ull * HV_GVA_RANGE_PAGES_MAX << PAGE_SHIFT);
    PROOF_END;
}

/* A range of any length: the list never outgrows its half, or everything is flushed instead. */
void proof_length(void)
{
    one_bank();
    any_flush(1ull << 47);
    PROOF_END;
}

/* Any processors of all banks. */
void proof_processors(void)
{
    hv_state = ANY(struct hv_state);
    entries_seen = 1;
    any_flush(PAGE_BYTES);
    PROOF_END;
}
