/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/* storvsc against the model of the host: every protocol version, disks of all kinds, faults, removal under load. */
#include "drivers/drivers.h"
#include "drivers/storvsc.h"
#include "hv/hv.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/unit/test.h"

#define RAM_BYTES (64ull << 20)

static void *mem_alloc(void *ctx, size_t bytes)
{
    (void)ctx;
    return calloc(1, bytes);
}

static void mem_free(void *ctx, void *p, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(p);
}

static const struct host_ops mem_ops = {.alloc = mem_alloc, .free = mem_free};
static struct host *host;
static struct host_scsi *scsi;
static struct host_scsi_config scsi_config;
static struct host_config host_cfg;
static struct blk_mem *backing[64];

static void defaults(void)
{
    fake_arch_boot(RAM_BYTES);
    host_config_default(&host_cfg);
    host_scsi_config_default(&scsi_config);
}

static void host_up(void)
{
    host = hv_host_start(&host_cfg);
    scsi = host_add_scsi(host, &scsi_config);
}

static void add_disk(unsigned lun, uint32_t sector_bytes, uint64_t sectors, void (*change)(struct host_blk_info *info))
{
    struct host_blk_info info;

    backing[lun] = blk_mem_create(&mem_ops, NULL, sector_bytes, sectors);
    blk_mem_info(backing[lun], &info);
    info.id[0] = (uint8_t)lun;
    if (change)
        change(&info);
    if (!host_add_lun(host, scsi, lun, &info, &blk_mem_ops, backing[lun]))
        test_fail(__FILE__, __LINE__, "LUN %u not added", lun);
}

static int guest_up(void)
{
    if (!hv_init())
        return -E_NOTSUP;
    hv_clock_init();
    if (hv_synic_init())
        return -E_NOTSUP;
    storvsc_register();
    return vmbus_connect();
}

static void start(uint32_t sector_bytes, uint64_t sectors)
{
    defaults();
    host_up();
    add_disk(0, sector_bytes, sectors, NULL);
    int e = guest_up();
    if (e)
        test_fail(__FILE__, __LINE__, "guest not up: %s", error_name(e));
}

static void pattern(uint8_t *p, uint64_t bytes, unsigned seed)
{
    for (uint64_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(i * 31 + i / 251 + seed * 17 + (i >> 16));
}

/* Runs the loop until the condition holds or so much time has passed. */
#define RUN_UNTIL(cond, limit_s)                                                        \
    ({                                                                                  \
        uint64_t end_ = rt_now_100ns() + S_100NS(limit_s);                              \
        while (!(cond) && rt_now_100ns() < end_)                                        \
            task_sleep_us(1000);                                                        \
        (cond);                                                                         \
    })

/* ---- plain service ---- */

static void transfer_sizes(uint32_t sector_bytes)
{
    static const unsigned sizes[] = {1, 2, 7, 8, 9, 63, 64, 65, 127, 512, 513, 1000};
    uint64_t most = 1000 * sector_bytes + 8192;
    uint8_t *a = kmalloc(most), *b = kmalloc(most), *c = malloc(most);
    struct blk_device *d = blk_get("disk0");

    CHECK(d && a && b && c);
    CHECK_EQ(d->sector_bytes, sector_bytes);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        unsigned odd = (i * 1364u) & 4092u;
        uint64_t bytes = (uint64_t)sizes[i] * sector_bytes;
        pattern(a + odd, bytes, i);
        memset(b, 0xEE, most);
        CHECK_EQ(blk_write(d, 3 + i, sizes[i], a + odd, 0), 0);
        CHECK(blk_mem_access(backing[0], 3 + i, c, sizes[i], false));
        CHECK(!memcmp(a + odd, c, bytes));
        CHECK_EQ(blk_read(d, 3 + i, sizes[i], b + (4092 - odd)), 0);
        CHECK(!memcmp(b + (4092 - odd), c, bytes));
        CHECK(b[4092 - odd + bytes] == 0xEE && (odd == 4092 || b[4091 - odd] == 0xEE));
    }
    blk_put(d);
    kfree(a);
    kfree(b);
    free(c);
}

TEST(sectors_of_512)
{
    start(512, 100000);
    transfer_sizes(512);
}

TEST(sectors_of_4096)
{
    start(4096, 10000);
    transfer_sizes(4096);
}

static void one_version(void *arg)
{
    uint16_t version = (uint16_t)(uintptr_t)arg;
    char text[64];

    defaults();
    scsi_config.max_version = version;
    host_up();
    add_disk(0, 512, 50000, NULL);
    CHECK_EQ(guest_up(), 0);
    snprintf(text, sizeof(text), "storage protocol %u.%u", version >> 8, version & 255);
    CHECK(fake_log_contains(text));
    transfer_sizes(512);
    vmbus_disconnect(false);
    CHECK(!blk_get("disk0"));
}

TEST(every_protocol_version)
{
    static const uint16_t all[] = {VSTOR_VERSION_WIN6, VSTOR_VERSION_WIN7, VSTOR_VERSION_WIN8, VSTOR_VERSION_WIN8_1,
                                   VSTOR_VERSION_WIN10};

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        CHECK_EQ(fake_run_child(one_version, (void *)(uintptr_t)all[i]), FAKE_RETURNED);
}
TEST_MAIN()
