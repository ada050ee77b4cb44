/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the files of hv/: what kind of isolated machine this is, and the hypercalls by which pages change hands.
 * Callers are shmem.c (everything that is shared for long) and nobody else; see isolation.c for the rules.
 */
#pragma once
#include "hv/hv_internal.h"

/* Looks at what discovery found. False: isolated in a way that we cannot live in; one line was logged. */
bool hv_isolation_detect(void);
/* Once hypercalls work: says what was found. */
void hv_isolation_announce(void);
/* Shares what posting a message takes on some machines: 0 or -E_*. */
int hv_isolation_start(void);
void hv_isolation_stop(void);

/* Added to a page's physical address to reach it while the host sees it. 0: the same address serves. */
uint64_t hv_shared_boundary(void);

/*
 * Makes pages visible to the host, all or none: 0 or -E_REFUSED. Private content must have been cleared before.
 * Of a refused list, and of one that is taken back, a page may stay with the host: its entry becomes PADDR_NONE, and
 * *lost (unshare: the result) counts them. Such a page must never be used again.
 */
int hv_pages_share(paddr_t *pages, size_t n, size_t *lost);
size_t hv_pages_unshare(paddr_t *pages, size_t n);
