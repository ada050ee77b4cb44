/* SPDX-License-Identifier: BSD-2-Clause */
/* The status page: what a person wants to know at a glance, in plain HTML without scripts. */
#include "apps/nbd/config.h"
#include "apps/nbd/http.h"
#include "apps/nbd/server.h"
#include "rt/candela.h"

static const char style[] =
    "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em;color:#222}"
    "h1{font-size:1.5em}h2{font-size:1.1em;margin-top:1.8em}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25em .8em .25em 0;border-bottom:1px solid #ddd}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}th,td{border-color:#444}a{color:#8bf}}";

static void row(struct text *t, const char *name, const char *value)
{
    text_add(t, "<tr><th>");
    text_add_html(t, name);
    text_add(t, "</th><td>");
    text_add_html(t, value);
    text_add(t, "</td></tr>\n");
}

static void add_machine(struct text *t)
{
    struct mm_stats memory;
    char value[96];
    uint64_t s = rt_now_100ns() / 10000000;
    mm_get_stats(&memory);
    text_add(t, "<h2>Machine</h2><table>\n");
    row(t, "Version", candela_version());
    row(t, "Loader", candela_loader());
    row(t, "Processor", arch_cpu_model());
    row(t, "Clock", rt_clock_name());
    row(t, "Time", wall_text(value, sizeof(value)));
    ksnprintf(value, sizeof(value), "%llu d %02llu:%02llu:%02llu", (unsigned long long)(s / 86400),
              (unsigned long long)(s / 3600 % 24), (unsigned long long)(s / 60 % 60), (unsigned long long)(s % 60));
    row(t, "Up", value);
    ksnprintf(value, sizeof(value), "%llu of %llu MiB free", (unsigned long long)(memory.free_pages >> 8),
              (unsigned long long)(memory.ram_pages >> 8));
    row(t, "Memory", value);
    if (memory.given_pages) {
        ksnprintf(value, sizeof(value), "%llu MiB", (unsigned long long)(memory.given_pages >> 8));
        row(t, "Memory taken by the host", value);
    }
    text_add(t, "</table>\n");
}

/* What the host told: the administrator's keys, then what it says of itself. */
static void add_host_keys(struct text *t)
{
    struct host_key key;
    if (host_key_count() == 0)
        return;
    text_add(t, "<h2>Keys set by the host</h2><table>\n");
    for (unsigned i = 0; host_key_at(i, &key); i++)
        row(t, key.key, key.value);
    text_add(t, "</table>\n");
}

static void add_disks(struct text *t)
{
    struct blk_device *d;
    text_add(t, "<h2>Disks</h2><table><tr><th>Export</th><th>Description</th><th class=n>MiB</th>"
                "<th class=n>Sector</th><th>Access</th><th class=n>Reads</th><th class=n>Writes</th>"
                "<th class=n>Errors</th></tr>\n");
    for (unsigned i = 0; (d = blk_get_index(i)); i++) {
        text_add(t, "<tr><td>%s</td><td>", d->name);
        text_add_html(t, d->description);
        text_add(t, "</td><td class=n>%llu</td><td class=n>%u</td><td>%s</td><td class=n>%llu</td><td class=n>%llu</td>"
                    "<td class=n>%llu</td></tr>\n",
                 (unsigned long long)(d->sectors * d->sector_bytes >> 20), d->sector_bytes,
                 d->read_only || !nbd_policy.may_write(d->name) ? "read-only" : "read-write",
                 (unsigned long long)d->stats.reads, (unsigned long long)d->stats.writes,
                 (unsigned long long)d->stats.errors);
        blk_put(d);
    }
    text_add(t, "</table>\n");
}

static void add_network(struct text *t)
{
    struct net_info info;
    char value[96];
    net_get_info(&info);
    text_add(t, "<h2>Network</h2><table>\n");
    ksnprintf(value, sizeof(value), "%s, %02x:%02x:%02x:%02x:%02x:%02x, MTU %u, link %s, %u Mbit/s",
              info.nic_name ? info.nic_name : "no NIC", info.mac[0], info.mac[1], info.mac[2], info.mac[3], info.mac[4],
              info.mac[5], info.mtu, info.link_up ? "up" : "down", info.link_speed_mbps);
    row(t, "Interface", value);
    ksnprintf(value, sizeof(value), "%s (%s)", info.address4, info.by_dhcp ? "DHCP" : "configured");
    row(t, "IPv4", value);
    row(t, "Gateway", info.gateway);
    row(t, "DNS", info.dns);
    for (unsigned i = 0; i < ARRAY_SIZE(info.address6); i++)
        if (info.address6[i][0])
            row(t, "IPv6", info.address6[i]);
    text_add(t, "</table>\n");
}

static void add_clients(struct text *t)
{
    struct nbd_server_stats stats;
    const struct nbd_session *s;
    nbd_server_get_stats(&stats);
    text_add(t, "<h2>NBD clients: %u</h2><table><tr><th>Client</th><th>Export</th><th class=n>Reads</th><th class=n>MiB"
                "</th><th class=n>Writes</th><th class=n>MiB</th><th class=n>In flight</th></tr>\n", stats.connections);
    for (unsigned i = 0; (s = nbd_connection_session(i)); i++)
        text_add(t, "<tr><td>%s</td><td>%s</td><td class=n>%llu</td><td class=n>%llu</td><td class=n>%llu</td>"
                    "<td class=n>%llu</td><td class=n>%u</td></tr>\n",
                 s->peer, s->disk ? s->disk->name : "-", (unsigned long long)s->stats.reads,
                 (unsigned long long)s->stats.read_bytes >> 20, (unsigned long long)s->stats.writes,
                 (unsigned long long)s->stats.write_bytes >> 20, s->op_count);
    text_add(t, "</table><p>%llu accepted, %llu refused, %llu dropped; %llu of %llu KiB of buffers in use; writable: ",
             (unsigned long long)stats.accepted, (unsigned long long)stats.refused,
             (unsigned long long)stats.total.dropped,
             (unsigned long long)nbd_buffers_used() >> 10, (unsigned long long)nbd_buffers_limit() >> 10);
    text_add_html(t, *nbd_write_text() ? nbd_write_text() : "none");
    text_add(t, "; clients allowed: ");
    text_add_html(t, *nbd_allow_text() ? nbd_allow_text() : "all");
    text_add(t, "</p>\n");
}

static void add_boot(struct text *t)
{
    const struct boot_phase *phases;
    unsigned n = boot_phases(&phases);
    uint64_t before = 0;
    text_add(t, "<h2>Boot</h2><table><tr><th>Phase</th><th class=n>At, ms</th><th class=n>Took, ms</th></tr>\n");
    for (unsigned i = 0; i < n; i++) {
        uint64_t at = phases[i].at_100ns, took = at > before ? at - before : 0;
        text_add(t, "<tr><td>");
        text_add_html(t, phases[i].name);
        text_add(t, "</td><td class=n>%llu.%03llu</td><td class=n>%llu.%03llu</td></tr>\n",
                 (unsigned long long)(at / 10000), (unsigned long long)(at / 10 % 1000),
                 (unsigned long long)(took / 10000), (unsigned long long)(took / 10 % 1000));
        before = at;
    }
    text_add(t, "</table>\n");
}

void status_write(struct text *t)
{
    text_add(t, "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">"
                "<title>Candela</title><style>%s</style>\n<h1>Candela: disks by NBD</h1>\n", style);
    add_disks(t);
    add_clients(t);
    add_network(t);
    add_machine(t);
    add_host_keys(t);
    add_boot(t);
    text_add(t, "<h2>Counters</h2><table>\n");
    for (const struct metric *m = metric_first(); m; m = m->next)
        text_add(t, "<tr><th>%s</th><td class=n>%llu</td><td>%s</td></tr>\n", m->name,
                 (unsigned long long)m->read(m->arg), m->help);
    text_add(t, "</table>\n<p>For machines: <a href=\"/metrics\">/metrics</a></p></html>\n");
}
