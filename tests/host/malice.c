/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malice.c: the liar: when it lies, by which number, and what it is not blamed for.
 *
 * Every place that could lie asks for an occasion. Occasions are numbered; the seed and the number decide whether a lie
 * is told and how it looks, whatever came before it, so that leaving a lie out (malice.first, malice.last) does not
 * change those that are drawn for the same occasions. malice_bus.c lies about the bus, malice_setup.c about how guest
 * and host come together, malice_packet.c about rings, packets and what is in them, malice_service.c about the services
 * of the bus.
 */
#include "tests/host/host_internal.h"

static const char *const names[] = {
    "ring", "frame", "id", "swap", "early", "length", "status", "handshake",
    "offer", "rescind", "silence", "message", "refuse", "rndis", "storm", "visibility",
    "connect", "gpadl", "wiring", "service",
};
_Static_assert((1u << HOST_COUNT(names)) - 1 == HOST_MALICE_ALL, "a name for each class");

const char *host_malice_name(unsigned bit)
{
    return bit < HOST_COUNT(names) ? names[bit] : NULL;
}

static uint64_t mix(uint64_t v)
{
    v += 0x9E3779B97F4A7C15ull;
    v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9ull;
    v = (v ^ (v >> 27)) * 0x94D049BB133111EBull;
    return v ^ (v >> 31);
}

static bool is_honest(const struct malice *m, const void *device)
{
    for (unsigned i = 0; device != NULL && i < HOST_MALICE_HONEST; i++) {
        if (m->cfg.honest[i] == device)
            return true;
    }
    return false;
}

void host_set_malice(struct host *h, const struct host_malice *m)
{
    bool was = h->malice.on;

    h->malice.on = false;
    if (was)
        malice_bus_honest(h);
    h->malice.held_bytes = 0;
    h->malice.past_count = 0;
    h->malice.rescind = 0;
    h->malice.full_until = 0;
    malice_setup_honest(h);
    if (m == NULL)
        return;
    h->malice.cfg = *m;
    h->malice.numbered = h->malice.told_count = 0;
    h->malice.counters = (struct host_malice_counters){0};
    memcpy(h->malice.once, h->malice.invented, sizeof(h->malice.once));
    h->malice.on = m->classes != 0;
}

void host_get_malice(const struct host *h, struct host_malice_counters *counters)
{
    *counters = h->malice.counters;
}

/* More liars than there is room for: the lies about the last ones are no excuse. */
static void remember_lie(struct host *h, uint32_t classes, const void *device)
{
    struct malice *m = &h->malice;
    uint32_t i = 0;

    for (uint32_t relid = 1; device != NULL && relid <= VMBUS_RELID_MAX; relid++) {
        struct host_chan *ch = h->vmbus.channel[relid];
        if (ch != NULL && ch->device == device)
            ch->lied |= classes;
    }

    while (i < m->told_count && m->told[i].device != device)
        i++;
    if (i == MALICE_DEVICES)
        return;
    if (i == m->told_count) {
        m->told[i].device = device;
        m->told[m->told_count++].classes = 0;
    }
    m->told[i].classes |= classes;
}

bool malice_occasion(struct host *h, uint32_t classes, const void *device)
{
    struct malice *m = &h->malice;
    uint64_t bits;

    if (!m->on || !(m->cfg.classes & classes) || is_honest(m, device))
        return false;
    bits = mix(m->cfg.seed * 0x2545F4914F6CDD1Dull + ++m->counters.occasions);
    if (m->cfg.rate > 1 && (bits >> 20) % m->cfg.rate != 0)
        return false;
    m->numbered++;
    if (m->cfg.first != 0 && (m->numbered < m->cfg.first || m->numbered > m->cfg.last))
        return false;
    m->counters.lies++;
    remember_lie(h, m->cfg.classes & classes, device);
    m->bits = mix(bits);
    return true;
}

uint64_t malice_pick(struct host *h, uint64_t n)
{
    h->malice.bits = mix(h->malice.bits);
    return n == 0 ? 0 : (h->malice.bits >> 8) % n;
}

uint32_t malice_value(struct host *h)
{
    static const uint32_t values[] = {
        0, 1, 2, 3, 4, 7, 8, 12, 16, 36, 44, 255, 511, 0xFFF, 0x1000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
        0xFFFFFFF0, 0xFFFFFFF8, 0xFFFFFFFC, 0xFFFFFFFF,
    };
    uint64_t which = malice_pick(h, HOST_COUNT(values) + 4);

    return which < HOST_COUNT(values) ? values[which] : (uint32_t)malice_pick(h, 1ull << (4 * (which & 7) + 4));
}

void malice_told(struct host *h, const char *fmt, ...)
{
    char what[128];
    va_list ap;

    va_start(ap, fmt);
    kvsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    host_log(h, HOST_LOG_INFO, "lie %llu of seed %llu: %s", (unsigned long long)h->malice.numbered,
             (unsigned long long)h->malice.cfg.seed, what);
}

bool malice_excuses(struct host *h, uint32_t classes, const void *device)
{
    struct malice *m = &h->malice;

    for (uint32_t i = 0; i < m->told_count; i++) {
        if (m->told[i].device == device && (m->told[i].classes & classes)) {
            m->counters.excused++;
            return true;
        }
    }
    return false;
}

bool malice_misled(const struct host_chan *ch, uint32_t classes)
{
    if (!(ch->lied & classes))
        return false;
    ch->h->malice.counters.excused++;
    return true;
}

bool malice_invented(const struct host *h, uint32_t relid)
{
    return relid <= VMBUS_RELID_MAX && (h->malice.once[relid / 8] & 1u << relid % 8) != 0;
}
