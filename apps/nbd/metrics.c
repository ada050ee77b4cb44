/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * /metrics in the Prometheus text format (version 0.0.4): HELP and TYPE before each family, counters end in _total,
 * base units (seconds, bytes).
 */
#include "apps/nbd/http.h"
#include "apps/nbd/server.h"
#include "rt/candela.h"

static void family(struct text *t, const char *name, const char *type, const char *help)
{
    text_add(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct text *t, const char *name, const char *type, const char *help, uint64_t value)
{
    family(t, name, type, help);
    text_add(t, "%s %llu\n", name, (unsigned long long)value);
}

static void seconds(struct text *t, const char *name, const char *labels, uint64_t v_100ns)
{
    text_add(t, "%s%s %llu.%07llu\n", name, labels, (unsigned long long)(v_100ns / 10000000),
             (unsigned long long)(v_100ns % 10000000));
}

/* ---- disks: one family per figure, one line per disk ---- */
static uint64_t disk_size(const struct blk_device *d) { return d->sectors * d->sector_bytes; }
static uint64_t disk_reads(const struct blk_device *d) { return d->stats.reads; }
static uint64_t disk_writes(const struct blk_device *d) { return d->stats.writes; }
static uint64_t disk_flushes(const struct blk_device *d) { return d->stats.flushes; }
static uint64_t disk_discards(const struct blk_device *d) { return d->stats.discards; }
static uint64_t disk_read_bytes(const struct blk_device *d) { return d->stats.read_bytes; }
static uint64_t disk_write_bytes(const struct blk_device *d) { return d->stats.write_bytes; }
static uint64_t disk_errors(const struct blk_device *d) { return d->stats.errors; }
static uint64_t disk_in_flight(const struct blk_device *d) { return d->stats.in_flight; }

static const struct {
    const char *name, *type, *help;
    uint64_t (*read)(const struct blk_device *d);
} disk_figures[] = {
    {"candela_disk_size_bytes", "gauge", "Capacity of the disk.", disk_size},
    {"candela_disk_reads_total", "counter", "Read requests.", disk_reads},
    {"candela_disk_writes_total", "counter", "Write requests.", disk_writes},
    {"candela_disk_flushes_total", "counter", "Flush requests.", disk_flushes},
    {"candela_disk_discards_total", "counter", "Discard requests.", disk_discards},
    {"candela_disk_read_bytes_total", "counter", "Bytes read.", disk_read_bytes},
    {"candela_disk_written_bytes_total", "counter", "Bytes written.", disk_write_bytes},
    {"candela_disk_errors_total", "counter", "Requests that failed.", disk_errors},
    {"candela_disk_in_flight", "gauge", "Requests with the disk now.", disk_in_flight},
};

static void add_disks(struct text *t)
{
    for (unsigned f = 0; f < ARRAY_SIZE(disk_figures); f++) {
        struct blk_device *d;
        family(t, disk_figures[f].name, disk_figures[f].type, disk_figures[f].help);
        for (unsigned i = 0; (d = blk_get_index(i)); i++) {
            text_add(t, "%s{disk=\"%s\"} %llu\n", disk_figures[f].name, d->name,
                     (unsigned long long)disk_figures[f].read(d));
            blk_put(d);
        }
    }
}

static void add_nics(struct text *t)
{
    static const struct { const char *name, *type, *help; } figures[] = {
        {"candela_nic_up", "gauge", "1 when the link is up."},
        {"candela_nic_transmit_frames_total", "counter", "Frames sent."},
        {"candela_nic_transmit_bytes_total", "counter", "Bytes sent."},
        {"candela_nic_receive_frames_total", "counter", "Frames received."},
        {"candela_nic_receive_bytes_total", "counter", "Bytes received."},
        {"candela_nic_transmit_errors_total", "counter", "Frames that could not be sent."},
        {"candela_nic_receive_dropped_total", "counter", "Received frames that were dropped."},
        {"candela_nic_transmit_copied_total", "counter", "Frames copied into a send section."},
        {"candela_nic_transmit_referenced_total", "counter", "Frames sent by reference."},
    };
    for (unsigned f = 0; f < ARRAY_SIZE(figures); f++) {
        struct nic *n;
        family(t, figures[f].name, figures[f].type, figures[f].help);
        for (unsigned i = 0; (n = nic_get_index(i)); i++) {
            const uint64_t values[] = {n->link_up, n->stats.tx_frames, n->stats.tx_bytes, n->stats.rx_frames,
                                       n->stats.rx_bytes, n->stats.tx_errors, n->stats.rx_dropped, n->stats.tx_copied,
                                       n->stats.tx_referenced};
            _Static_assert(ARRAY_SIZE(values) == ARRAY_SIZE(figures), "one value per figure");
            text_add(t, "%s{nic=\"%s\"} %llu\n", figures[f].name, n->name, (unsigned long long)values[f]);
        }
    }
}

static void add_nbd(struct text *t)
{
    struct nbd_server_stats s;
    nbd_server_get_stats(&s);
    single(t, "candela_nbd_connections", "gauge", "NBD clients connected.", s.connections);
    single(t, "candela_nbd_accepted_total", "counter", "NBD connections accepted.", s.accepted);
    single(t, "candela_nbd_refused_total", "counter", "NBD connections refused.", s.refused);
    single(t, "candela_nbd_dropped_total", "counter", "NBD connections dropped for misbehaviour.", s.total.dropped);
    family(t, "candela_nbd_requests_total", "counter", "NBD requests by kind.");
    text_add(t, "candela_nbd_requests_total{kind=\"read\"} %llu\n", (unsigned long long)s.total.reads);
    text_add(t, "candela_nbd_requests_total{kind=\"write\"} %llu\n", (unsigned long long)s.total.writes);
    text_add(t, "candela_nbd_requests_total{kind=\"flush\"} %llu\n", (unsigned long long)s.total.flushes);
    text_add(t, "candela_nbd_requests_total{kind=\"trim\"} %llu\n", (unsigned long long)s.total.trims);
    text_add(t, "candela_nbd_requests_total{kind=\"write_zeroes\"} %llu\n", (unsigned long long)s.total.zeroes);
    single(t, "candela_nbd_errors_total", "counter", "NBD requests answered with an error.", s.total.errors);
    single(t, "candela_nbd_read_bytes_total", "counter", "Bytes asked for by NBD reads.", s.total.read_bytes);
    single(t, "candela_nbd_written_bytes_total", "counter", "Bytes brought by NBD writes.", s.total.write_bytes);
    single(t, "candela_nbd_buffer_bytes", "gauge", "Bytes of data buffers in use.", nbd_buffers_used());
}

static void add_machine(struct text *t)
{
    const struct boot_phase *phases;
    unsigned n = boot_phases(&phases);
    family(t, "candela_info", "gauge", "Always 1; the labels tell what runs.");
    text_add(t, "candela_info{version=\"");
    text_add_label(t, candela_version());
    text_add(t, "\",arch=\"%s\",loader=\"", ARCH_NAME);
    text_add_label(t, candela_loader());
    text_add(t, "\"} 1\n");
    family(t, "candela_uptime_seconds", "gauge", "Time since the clock was brought up.");
    seconds(t, "candela_uptime_seconds", "", rt_now_100ns());
    family(t, "candela_boot_phase_seconds", "gauge", "When each phase of boot was reached.");
    for (unsigned i = 0; i < n; i++) {
        struct text labels = {0};
        text_add(&labels, "{phase=\"");
        text_add_label(&labels, phases[i].name);
        text_add(&labels, "\"}");
        if (!labels.failed)
            seconds(t, "candela_boot_phase_seconds", labels.p, phases[i].at_100ns);
        text_free(&labels);
    }
}

void metrics_write(struct text *t)
{
    add_machine(t);
    add_disks(t);
    add_nics(t);
    add_nbd(t);
    for (const struct metric *m = metric_first(); m; m = m->next)
        single(t, m->name, m->gauge ? "gauge" : "counter", m->help, m->read(m->arg));
}
