/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Words that change the host the guest sees:
 *
 *   vmbus.version=5.2   vmbus.min=2.4   vmbus.monitor=1   vmbus.multi_client=0
 *   storvsp.version=6.2 storvsp.min=2.0 storvsp.max_transfer=262144   storvsp.present=0
 *   storvsp.channels=2  netvsp.queues=2 (channels of a device, the first included; default: one for each vcpu)
 *   netvsp.version=6.1  netvsp.mtu=9000 netvsp.lso=0      netvsp.checksum=0   netvsp.rx_batch=375
 *   hv.strict=0  hv.enforce=0 (calls work without their privilege bits, as under KVM)
 *   hv.access=0x..  hv.privileges=0x..  hv.features=0x..  hv.hints=0x..  hv.rep_batch=N
 *   vmbus.response_bytes=12 (of the answer to a contact, as old hosts)   vmbus.message_connection=1 (told by 5.0+)
 *   lun.absent=1,2  nic.absent=0        (devices kept back until lun-add, nic-add)
 *   ic.shutdown=0   ic.kvp.versions=3.0,4.0   ic.time=...   and others: the integration components, see ics.c
 *   malice=CLASS,SEED,RATE  malice.luns=1  malice.nics=1   (a host that lies, see liar.c)
 *   isolation=vbs   isolation.boundary=38   and others: isolated machines, see isolation.c
 *   fault.POINT=KIND,NUMBER             (that reply of the host, counted from 1, goes wrong; also a command)
 *     points: post vmbus storvsp-handshake storvsp-io netvsp-handshake netvsp-tx rndis register ic
 *             visibility balloon
 *     kinds: drop error short wrong-id twice garbage
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "lib/lib.h"
#include "tests/lab/ics.h"
#include "tests/lab/settings.h"
#include "drivers/netvsc_wire.h"
#include "drivers/storvsc_wire.h"
#include "vmbus/vmbus_wire.h"

void settings_defaults(struct lab_settings *s)
{
    host_config_default(&s->host);
    s->host.strict = true;
    host_scsi_config_default(&s->scsi);
    host_nic_config_default(&s->nic);
    host_ic_config_default(&s->ic);
    balloon_defaults(&s->balloon);
    s->scsi_present = true;
}

bool settings_number(const char **text, uint64_t *value)
{
    const char *t = *text;
    unsigned base = 10, digits = 0;
    *value = 0;
    if (t[0] == '0' && t[1] == 'x') {
        base = 16;
        t += 2;
    }
    for (;; t++, digits++) {
        unsigned d = *t >= '0' && *t <= '9' ? (unsigned)(*t - '0')
                     : *t >= 'a' && *t <= 'f' ? (unsigned)(*t - 'a') + 10 : 99;
        if (d >= base)
            break;
        *value = *value * base + d;
    }
    *text = t;
    return digits > 0;
}

/* "5.2" -> 5, 2 */
static bool dotted(const char *text, uint64_t *major, uint64_t *minor)
{
    if (!settings_number(&text, major) || *text++ != '.')
        return false;
    return settings_number(&text, minor) && *text == '\0';
}

bool settings_bit_list(const char *text, uint64_t *bits)
{
    uint64_t n;
    while (settings_number(&text, &n) && n < 64) {
        *bits |= BIT(n);
        if (*text == '\0')
            return true;
        if (*text++ != ',')
            break;
    }
    return false;
}

/* NVSP numbers its early versions its own way. */
static uint32_t nvsp_version(uint64_t major, uint64_t minor)
{
    if (major <= 1)
        return NVSP_VERSION_1;
    return major <= 3 ? NVSP_VERSION_2 : (uint32_t)(major << 16 | minor);
}

static const char *const fault_points[] = {
    "post", "vmbus", "storvsp-handshake", "storvsp-io", "netvsp-handshake", "netvsp-tx", "rndis", "register",
    "ic", "visibility", "balloon",
};
_Static_assert((1u << ARRAY_SIZE(fault_points)) - 1 == HOST_FAULT_ALL, "a name for each point");
static const char *const fault_kinds[] = {"none", "drop", "error", "short", "wrong-id", "twice", "garbage"};
_Static_assert(ARRAY_SIZE(fault_kinds) == HOST_FAULT_GARBAGE + 1, "a name for each kind");

static int name_index(const char *const *names, size_t count, const char *name, size_t bytes)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(names[i]) == bytes && !strncmp(names[i], name, bytes))
            return (int)i;
    return -1;
}

bool settings_fault(struct lab_fault *f, const char *point, const char *how)
{
    const char *comma = strchr(how, ',');
    int p = name_index(fault_points, ARRAY_SIZE(fault_points), point, strlen(point));
    int k = name_index(fault_kinds, ARRAY_SIZE(fault_kinds), how, comma ? (size_t)(comma - how) : strlen(how));
    f->number = 1;
    if (comma)
        comma++;
    if (p < 0 || k < 0 || (comma && (!settings_number(&comma, &f->number) || *comma != '\0' || f->number == 0)))
        return false;
    f->points = 1u << p;
    f->kind = (enum host_fault_kind)k;
    return true;
}

static bool apply(struct lab_settings *s, const char *key, const char *text)
{
    uint64_t major = 0, minor = 0, n = 0;
    const char *end = text;
    bool version = dotted(text, &major, &minor), plain = settings_number(&end, &n) && *end == '\0';

    if (!strncmp(key, "malice", 6))
        return liar_setting(&s->liar, key + 6, text);
    if (!strncmp(key, "fault.", 6))
        return settings_fault(&s->fault, key + 6, text);
    if (!strncmp(key, "balloon.", 8))
        return balloon_setting(&s->balloon, key + 8, text);
    if (!strncmp(key, "isolation", 9))
        return isolation_setting(&s->isolation, &s->host, key + 9, text);
    if (!strncmp(key, "ic.", 3))
        return ics_setting(&s->ic, key + 3, text);
    if (!strcmp(key, "lun.absent"))
        return settings_bit_list(text, &s->absent_luns);
    if (!strcmp(key, "nic.absent"))
        return settings_bit_list(text, &s->absent_nics);
    if (version) {
        if (!strcmp(key, "vmbus.version"))
            s->host.vmbus_max = VMBUS_VERSION(major, minor);
        else if (!strcmp(key, "vmbus.min"))
            s->host.vmbus_min = VMBUS_VERSION(major, minor);
        else if (!strcmp(key, "storvsp.version"))
            s->scsi.max_version = VSTOR_VERSION(major, minor);
        else if (!strcmp(key, "storvsp.min"))
            s->scsi.min_version = VSTOR_VERSION(major, minor);
        else if (!strcmp(key, "netvsp.version"))
            s->nic.max_nvsp = nvsp_version(major, minor);
        else
            return false;
        return true;
    }
    if (!plain)
        return false;
    if (!strcmp(key, "vmbus.monitor"))
        s->host.monitor_pages = s->scsi.monitor = s->nic.monitor = n != 0;
    else if (!strcmp(key, "vmbus.multi_client"))
        s->host.multi_client = n != 0;
    else if (!strcmp(key, "vmbus.response_bytes"))
        s->host.version_response_bytes = (uint8_t)n;
    else if (!strcmp(key, "vmbus.message_connection"))
        s->host.message_connection = (uint32_t)n;
    else if (!strcmp(key, "storvsp.max_transfer"))
        s->scsi.max_transfer_bytes = (uint32_t)n;
    else if (!strcmp(key, "storvsp.channels") && n >= 1 && n <= HOST_MAX_CHANNELS)
        s->scsi.max_sub_channels = (uint16_t)(n - 1);
    else if (!strcmp(key, "netvsp.queues") && n >= 1 && n <= HOST_MAX_CHANNELS)
        s->nic.max_queues = (uint16_t)n;
    else if (!strcmp(key, "storvsp.present"))
        s->scsi_present = n != 0;
    else if (!strcmp(key, "netvsp.mtu"))
        s->nic.mtu = s->nic.max_mtu = (uint32_t)n;
    else if (!strcmp(key, "netvsp.lso"))
        s->nic.lso_max_bytes = n ? s->nic.lso_max_bytes : 0;
    else if (!strcmp(key, "netvsp.checksum"))
        s->nic.tx_checksum = s->nic.rx_checksum = n ? s->nic.tx_checksum : 0;
    else if (!strcmp(key, "netvsp.rx_batch"))
        s->nic.rx_batch = (uint16_t)n;
    else if (!strcmp(key, "hv.strict"))
        s->host.strict = n != 0;
    else if (!strcmp(key, "hv.enforce"))
        s->host.enforce_privileges = n != 0;
    else if (!strcmp(key, "hv.access"))
        s->host.access = (uint32_t)n;
    else if (!strcmp(key, "hv.privileges"))
        s->host.privileges = (uint32_t)n;
    else if (!strcmp(key, "hv.features"))
        s->host.features = (uint32_t)n;
    else if (!strcmp(key, "hv.hints"))
        s->host.recommendations = (uint32_t)n;
    else if (!strcmp(key, "hv.rep_batch"))
        s->host.rep_batch = (uint16_t)n;
    else
        return false;
    return true;
}

static uint32_t trace_bit(const char *word, size_t n)
{
    static const struct { const char *name; uint32_t bits; } names[] = {
        {"tlfs", HOST_TRACE_TLFS}, {"vmbus", HOST_TRACE_VMBUS}, {"storvsp", HOST_TRACE_STORVSP},
        {"netvsp", HOST_TRACE_NETVSP}, {"ring", HOST_TRACE_RING}, {"ic", HOST_TRACE_IC},
        {"balloon", HOST_TRACE_BALLOON}, {"bytes", HOST_TRACE_BYTES}, {"all", 0xFFFFFFFF},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (strlen(names[i].name) == n && !strncmp(names[i].name, word, n))
            return names[i].bits;
    log_warn("trace=%s: known are tlfs, vmbus, storvsp, netvsp, ring, ic, balloon, bytes, all", word);
    return 0;
}

static size_t word_length(const char *text, char separator)
{
    size_t n = 0;
    while (text[n] != '\0' && text[n] != separator)
        n++;
    return n;
}

void settings_parse(struct lab_settings *s, const char *words, const char *trace)
{
    for (size_t n; (n = word_length(words, ' ')) > 0; words += n + (words[n] != '\0')) {
        char word[128];
        ksnprintf(word, MIN(sizeof(word), n + 1), "%s", words);
        char *value = strchr(word, '=');
        if (value)
            *value++ = '\0';
        if (!value || !apply(s, word, value))
            log_warn("option %s=%s is unknown or malformed", word, value ? value : "");
    }
    for (size_t n; (n = word_length(trace, ',')) > 0; trace += n + (trace[n] != '\0'))
        s->host.trace |= trace_bit(trace, n);
}
