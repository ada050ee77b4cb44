/* SPDX-License-Identifier: BSD-2-Clause */
/* Functions that lwIP's hooks name (lwipopts.h). */
#pragma once
#include "lwip/ip_addr.h"

/* Initial sequence number of a connection, RFC 6528: isn.c. */
u32_t net_tcp_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);
