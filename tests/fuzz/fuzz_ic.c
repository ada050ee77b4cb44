/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Integration components: the host changes, repeats and invents messages of shutdown, heartbeat, time and key-value pairs,
 * from the negotiation on.
 *
 * Must hold: an answer is as long as the request it answers and goes to who asked; text from the host is text (UTF-8 with
 * an end) before anyone sees it, keys and their number stay within their limits; a time of day is one that exists, and
 * clocks go forward; the machine ends only when it was told to, and then in order. Afterwards, unless it ended, a new
 * component of a host that tells the truth is answered, and components that went have left nothing but keys and time.
 */
#include <string.h>
#include "drivers/ic.h"
#include "rt/candela.h"
#include "rt/services.h"
#include "tests/fuzz/machine.h"
#include "tests/host/ic.h"

static struct host_ic_config config;
static struct machine_book empty;

static void describe(struct machine_network *n)
{
    memcpy(n->mac, (uint8_t[]){0x00, 0x15, 0x5D, 0x01, 0x02, 0x03}, 6);
    n->by_dhcp = true;
    n->hostname = "candle.example";
    n->address_count = 2;
    n->addresses[0] = (struct network_address){false, {10, 0, 2, 15}, 20, "10.0.2.15"};
    n->addresses[1] = (struct network_address){true, {0xFE, 0x80, [15] = 5}, 64, "FE80::5"};
    n->gateway_count = n->dns_count = 1;
    n->gateways[0] = (struct network_address){false, {10, 0, 2, 2}, 0, "10.0.2.2"};
    n->dns[0] = (struct network_address){false, {10, 0, 2, 3}, 0, "10.0.2.3"};
}

static struct host_ic_state state_of(enum host_ic_kind which)
{
    struct host_ic_state state;
    host_ic_get_state(machine_host, which, &state);
    return state;
}

static bool all_negotiated(void)
{
    for (unsigned i = 0; i < HOST_ICS; i++)
        if (config.present & 1u << i && !state_of(i).negotiated && !state_of(i).refused)
            return false;
    return true;
}

static void add(void)
{
    FUZZ_CHECK(host_add_ics(machine_host, &config));
    hv_host_run();
}

static void remove_some(uint32_t which)
{
    for (unsigned i = 0; i < HOST_ICS; i++)
        if (which & 1u << i)
            host_remove_ic(machine_host, i);
    hv_host_run();
}
static void remove_all(void) { remove_some(UINT32_MAX); }

static void attend(void *arg UNUSED) { machine_attend(); }

static void setup(void)
{
    machine_boot(24 << 20, "");
    keys_init();
    wall_init();
    machine_start();
    ic_register();
    machine_set_network(describe);
    machine_connect();
    FUZZ_CHECK(task_spawn("attend", attend, NULL, 0));
    host_ic_config_default(&config);
    config.time_100ns = IC_TIME_UNIX_EPOCH + 1763635500ull * 10000000;
    add();
    FUZZ_CHECK(RUN_UNTIL(all_negotiated(), 20));
    FUZZ_CHECK(host_kvp_set(machine_host, "key", "value") && host_kvp_enumerate(machine_host, IC_KVP_POOL_AUTO));
    machine_run_us(1000000);
    FUZZ_CHECK(keys_get(KEYS_EXTERNAL, "key"));
    remove_all();
    FUZZ_CHECK(RUN_UNTIL(bus.channel_count == 0, 10));
    machine_fill_stack_cache();
    empty = machine_book();
    add();
    FUZZ_CHECK(RUN_UNTIL(all_negotiated(), 20));
    machine_run_us(1000000);
}

/* What a host asks of its own accord. */
static void ask(uint8_t what)
{
    switch (what % 12) {
    case 0:
        host_kvp_set(machine_host, "another", "value of it");
        break;
    case 1:
        host_kvp_delete(machine_host, "key");
        break;
    case 2:
        host_kvp_get(machine_host, what / 12 % 5, "key");
        break;
    case 3:
        host_kvp_enumerate(machine_host, what / 12 % 5);
        break;
    case 4:
        host_kvp_get_ip(machine_host, "00:15:5D:01:02:03");
        break;
    case 5:
        host_ic_time_sync(machine_host);
        break;
    case 6:
        host_ic_set_time(machine_host, config.time_100ns + what * 1000000000ull);
        host_ic_time_sync(machine_host);
        break;
    case 7:
        host_ic_renegotiate(machine_host, what / 12 % HOST_ICS);
        break;
    case 8:
        host_ic_shutdown(machine_host, what & 16 ? IC_SHUTDOWN_FORCE : 0, 0, 10, "fuzz");
        break;
    case 9:
        host_remove_ic(machine_host, what / 12 % HOST_ICS);
        break;
    default:
        machine_run_us(what * 20000u);
    }
    hv_host_run();
}

static void check_keys(void)
{
    unsigned all = 0;
    for (unsigned pool = 0; pool < KEY_POOLS; pool++) {
        struct key_pair pair;
        for (unsigned n = 0; keys_at(pool, n, &pair); n++, all++)
            FUZZ_CHECK(pair.key[0] && strlen(pair.key) <= KEYS_NAME_BYTES && strlen(pair.value) <= KEYS_VALUE_BYTES);
    }
    FUZZ_CHECK(all <= KEYS_MAX);
}

static struct host_chan *channel(enum host_ic_kind which)
{
    uint32_t relid = state_of(which).relid;
    return relid ? vchan_find(machine_host, relid) : NULL;
}

static void run(struct input *in)
{
    uint8_t first = in_u8(in);
    uint64_t before = 0, after = 0;
    struct host_kvp_result result;

    wall_now_ns(&before);
    if (first & 1) {                           /* the negotiation, too: of all, or of one */
        uint32_t all = config.present, which = first & 4 ? all : all & 1u << (first >> 3) % HOST_ICS;
        unsigned channels = bus.channel_count - (unsigned)__builtin_popcount(which);
        remove_some(which);
        FUZZ_CHECK(RUN_UNTIL(bus.channel_count == channels, 10));
        lies_begin(LIES_PACKETS, in);
        config.present = which;
        add();
        RUN_UNTIL(all_negotiated() || !lies_left(), 20);
        config.present = all;
    }
    for (unsigned n = 0; lies_left() && n < 40; n++) {
        uint8_t what = in_u8(in);
        struct host_chan *ch = channel(what % HOST_ICS);
        lies_begin(LIES_PACKETS, in);
        if (what & 128)
            ask(in_u8(in));
        else if (ch && ch->open)
            lies_say_packet(ch);
        machine_run_us(2000);
        lies_end();
        while (host_kvp_result(machine_host, &result))
            ;
    }
    lies_end();
    check_keys();
    FUZZ_CHECK(!wall_now_ns(&after) || after <= WALL_UNIX_NS_MAX);
    machine_run_us(100000);
    if (first & 128 || !fuzz_thorough)         /* they stay */
        return;
    remove_all();
    FUZZ_CHECK(RUN_UNTIL(bus.channel_count == 0, 100));
    if (first & 2 && shutdown_requested() == SHUTDOWN_NONE) {
        add();
        FUZZ_CHECK(RUN_UNTIL(state_of(HOST_IC_HEARTBEAT).negotiated && state_of(HOST_IC_HEARTBEAT).answers > 0, 20));
        remove_all();
        FUZZ_CHECK(RUN_UNTIL(bus.channel_count == 0, 100));
    }
    for (unsigned pool = 0; pool < KEY_POOLS; pool++) {
        struct key_pair pair;
        while (keys_at(pool, 0, &pair))
            if (keys_delete(pool, pair.key))
                break;
    }
    keys_set(KEYS_EXTERNAL, "key", "value");
    FUZZ_CHECK(machine_same_within(&empty, 100));
}

const struct fuzz_target fuzz_target = {.setup = setup, .run = run, .limit_s = 3000};
