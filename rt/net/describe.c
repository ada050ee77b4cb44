/* SPDX-License-Identifier: BSD-2-Clause */
/* What lwIP knows of en0, in the runtime's own terms: rt/services.h says for whom. */
#include <string.h>
#include "rt/net/netif.h"
#include "rt/net/port.h"
#include "rt/services.h"
#include "lwip/dhcp.h"
#include "lwip/dns.h"
#include "lwip/netif.h"

#define IPV6_PREFIX_BITS 64            /* of every address that router advertisement or the link makes */

static void add(struct network_address *list, unsigned *count, unsigned room, const ip_addr_t *address, uint8_t prefix)
{
    if (*count == room || ip_addr_isany(address))
        return;
    struct network_address *a = &list[(*count)++];
    a->v6 = IP_IS_V6(address);
    memcpy(a->bytes, a->v6 ? (const void *)ip_2_ip6(address)->addr : (const void *)&ip_2_ip4(address)->addr,
           a->v6 ? 16 : 4);
    a->prefix_bits = prefix;
    ipaddr_ntoa_r(address, a->text, sizeof(a->text));
}

void net_describe(struct machine_network *network)
{
    const struct netif *netif = net_netif();
    uint32_t mask = lwip_ntohl(netif_ip4_netmask(netif)->addr);
    memcpy(network->mac, netif->hwaddr, sizeof(network->mac));
    network->hostname = netif_get_hostname(netif);
    network->by_dhcp = dhcp_supplied_address(netif) != 0;
    add(network->addresses, &network->address_count, NETWORK_ADDRESSES, netif_ip_addr4(netif),
        (uint8_t)(mask ? 32 - __builtin_ctz(mask) : 0));
    for (unsigned i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++)
        if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)))
            add(network->addresses, &network->address_count, NETWORK_ADDRESSES, netif_ip_addr6(netif, i),
                IPV6_PREFIX_BITS);
    add(network->gateways, &network->gateway_count, ARRAY_SIZE(network->gateways), netif_ip_gw4(netif), 0);
    for (u8_t i = 0; i < DNS_MAX_SERVERS; i++)
        add(network->dns, &network->dns_count, NETWORK_DNS, dns_getserver(i), 0);
}

_Static_assert(NETWORK_ADDRESSES == 1 + LWIP_IPV6_NUM_ADDRESSES && NETWORK_DNS == DNS_MAX_SERVERS, "all are described");
