/* SPDX-License-Identifier: BSD-2-Clause */
/* What the operator allows; config.c documents the keys. */
#pragma once
#include "apps/nbd/session.h"
#include "lwip/ip_addr.h"

/* Reads nbd.write= and nbd.allow=. Words that make no sense are named in the log. */
void nbd_config_read(void);
extern const struct nbd_policy nbd_policy;
bool nbd_client_allowed(const ip_addr_t *client);
const char *nbd_write_text(void);
const char *nbd_allow_text(void);
