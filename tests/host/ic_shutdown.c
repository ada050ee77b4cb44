/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic_shutdown.c: the host asks the guest to power off, to restart or to hibernate. The guest's answer says only
 * that it is going to.
 */
#include "tests/host/ic.h"

static const struct guid instance = GUID_INIT(0xb6650ff7, 0x33bc, 0x4840, 0x8048, 0xe0676786f393);

static void ready(struct host_ic *ic)
{
    ic->wanted = false;
}

static uint32_t next(struct host_ic *ic, uint8_t *body)
{
    ic->due = HOST_NEVER;
    if (!ic->wanted)
        return 0;
    ic->wanted = false;
    memcpy(body, &ic->shutdown, sizeof(ic->shutdown));
    return sizeof(ic->shutdown);
}

static bool answer(struct host_ic *ic, uint32_t status, const uint8_t *body, uint32_t bytes, const uint8_t *sent)
{
    if (status == IC_STATUS_OK && bytes == sizeof(struct ic_shutdown) && memcmp(body, sent, bytes) != 0)
        host_strict(ic->h, body, bytes, "ic shutdown: the answer's body is not the request's");
    host_log(ic->h, HOST_LOG_INFO, "ic shutdown: the guest answers %#x", status);
    return true;
}

static void lost(struct host_ic *ic, bool closed)
{
    (void)closed;
    ic->wanted = false;
}

const struct ic_kind ic_shutdown = {
    .dev = IC_DEV("shutdown", &instance), .interface_type = VMBUS_GUID_SHUTDOWN, .type = IC_SHUTDOWN,
    .ready = ready, .next = next, .answer = answer, .lost = lost, .limit_100ns = ic_limit,
};

bool host_ic_shutdown(struct host *h, uint32_t flags, uint32_t reason, uint32_t timeout_s, const char *text)
{
    struct host_ic *ic = ic_ready(h, HOST_IC_SHUTDOWN);
    size_t length = strlen(text);

    if (ic == NULL || ic->wanted || ic->waiting || length >= IC_SHUTDOWN_TEXT_BYTES)
        return false;
    ic->shutdown = (struct ic_shutdown){.reason = reason, .timeout_s = timeout_s, .flags = flags};
    memcpy(ic->shutdown.text, text, length);
    ic->wanted = true;
    ic_wake(ic);
    return true;
}
