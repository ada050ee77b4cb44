/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The default application: serves every disk by the NBD protocol, and a status page by HTTP.
 *
 *   nbd.port=10809         http.port=80 (0: none)      nbd.write=, nbd.allow=: config.c
 *   nbd.connections=64     the most clients at once    nbd.memory=N bytes for data in flight (an eighth of RAM)
 *
 * Without a NIC there is nobody to serve, so it returns and the machine ends. With a NIC but no disk it waits for one.
 * When the host asks for the end, clients get the answers to what they asked and are closed; the runtime flushes disks.
 */
#define LOG_ROOM "nbd"
#include <string.h>
#include "rt/candela.h"
#include "apps/nbd/config.h"
#include "apps/nbd/http.h"
#include "apps/nbd/server.h"

#define ADDRESS_WAIT_US 10000000
#define FINISH_LIMIT_US 5000000           /* half of what the runtime gives an application for its end */

const char app_name[] = "nbd";

static void announce_disks(void)
{
    struct blk_device *disk;
    unsigned n = 0;
    for (; (disk = blk_get_index(n)); n++) {
        log_info("export %s: %llu MiB, sectors of %u bytes, %s (%s)", disk->name,
                 (unsigned long long)(disk->sectors * disk->sector_bytes >> 20), disk->sector_bytes,
                 disk->read_only || !nbd_policy.may_write(disk->name) ? "read-only" : "writable", disk->description);
        blk_put(disk);
    }
    if (n == 0)
        log_warn("no disk: the list of exports is empty until one comes");
}

static void log_address(uint16_t nbd_port, uint16_t http_port)
{
    const char *text = net_address_text(), *slash = strchr(text, '/');
    int n = slash ? (int)(slash - text) : 0;
    if (!slash) {
        text = "(no address)";
        n = (int)strlen(text);
    }
    log_info("serving nbd://%.*s:%u/", n, text, nbd_port);
    char uri[96];
    ksnprintf(uri, sizeof uri, "nbd://%.*s:%u/", n, text, nbd_port);
    guest_key_set("nbd.uri", slash ? uri : NULL);          /* for the host's administrator */
    if (http_port)
        log_info("status page http://%.*s:%u/, figures at /metrics", n, text, http_port);
}

int app_main(int argc, char **argv)
{
    struct nbd_server_config server = {
        .port = (uint16_t)config_number("nbd.port", 10809, 1, 65535),
        .max_connections = (unsigned)config_number("nbd.connections", 64, 1, 96),
        .policy = &nbd_policy,
    };
    uint16_t http_port = (uint16_t)config_number("http.port", 80, 0, 65535);
    (void)argc;
    (void)argv;
    nbd_config_read();
    nbd_buffers_init(config_number("nbd.memory", 0, 0, 1ull << 40));
    announce_disks();
    if (!nic_get_index(0)) {
        log_err("no network interface: nobody can be served");
        return -E_NOENT;
    }
    if (!net_is_up()) {
        log_err("the network is down (the reason is above): nobody can be served");
        return -E_NOTSUP;
    }
    if (!net_wait_ready(ADDRESS_WAIT_US))
        log_warn("no address yet (link down, or no DHCP answer); clients can connect when there is one");
    int error = nbd_server_start(&server);
    if (error)
        return error;
    if (http_port)
        http_server_start(http_port);
    log_address(server.port, http_port);
    shutdown_wait(RT_FOREVER);
    log_info("closing %u connections", nbd_connection_count());
    nbd_server_stop(FINISH_LIMIT_US);
    return 0;
}
