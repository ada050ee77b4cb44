/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest played by hand with several VPs and several channels of one device, each with rings of its own. */
#pragma once
#include "tests/unit/played_guest.h"

#define VPS 4u

enum { PAGE_VPS = 8, PAGE_SUB_RINGS = 1408, GPADL_SUBS = 0x20 };

struct channel {
    uint32_t relid, page, gpadl, vp;
};

static struct channel primary = {0, PAGE_RING, 5, 0}, subs[8];
static struct guid instance, interface;

/* The other VPs have their message and event pages at PAGE_VPS. */
static void start_vps(struct host_config *cfg)
{
    cfg->vps = VPS;
    cfg->trace = 0xFF;
    start_with(cfg);
    for (uint32_t vp = 1; vp < VPS; vp++) {
        host_wrmsr(host, vp, HV_X64_MSR_SIMP, (PAGE_VPS + 2 * vp) * 4096u | 1);
        host_wrmsr(host, vp, HV_X64_MSR_SIEFP, (PAGE_VPS + 2 * vp + 1) * 4096u | 1);
        host_wrmsr(host, vp, HV_X64_MSR_SINT(2), VECTOR);
        host_wrmsr(host, vp, HV_X64_MSR_SCONTROL, 1);
    }
}

static void start_multi(void)
{
    struct host_config cfg;

    host_config_default(&cfg);
    start_vps(&cfg);
}

/* From here send and receive speak of that channel. */
static void use(const struct channel *c)
{
    ring_page = c->page;
    ring_gpadl = c->gpadl;
    ring_vp = c->vp;
}

/* Is the channel's event flag set on that VP? Clears it. */
static bool event_on(uint32_t vp, uint32_t relid)
{
    uint32_t page = vp == 0 ? (uint32_t)PAGE_SIEFP : PAGE_VPS + 2 * vp + 1;
    uint8_t *byte = ram + page * 4096u + 2 * HV_EVENT_FLAGS_COUNT / 8 + relid / 8, bit = (uint8_t)(1u << relid % 8);
    bool set = (*byte & bit) != 0;

    *byte &= (uint8_t)~bit;
    return set;
}

/* Takes the offers of the sub-channels 1 to count, which belong to the device of the primary's offer. */
static bool take_sub_offers(uint32_t count)
{
    struct vmbus_msg_offer_channel offer;

    for (uint32_t i = 0; i < count; i++) {
        if (!take(VMBUS_MSG_OFFER_CHANNEL, &offer, sizeof(offer)) || offer.sub_channel_index != i + 1 ||
            memcmp(&offer.instance, &instance, sizeof(instance)) != 0 ||
            memcmp(&offer.interface_type, &interface, sizeof(interface)) != 0 || offer.dedicated_interrupt != 1 ||
            offer.connection_id != 0x2000 + offer.relid)
            return false;
        subs[i] = (struct channel){offer.relid, PAGE_SUB_RINGS + i * RING_PAGES, GPADL_SUBS + i, (i + 1) % VPS};
    }
    return true;
}

static bool open_subs(uint32_t count)
{
    bool good = true;

    for (uint32_t i = 0; i < count && good; i++) {
        use(&subs[i]);
        good = open_channel(subs[i].relid);
    }
    use(&primary);
    return good;
}

static void post_relid(uint32_t type, uint32_t relid)
{
    struct vmbus_msg_relid msg = {.header = {.type = type}, .relid = relid};

    post(4, &msg, sizeof(msg));
}

static void teardown(uint32_t relid, uint32_t gpadl)
{
    struct vmbus_msg_gpadl_teardown msg = {{.type = VMBUS_MSG_GPADL_TEARDOWN}, relid, gpadl};

    post(4, &msg, sizeof(msg));
}

/* Close, and the rings are the guest's again. */
static bool close_channel(const struct channel *c)
{
    struct vmbus_msg_gpadl_torndown done = {.gpadl = 0};

    post_relid(VMBUS_MSG_CLOSE_CHANNEL, c->relid);
    teardown(c->relid, c->gpadl);
    return take(VMBUS_MSG_GPADL_TORNDOWN, &done, sizeof(done)) && done.gpadl == c->gpadl;
}

/* The next message of its kind rescinds that channel. */
static bool rescinded(uint32_t relid)
{
    struct vmbus_msg_relid msg = {.relid = 0};

    return take(VMBUS_MSG_RESCIND_OFFER, &msg, sizeof(msg)) && msg.relid == relid;
}

static void modify(uint32_t connection, uint32_t relid, uint32_t vp)
{
    struct vmbus_msg_modify_channel msg = {{.type = VMBUS_MSG_MODIFY_CHANNEL}, relid, vp};

    post(connection, &msg, sizeof(msg));
}

static uint32_t channels_offered(void)
{
    struct host_state state;

    poll_all();
    host_get_state(host, &state);
    return state.channels_offered;
}
