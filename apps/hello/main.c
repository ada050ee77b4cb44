/* SPDX-License-Identifier: BSD-2-Clause */
/* The smallest application: says where it is and reads the first sector of the first disk. */
#include "rt/candela.h"

const char app_name[] = "hello";

int app_main(int argc, char **argv)
{
    kprintf("Hello from %s, loaded by %s%s%s\n", candela_version(), candela_loader(), argc > 1 ? ", for " : "",
            argc > 1 ? argv[1] : "");
    if (net_wait_ready(5000000))
        kprintf("The network is up: %s\n", net_address_text());
    char time[WALL_TEXT_BYTES];
    if (wall_wait(1000000))
        kprintf("It is %s\n", wall_text(time, sizeof time));
    struct blk_device *disk = blk_get("disk0");
    if (!disk)
        return 0;
    uint8_t *sector = kmalloc(disk->sector_bytes);
    int error = sector ? blk_read(disk, 0, 1, sector) : -E_NOMEM;
    if (!error)
        kprintf("The first sector of %s ends in %02x %02x\n", disk->name, sector[510], sector[511]);
    kfree(sector);
    blk_put(disk);
    return error;
}
