/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bring-up and configuration of the network stack, and what others may ask about it. net.h documents the keys.
 *
 * Addresses: DHCP unless net.address= names one; IPv6 by router advertisement beside it. Ready means: an IPv4 address
 * or, where there is none, a preferred global IPv6 address.
 */
#define LOG_ROOM "net"
#include "rt/net/net.h"
#include <string.h>
#include "rt/candela.h"
#include "rt/net/netif.h"
#include "rt/net/port.h"
#include "rt/services.h"
#include "lwip/dhcp.h"
#include "lwip/dns.h"
#include "lwip/init.h"
#include "lwip/netif.h"
#include "lwip/tcpip.h"

/* Descriptors; a machine with less memory than this many bytes gets a quarter of them. */
#define FRAMES           1024
#define SMALL_RAM_BYTES  (64ull << 20)

static bool up, by_dhcp;
static struct wait_queue ready_waiters = WAIT_QUEUE_INIT(ready_waiters);
static char address_text[64];

struct static_address { ip4_addr_t address, mask, gateway; };

/* ---- configuration ---- */
/* "10.0.0.5/24". */
static bool parse_prefix(const char *text, ip4_addr_t *address, ip4_addr_t *mask)
{
    char buf[20];
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : 0;
    unsigned bits = 0;
    if (!slash || n >= sizeof(buf) || !slash[1] || strlen(slash + 1) > 2)
        return false;
    for (const char *p = slash + 1; *p; p++) {
        if (*p < '0' || *p > '9')
            return false;
        bits = bits * 10 + (unsigned)(*p - '0');
    }
    memcpy(buf, text, n);
    buf[n] = 0;
    if (bits < 1 || bits > 32 || !ip4addr_aton(buf, address))
        return false;
    mask->addr = lwip_htonl((u32_t)(0xffffffffull << (32 - bits)));
    return true;
}

/* False: DHCP. A word that makes no sense is reported, and DHCP is what is left. */
static bool read_static_address(struct static_address *s)
{
    const char *text = config_string("net.address", "dhcp");
    const char *gateway = config_string("net.gateway", "");
    memset(s, 0, sizeof(*s));
    if (strcmp(text, "dhcp") == 0) {
        if (*gateway)
            log_warn("net.gateway= has no effect without net.address=; DHCP names the gateway");
        return false;
    }
    if (strcmp(text, "none") == 0)
        return true;
    if (!parse_prefix(text, &s->address, &s->mask)) {
        log_warn("net.address=%s is not like 10.0.0.5/24; asking DHCP", text);
        return false;
    }
    if (*gateway && !ip4addr_aton(gateway, &s->gateway))
        log_warn("net.gateway=%s is not an address; going without", gateway);
    return true;
}

static void read_dns(void)
{
    const char *text = config_string("net.dns", "");
    for (u8_t n = 0; *text && n < DNS_MAX_SERVERS; n++) {
        char buf[48];
        const char *comma = strchr(text, ',');
        size_t length = comma ? (size_t)(comma - text) : strlen(text);
        ip_addr_t server;
        memcpy(buf, text, MIN(length, sizeof(buf) - 1));
        buf[MIN(length, sizeof(buf) - 1)] = 0;
        if (ipaddr_aton(buf, &server))
            dns_setserver(n, &server);
        else
            log_warn("net.dns=: %s is not an address", buf);
        text += length + (comma != NULL);
    }
}

/* ---- state ---- */
static unsigned prefix_bits(const ip4_addr_t *mask)
{
    u32_t m = lwip_ntohl(mask->addr);
    return m ? 32 - (unsigned)__builtin_ctz(m) : 0;
}

static bool global_ip6(const struct netif *netif, unsigned i)
{
    return ip6_addr_ispreferred(netif_ip6_addr_state(netif, i)) && ip6_addr_isglobal(netif_ip6_addr(netif, i));
}

bool net_is_up(void) { return up; }

static bool has_address(void)
{
    const struct netif *netif = net_netif();
    if (!netif_is_link_up(netif))
        return false;
    if (!ip4_addr_isany_val(*netif_ip4_addr(netif)))
        return true;
    for (unsigned i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++)
        if (global_ip6(netif, i))
            return true;
    return false;
}

const char *net_address_text(void)
{
    struct netif *netif = net_netif();
    char text[IP6ADDR_STRLEN_MAX];
    address_text[0] = 0;
    if (!up)
        return address_text;
    if (!ip4_addr_isany_val(*netif_ip4_addr(netif))) {
        ip4addr_ntoa_r(netif_ip4_addr(netif), text, sizeof(text));
        ksnprintf(address_text, sizeof(address_text), "%s/%u", text, prefix_bits(netif_ip4_netmask(netif)));
        return address_text;
    }
    for (unsigned i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++)
        if (global_ip6(netif, i)) {
            ip6addr_ntoa_r(netif_ip6_addr(netif, i), text, sizeof(text));
            ksnprintf(address_text, sizeof(address_text), "%s/64", text);
            break;
        }
    return address_text;
}

static void status_changed(struct netif *netif)
{
    static u32_t said;
    u32_t now = netif_ip4_addr(netif)->addr;
    if (now != said && now) {
        char gateway[IP4ADDR_STRLEN_MAX];
        ip4addr_ntoa_r(netif_ip4_gw(netif), gateway, sizeof(gateway));
        log_info("en0: %s, gateway %s (%s)", net_address_text(), gateway, by_dhcp ? "DHCP" : "configured");
    } else if (now != said) {
        log_warn("en0: the address is gone");
    }
    said = now;
    if (has_address())
        wait_queue_wake_all(&ready_waiters);
}

bool net_wait_ready(uint64_t limit_us)
{
    return up && WAIT_UNTIL(&ready_waiters, has_address(), limit_us, "an address for en0");
}

void net_get_info(struct net_info *info)
{
    memset(info, 0, sizeof(*info));
    if (!up)
        return;
    const struct netif *netif = net_netif();
    const struct nic *nic = net_current_nic();
    if (nic) {
        info->nic_name = nic->name;
        info->link_speed_mbps = nic->link_speed_mbps;
    }
    memcpy(info->mac, netif->hwaddr, sizeof(info->mac));
    info->mtu = netif->mtu;
    info->link_up = netif_is_link_up(netif);
    info->by_dhcp = by_dhcp;
    if (!ip4_addr_isany_val(*netif_ip4_addr(netif))) {
        char text[IP4ADDR_STRLEN_MAX];
        ip4addr_ntoa_r(netif_ip4_addr(netif), text, sizeof(text));
        ksnprintf(info->address4, sizeof(info->address4), "%s/%u", text, prefix_bits(netif_ip4_netmask(netif)));
    }
    if (!ip4_addr_isany_val(*netif_ip4_gw(netif)))
        ip4addr_ntoa_r(netif_ip4_gw(netif), info->gateway, sizeof(info->gateway));
    for (u8_t i = 0; i < DNS_MAX_SERVERS; i++) {
        const ip_addr_t *server = dns_getserver(i);
        size_t used = strlen(info->dns);
        if (!ip_addr_isany(server))
            ksnprintf(info->dns + used, sizeof(info->dns) - used, "%s%s", used ? " " : "", ipaddr_ntoa(server));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(info->address6); i++)
        if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)))
            ip6addr_ntoa_r(netif_ip6_addr(netif, i), info->address6[i], sizeof(info->address6[i]));
}

_Static_assert(LWIP_IPV6_NUM_ADDRESSES == ARRAY_SIZE(((struct net_info *)0)->address6), "all addresses are shown");

/* ---- bring-up ---- */
int net_init(void)
{
    struct mm_stats memory;
    struct net_netif_config config = {
        .mtu = (uint16_t)config_number("net.mtu", 0, 0, 9000),
        .hostname = config_string("net.hostname", "candela"),
        .ipv6 = config_bool("net.ipv6", true),
        .status_changed = status_changed,
    };
    struct static_address fixed;
    KASSERT(!up);
    by_dhcp = !read_static_address(&fixed);
    if (config.mtu && config.mtu < 1280) {
        log_warn("net.mtu=%u is below the 1280 that IPv6 needs; using the NIC's", config.mtu);
        config.mtu = 0;
    }
    if (!net_random_init())
        return -E_NOTSUP;
    mm_get_stats(&memory);
    unsigned frames = memory.ram_pages * PAGE_BYTES < SMALL_RAM_BYTES ? FRAMES / 4 : FRAMES;
    int error = net_rx_init(frames);
    if (!error)
        error = net_tx_init(frames);
    if (error) {
        log_err("no memory for the network's %u frame descriptors; the network stays down", frames);
        return error;
    }
    lwip_init();
    net_timers_start();
    net_metrics_register();
    read_dns();
    up = true;
    error = net_netif_init(&config);
    if (error) {
        up = false;
        log_err("the interface could not be made: %s", error_name(error));
        return error;
    }
    machine_set_network(net_describe);
    if (by_dhcp) {
        if (dhcp_start(net_netif()) != ERR_OK)
            log_err("DHCP could not start: out of memory");
    } else if (fixed.address.addr) {
        netif_set_addr(net_netif(), &fixed.address, &fixed.mask, &fixed.gateway);
    }
    return 0;
}
