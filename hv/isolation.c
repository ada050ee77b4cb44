/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Isolated machines: all memory is private to the guest until the guest makes it visible, page by page. Source: TLFS,
 * isolated virtual machines; what hosts do is named where it matters.
 *
 * A visible page is used at its physical address plus shared_gpa_boundary (one address bit, above all RAM); the plain
 * address is the private side, and touching that of a visible page faults. The direct map keeps showing it: taking
 * single pages out would split its 1 GiB blocks for as long as a buffer lives, and nothing of ours reads an address it
 * does not own (there is no load that runs over the end of an object on purpose). So the rule is that a shared page
 * belongs to shmem.c alone, whose only mapping of it is the shared one, and the fake machine of the hosted tests and
 * the lab's second stage make a touch of the wrong side a fault. Aliases are mapped at addresses of the vmap region,
 * so a boundary at bit 47 raises no question of canonical addresses; it only has to fit the processor's width.
 *
 * Who sees what under virtualization-based security, where the hypervisor is trusted and the host's partition is not:
 *
 *   shared by us          monitor pages, rings, netvsc's buffers, the bounce pool: hv/shmem.c and nothing else
 *   hypervisor's, private hypercall page, hypercall input and output (posted messages with them), SynIC message and
 *                         event pages, reference TSC page
 *   not given             the text of a panic, unless hv.crash_text=yes
 *
 * Where the processor isolates (SNP, TDX), arch/ knows the way to the host and says what follows from it. With a
 * paravisor, SynIC message and event pages come from there and lie on the shared side.
 *
 * Contents survive a change of hands under VBS and are undefined after it elsewhere: so pages are cleared while they
 * are private (nothing leaks) and, where zeroes are promised, again through the shared mapping.
 */
#define LOG_ROOM "hv"
#include "hv/isolation.h"
#include "hv/shmem.h"
#include "mm/mm.h"

/* As many as the input half holds. */
#define BATCH HV_CALL_ELEMENTS(sizeof(struct hv_modify_visibility), sizeof(uint64_t))
#define BOUNDARY_BIT_MOST 51            /* of a physical address in any page table format */

_Static_assert(BATCH >= 128 && BATCH <= HV_MODIFY_VISIBILITY_MAX, "a useful number of pages fits one call");

static const char *const type_names[] = {"nothing", "VBS", "SNP", "TDX", "CCA"};

static struct shmem messages;          /* where arch/ wants a shared page to post from */

static const char *type_name(unsigned type) { return type < ARRAY_SIZE(type_names) ? type_names[type] : "unknown"; }

bool hv_isolated(void) { return hv_state.isolation.isolated; }
uint64_t hv_shared_boundary(void) { return hv_state.isolation.boundary; }

/* The processor must be able to express an address with that bit. */
static bool boundary_fits(unsigned bit)
{
    unsigned width = kernel_space.format->phys_bits;

    return bit > PAGE_SHIFT && bit <= BOUNDARY_BIT_MOST && (width == 0 || bit < width);
}

static void *map_for_arch(paddr_t page) { return vmap_pages(&page, 1, MAP_READ | MAP_WRITE | MAP_GLOBAL); }

bool hv_isolation_detect(void)
{
    const uint32_t *leaf = hv_state.features.isolation;
    struct hv_isolation *i = &hv_state.isolation;
    unsigned bit = (leaf[1] >> HV_ISOLATION_EBX_BOUNDARY_SHIFT) & HV_ISOLATION_EBX_BOUNDARY_MASK;

    *i = (struct hv_isolation){0};
    if (!hv_privilege(HV_PRIV_ISOLATION))
        return true;
    i->type = leaf[1] & HV_ISOLATION_EBX_TYPE_MASK;
    i->paravisor = (leaf[0] & HV_ISOLATION_EAX_PARAVISOR) != 0;
    if (i->type == HV_ISOLATION_NONE) {
        log_warn("the host says that this machine is isolated, and by nothing (leaf 0x%08x 0x%08x): taken as not "
                 "isolated", leaf[0], leaf[1]);
        return true;
    }
    i->isolated = true;
    bool active = leaf[1] & HV_ISOLATION_EBX_BOUNDARY_ACTIVE;     /* else shared pages keep their addresses */
    if (active && !boundary_fits(bit)) {
        log_err("isolated by %s with its boundary at bit %u, where no address of this processor (%u bits) can have "
                "it: no VMBus devices", type_name(i->type), bit, kernel_space.format->phys_bits);
        return false;
    }
    i->boundary = active ? 1ull << bit : 0;
    const struct arch_isolation kind = {i->type, i->paravisor, i->boundary, map_for_arch};
    const char *wrong = arch_isolation_init(&kind, &i->rules);
    if (wrong)
        log_err("isolated by %s (type %u) %s: no VMBus devices", type_name(i->type), i->type, wrong);
    return !wrong;
}

int hv_isolation_start(void)
{
    int rc = 0;

    if (hv_state.isolation.rules.message_page)
        rc = shmem_alloc(&messages, 1, SHMEM_LINEAR, 0);
    if (rc == 0 && messages.list)
        arch_isolation_message_page(messages.virt, (gpa_t){messages.frames[0] << PAGE_SHIFT});
    return rc;
}

void hv_isolation_stop(void)
{
    if (!messages.list)
        return;
    arch_isolation_message_page(NULL, (gpa_t){0});
    shmem_free(&messages);
}

void hv_isolation_announce(void)
{
    const struct hv_isolation *i = &hv_state.isolation;
    char where[40] = "at their own addresses", level[24] = "not told";
    uint8_t vtl;

    if (!i->isolated)
        return;
    if (i->boundary)
        ksnprintf(where, sizeof(where), "above 0x%llx", (unsigned long long)i->boundary);
    if (hv_current_vtl(&vtl) == 0)
        ksnprintf(level, sizeof(level), "%u", vtl);
    log_info("isolated by %s%s: shared pages %s; virtual trust level %s", type_name(i->type),
             i->paravisor ? " below a paravisor" : "", where, level);
}

/* ---- pages change hands ---- */

/* Without a hypercall: page by page, to the first one that is lost. */
static uint16_t change_ourselves(const paddr_t *pages, unsigned count, bool shared, unsigned *done)
{
    for (*done = 0; *done < count; ++*done) {
        if (!arch_isolation_page(pages[*done], shared))
            return HV_STATUS_OPERATION_FAILED;
    }
    return HV_STATUS_SUCCESS;
}

/* *done is how many of them the host says to have changed, on failure too. */
static uint16_t change(const paddr_t *pages, unsigned count, enum hv_visibility visibility, unsigned *done)
{
    if (hv_state.isolation.rules.own_pages)
        return change_ourselves(pages, count, visibility != HV_VISIBILITY_PRIVATE, done);
    struct hv_modify_visibility *in = hv_call_input();
    uint64_t *list = (uint64_t *)(void *)(in + 1);

    *in = (struct hv_modify_visibility){.partition_id = HV_PARTITION_ID_SELF, .visibility = visibility};
    for (unsigned i = 0; i < count; i++)
        list[i] = pages[i].v >> PAGE_SHIFT;
    return hv_call_rep(HVCALL_MODIFY_HOST_VISIBILITY, 0, count, false, done);
}

static unsigned batch(size_t left) { return (unsigned)MIN(left, (size_t)BATCH); }

size_t hv_pages_unshare(paddr_t *pages, size_t n)
{
    uint16_t first = HV_STATUS_SUCCESS;
    uint64_t first_page = 0;
    size_t lost = 0;

    for (size_t i = 0; i < n;) {
        unsigned count = batch(n - i), done;
        uint16_t status = change(pages + i, count, HV_VISIBILITY_PRIVATE, &done);
        i += done;
        if (status == HV_STATUS_SUCCESS || done == count)
            continue;
        if (lost++ == 0) {
            first = status;
            first_page = pages[i].v;
        }
        pages[i++] = PADDR_NONE;        /* the one it stopped at; those behind it have their own chance */
    }
    if (lost)
        log_warn_some("%zu of %zu shared pages stay with the host, the first at 0x%llx: %s", lost, n,
                 (unsigned long long)first_page, hv_status_name(first));
    return lost;
}

/* No page of RAM lies on the shared side. */
static bool below_boundary(const paddr_t *pages, size_t n)
{
    for (size_t i = 0; i < n && hv_state.isolation.boundary; i++) {
        if (pages[i].v >= hv_state.isolation.boundary) {
            log_err_some("RAM at 0x%llx lies above the shared boundary: it cannot be shared",
                         (unsigned long long)pages[i].v);
            return false;
        }
    }
    return true;
}

int hv_pages_share(paddr_t *pages, size_t n, size_t *lost)
{
    *lost = 0;
    if (!below_boundary(pages, n))
        return -E_REFUSED;
    for (size_t i = 0; i < n;) {
        unsigned count = batch(n - i), done;
        uint16_t status = change(pages + i, count, HV_VISIBILITY_READ_WRITE, &done);
        if (status == HV_STATUS_SUCCESS) {
            i += count;
            continue;
        }
        log_err_some("the host would not share memory: %s at page %zu of %zu (0x%llx)", hv_status_name(status),
                     i + done, n,
                (unsigned long long)pages[MIN(i + done, n - 1)].v);
        if (hv_state.isolation.rules.own_pages) {
            i += done;                  /* we know ourselves how far it went */
            pages[i] = PADDR_NONE;
            *lost = 1;
        } else {
            /* Whatever it says to have changed: everything it was told of in this call goes back. Pages that are
             * private already are passed over silently by hosts. */
            i += count;
        }
        *lost += hv_pages_unshare(pages, i);
        return -E_REFUSED;
    }
    return 0;
}
