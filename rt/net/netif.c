/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interface en0 and the NIC below it.
 *
 * The interface is made once and stays; the NIC below it may go and another one come. That way a host that swaps a NIC
 * under a running machine costs a moment without link, not the connections: lwIP sees link down and link up, on which
 * it asks DHCP for its address again and announces itself. The first NIC that is present carries the interface; more
 * NICs are named in the log and wait until it goes.
 */
#define LOG_ROOM "net"
#include "rt/net/netif.h"
#include <string.h>
#include "rt/net/port.h"
#include "rt/net/tx_offload.h"
#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/netif.h"
#include "netif/ethernet.h"

static struct netif en0;
static struct nic *current;
static uint16_t mtu = 1500;
static uint16_t mtu_wanted;             /* 0: what the NIC says */
static const char *hostname;
static bool use_ipv6;

struct netif *net_netif(void) { return &en0; }
struct nic *net_current_nic(void) { return current; }
uint16_t net_mtu(void) { return mtu; }

static err_t setup(struct netif *netif)
{
    netif->name[0] = 'e';
    netif->name[1] = 'n';
    netif->hostname = hostname;
    netif->hwaddr_len = 6;
    netif->mtu = mtu;
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_MLD6;
    netif->output = etharp_output;
    netif->output_ip6 = ethip6_output;
    netif->linkoutput = net_tx_output;
    return ERR_OK;
}

static void set_mtu(struct nic *nic)
{
    mtu = nic->mtu;
    if (mtu_wanted && mtu_wanted <= nic->mtu)
        mtu = mtu_wanted;
    else if (mtu_wanted)
        log_warn("net.mtu=%u is more than the %u of %s; using that", mtu_wanted, nic->mtu, nic->name);
    en0.mtu = mtu;
    en0.mtu6 = mtu;
}

static void attach(struct nic *nic)
{
    bool same_mac = memcmp(en0.hwaddr, nic->mac, 6) == 0;
    current = nic;
    memcpy(en0.hwaddr, nic->mac, 6);
    set_mtu(nic);
    net_tx_offload_setup(&en0, nic);
    net_tx_attach(nic);
    net_lso_attach(nic, &en0);
    if (use_ipv6 && !same_mac)
        netif_create_ip6_linklocal_address(&en0, 1);
    log_info_some("en0 on %s, %02x:%02x:%02x:%02x:%02x:%02x, MTU %u, link %s", nic->name, nic->mac[0], nic->mac[1],
                  nic->mac[2], nic->mac[3], nic->mac[4], nic->mac[5], en0.mtu, nic->link_up ? "up" : "down");
    if (nic->link_up)
        netif_set_link_up(&en0);
}

static void nic_added(struct nic *nic)
{
    if (current)
        log_info_some("%s is not used: en0 is on %s", nic->name, current->name);
    else
        attach(nic);
}

static void nic_removed(struct nic *nic)
{
    if (nic != current)
        return;
    log_warn_some("%s is gone; en0 waits for another NIC", nic->name);
    netif_set_link_down(&en0);
    current = NULL;
    net_tx_attach(NULL);
    net_rx_detach(nic);
    for (unsigned i = 0; ; i++) {
        struct nic *other = nic_get_index(i);
        if (!other)
            return;
        if (other != nic && !other->removed) {
            attach(other);
            return;
        }
    }
}

static void nic_link(struct nic *nic, bool up)
{
    if (nic != current)
        return;
    log_info_some("en0: link %s", up ? "up" : "down");
    if (up)
        netif_set_link_up(&en0);
    else
        netif_set_link_down(&en0);
}

static void nic_frames(struct nic *nic, struct nic_rx *frames, unsigned count)
{
    if (nic == current) {
        net_rx_input(&en0, nic, frames, count);
        net_tx_kick();
        return;
    }
    for (unsigned i = 0; i < count; i++)
        nic->ops->rx_release(nic, frames[i].token);
}

static void nic_room(struct nic *nic)
{
    if (nic == current)
        net_tx_ready();
}

int net_netif_init(const struct net_netif_config *config)
{
    static struct nic_user user = {nic_added, nic_removed, nic_link, nic_frames, nic_room};
    mtu_wanted = config->mtu;
    hostname = config->hostname;
    use_ipv6 = config->ipv6;
    if (!netif_add(&en0, NULL, NULL, NULL, NULL, setup, ethernet_input))
        return -E_NOMEM;
    netif_set_status_callback(&en0, config->status_changed);
    netif_set_link_callback(&en0, config->status_changed);     /* who waits for an address waits for the link, too */
    netif_set_default(&en0);
    if (use_ipv6)
        en0.ip6_autoconfig_enabled = 1;
    netif_set_up(&en0);
    nic_set_user(&user);
    return 0;
}
