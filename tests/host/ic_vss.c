/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic_vss.c: snapshots of a running guest: can it be frozen, freeze, thaw. A guest may refuse all of it; Linux
 * without its daemon does.
 */
#include "tests/host/ic.h"

static const struct guid instance = GUID_INIT(0x2450ee40, 0x33bf, 0x4fbd, 0x892e, 0x9fb06e9214cf);

static void ready(struct host_ic *ic)
{
    ic->wanted = false;
}

static uint32_t next(struct host_ic *ic, uint8_t *body)
{
    struct ic_vss request = {.operation = (uint8_t)ic->vss_operation};

    ic->due = HOST_NEVER;
    if (!ic->wanted)
        return 0;
    ic->wanted = false;
    memcpy(body, &request, sizeof(request));
    return sizeof(request);
}

static bool answer(struct host_ic *ic, uint32_t status, const uint8_t *body, uint32_t bytes, const uint8_t *sent)
{
    struct ic_vss has = {.flags = 0};
    const uint32_t known = IC_VSS_NO_AUTO_RECOVERY | IC_VSS_BACKUP_SUPPORTED;

    memcpy(&has, body, bytes < sizeof(has) ? bytes : sizeof(has));
    if (has.operation != sent[0])
        return false;
    ic->seen.word = has.flags;
    if (status == IC_STATUS_OK && has.operation == IC_VSS_HOT_BACKUP && (has.flags & ~known) != 0)
        host_strict(ic->h, body, bytes, "ic vss: flags %#x", has.flags);
    host_log(ic->h, HOST_LOG_INFO, "ic vss: operation %u: the guest answers %#x, flags %#x", has.operation, status,
             has.flags);
    return true;
}

static void lost(struct host_ic *ic, bool closed)
{
    (void)closed;
    ic->wanted = false;
}

static uint64_t limit(const struct host_ic *ic)
{
    return ic->h->ics->cfg.vss_limit_ms * HOST_TICKS_PER_MS;
}

const struct ic_kind ic_vss = {
    .dev = IC_DEV("vss", &instance), .interface_type = VMBUS_GUID_VSS, .type = IC_VSS,
    .ready = ready, .next = next, .answer = answer, .lost = lost, .limit_100ns = limit,
};

bool host_ic_vss(struct host *h, uint32_t operation)
{
    struct host_ic *ic = ic_ready(h, HOST_IC_VSS);

    if (ic == NULL || ic->wanted || ic->waiting || operation > IC_VSS_AUTO_RECOVER)
        return false;
    ic->vss_operation = operation;
    ic->wanted = true;
    ic_wake(ic);
    return true;
}
