# SPDX-License-Identifier: BSD-2-Clause
# The lwIP sources that are linked, relative to the unpacked source ($(LWIP)). api/tcpip.c is not among them: its thread has
# no work here, and rt/net/core_calls.c holds the few functions that others call.
LWIP_SRC := \
    src/core/init.c src/core/def.c src/core/dns.c src/core/inet_chksum.c src/core/ip.c src/core/mem.c src/core/memp.c \
    src/core/netif.c src/core/pbuf.c src/core/stats.c src/core/sys.c src/core/tcp.c src/core/tcp_in.c \
    src/core/tcp_out.c src/core/timeouts.c src/core/udp.c \
    src/core/ipv4/dhcp.c src/core/ipv4/etharp.c src/core/ipv4/icmp.c src/core/ipv4/ip4.c src/core/ipv4/ip4_addr.c \
    src/core/ipv4/ip4_frag.c \
    src/core/ipv6/ethip6.c src/core/ipv6/icmp6.c src/core/ipv6/inet6.c src/core/ipv6/ip6.c src/core/ipv6/ip6_addr.c \
    src/core/ipv6/ip6_frag.c src/core/ipv6/mld6.c src/core/ipv6/nd6.c \
    src/api/api_lib.c src/api/api_msg.c src/api/err.c src/api/netbuf.c src/api/netdb.c src/api/sockets.c \
    src/netif/ethernet.c src/apps/lwiperf/lwiperf.c

# The same for hosted tests (test_net): the port and lwIP join the archive of rooms. lwIP takes the address of a null
# pointer's first member (ip_2_ip6), which is null again.
.DEFAULT_GOAL := all
HOSTED_NET_OBJS := $(patsubst %.c,$(H)/obj/%.o,$(wildcard rt/net/*.c)) $(patsubst %.c,$(H)/obj/lwip/%.o,$(LWIP_SRC))
$(H)/obj/lwip/%.o: $(LWIP)/%.c rt/net/lwip.mk tests/unit/unit.mk
	@mkdir -p $(@D)
	$(Q)$(HOSTED_CC) $(HFLAGS) -fno-sanitize=null -w -c $< -o $@
$(H)/librooms.a: $(HOSTED_NET_OBJS)
