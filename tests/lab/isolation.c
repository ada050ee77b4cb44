/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Isolated machines (virtualization-based security): every page of the guest's memory is private until the guest
 * makes it visible, and has two guest-physical addresses: its own, and that plus the shared boundary.
 *
 * The model keeps the book of what is visible, and refuses to look at anything else. Here the second-stage tables
 * follow it: a private page is mapped at its own address and nowhere else, a visible one above the boundary and
 * nowhere else, so a guest that touches a page on the wrong side leaves, and the run ends. Real hosts do that for
 * hardware isolation; under VBS some leave the private address of a visible page in place, and guests of that age
 * (Linux 6.1) count on it: isolation.lenient=1 does the same, for them alone. Code is never fetched from shared memory.
 *
 * Words:     isolation=vbs             the machine is isolated; without it the others are ignored
 *            isolation=snp, =tdx       it says to be so isolated, and has none of the processor's part in it: what a guest
 *                                      makes of that
 *            isolation.paravisor=1     and a paravisor
 *            isolation.boundary=38     the bit; 0: no boundary, shared pages keep their address. Default: the topmost bit
 *                                      of the processor's physical addresses (QEMU: -cpu ...,phys-bits=46)
 *            isolation.batch=16        visibility calls stop after so many pages and are continued
 *            isolation.scramble=1      what a page holds is lost when it changes hands
 *            isolation.lenient=1       see above
 * Command:   isolation                 prints the report
 * Reports:   lab-isolation: boundary=N visible=P most=P changes=N   pages now, at most so far; on "isolation" and at the end
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/glue.h"
#include "tests/lab/isolation.h"
#include "tests/lab/machine.h"
#include "hv/hv_wire.h"

#define HOT_ADD_ROOM   (64ull << 30)       /* of addresses, for memory that appears above 4 GiB while the guest runs */
#define FOUR_GIB       (4ull << 30)
#define BOUNDARY_MOST  47u                 /* of addresses that four levels of tables translate */

static bool isolated, lenient, told_others = true;
static uint64_t boundary;                  /* 0: shared pages keep their address */
static uint64_t visible, most_visible, changes;

static bool number(const char *text, uint64_t *value)
{
    const char *t = text;
    for (*value = 0; *t >= '0' && *t <= '9' && *value < UINT16_MAX; t++)
        *value = *value * 10 + (uint64_t)(*t - '0');
    return t != text && *t == '\0' && *value <= UINT16_MAX;
}

bool isolation_setting(struct lab_isolation_settings *s, struct host_config *host, const char *key, const char *text)
{
    uint64_t n;
    if (!strcmp(key, "")) {
        static const char *const kinds[] = {"none", "vbs", "snp", "tdx"};
        for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
            if (!strcmp(text, kinds[kind])) {
                host->isolation_type = (uint8_t)kind;
                return true;
            }
        }
        return false;
    }
    if (!number(text, &n))
        return false;
    if (!strcmp(key, ".boundary") && (n == 0 || (n > PAGE_SHIFT && n <= BOUNDARY_MOST))) {
        s->boundary_bit = (uint8_t)n;
        s->boundary_given = true;
    } else if (!strcmp(key, ".batch"))
        host->visibility_batch = (uint16_t)n;
    else if (!strcmp(key, ".scramble"))
        host->scramble_on_change = n != 0;
    else if (!strcmp(key, ".lenient"))
        s->lenient = n != 0;
    else if (!strcmp(key, ".paravisor"))
        host->paravisor = n != 0;
    else
        return false;
    return true;
}

void isolation_start(const struct lab_isolation_settings *s, struct host_config *host)
{
    if (host->isolation_type == HV_ISOLATION_NONE)
        return;
    unsigned width = machine_guest_address_bits(), bit = s->boundary_given ? s->boundary_bit : MIN(width - 1, BOUNDARY_MOST);
    if (bit >= width) {
        log_err("isolation.boundary=%u: this processor's addresses have %u bits (QEMU: -cpu ...,phys-bits=%u)", bit,
                width, bit + 1);
        lab_end(LAB_END_FAULT, "no such boundary");
    }
    isolated = true;
    lenient = s->lenient;
    boundary = bit ? BIT(bit) : 0;
    uint64_t end = MAX(guest_ram_end(), FOUR_GIB);
    if (boundary && end > boundary) {
        log_err("isolation.boundary=%u: the guest's memory ends at %#llx", bit, (unsigned long long)end);
        lab_end(LAB_END_FAULT, "memory lies above the boundary");
    }
    end = boundary ? MIN(end + HOT_ADD_ROOM, boundary) : end + HOT_ADD_ROOM;
    if (boundary && lab_firmware)
        nested_unmap(boundary, BIT(MIN(width, BOUNDARY_MOST + 1)) - boundary);
    host->boundary_bit = (uint8_t)bit;
    host->ram_pages = end >> PAGE_SHIFT;
    if (boundary)
        log_info("isolated: shared pages above %#llx%s", (unsigned long long)boundary,
                 lenient ? ", and at their own addresses too" : "");
    else
        log_info("isolated: shared pages at their own addresses");
}

bool isolation_any_visible(uint64_t gpa, uint64_t bytes)
{
    for (uint64_t gpn = gpa >> PAGE_SHIFT; isolated && gpn < (gpa + bytes + PAGE_MASK) >> PAGE_SHIFT; gpn++)
        if (host_page_visible(lab_host, gpn))
            return true;
    return false;
}

static void map(uint64_t gpa, uint64_t hpa, unsigned attr)
{
    if (nested_map(gpa, hpa, PAGE_BYTES, attr))
        lab_end(LAB_END_FAULT, "no memory for the second-stage tables");
}

void isolation_visibility(void *ctx, uint64_t gpn, uint32_t visibility)
{
    uint64_t gpa = gpn << PAGE_SHIFT, hpa;
    bool shared = visibility == HV_VISIBILITY_READ_WRITE;
    (void)ctx;
    if (!guest_ptr_to_hpa(guest_ptr(gpa, PAGE_BYTES), &hpa))
        panic("page %#llx changes hands, which is not memory", (unsigned long long)gpn);
    changes++;
    visible += shared ? 1 : UINT64_MAX;
    most_visible = MAX(most_visible, visible);
    if (!boundary)
        return;
    told_others = false;
    if (!lenient && shared)
        nested_unmap(gpa, PAGE_BYTES);
    if (shared)
        map(gpa + boundary, hpa, MAP_READ | MAP_WRITE);
    else
        nested_unmap(gpa + boundary, PAGE_BYTES);
    if (!lenient && !shared)
        map(gpa, hpa, MAP_READ | MAP_WRITE | MAP_EXEC);
}

/* Others may run on with translations of their own until they leave the guest. */
void isolation_sync(const struct vcpu *v)
{
    for (unsigned i = 0; i < lab_vcpu_count && !told_others; i++)
        if (vcpu_at(i) != v && vcpu_runs(vcpu_at(i)))
            vcpu_kick(vcpu_at(i));
    told_others = true;
}

bool isolation_fault(const struct vcpu *v, const struct lab_access *access)
{
    uint64_t own = access->gpa & ~boundary;
    bool above = own != access->gpa, shared;
    char text[160];
    if (!isolated || !boundary || !guest_ptr(own, 1))
        return false;
    shared = host_page_visible(lab_host, own >> PAGE_SHIFT);
    if (shared == above && !(access->fetch && above))
        return !access->present && nested_mapped(access->gpa);    /* it changed hands since */
    ksnprintf(text, sizeof(text), "the guest %s physical address %#llx%s, %s (rip %#llx)",
              access->fetch ? "executes" : access->write ? "writes" : "reads", (unsigned long long)access->gpa,
              access->walk ? " for its page tables" : "",
              shared == above ? "which is shared memory"
              : above ? "the shared side of a private page" : "the private side of a page that it shares",
              (unsigned long long)vcpu_pc(v));
    report_violation(text);
    vcpu_dump(v);
    lab_end(LAB_END_VIOLATION, "the guest used memory on its wrong side");
}

void isolation_report(void)
{
    if (isolated)
        kprintf("lab-isolation: boundary=%u visible=%llu most=%llu changes=%llu\n",
                boundary ? (unsigned)__builtin_ctzll(boundary) : 0, (unsigned long long)visible,
                (unsigned long long)most_visible, (unsigned long long)changes);
}
