/* SPDX-License-Identifier: BSD-2-Clause */
/* The status page by HTTP: http.c serves, status.c and metrics.c write the pages. */
#pragma once
#include "apps/nbd/text.h"

int http_server_start(uint16_t port);           /* 0, or a negative error after a log line */
void status_write(struct text *t);              /* "/" */
void metrics_write(struct text *t);             /* "/metrics", Prometheus text format 0.0.4 */
