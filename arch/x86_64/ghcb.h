/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Speaking with the host of an SNP machine through the GHCB. What is put into the page and the register, and what is
 * taken out of them, are functions of memory alone; the three instructions behind them are given in a table, so that
 * ordinary programs can play the other side.
 *
 * The host is not trusted: it owns the page while we are away. Each of its answers is read once, from where it can no
 * longer be changed to something that was not checked.
 */
#pragma once
#include "arch/arch.h"
#include "arch/x86_64/ghcb_wire.h"

struct ghcb_machine {
    uint64_t (*read_msr)(void);                       /* HV_X64_MSR_GHCB */
    void (*write_msr)(uint64_t value);
    void (*exit)(void);                               /* VMGEXIT */
    /* PVALIDATE of one 4 KiB page: PVALIDATE_*, *changed: it was not in that state before. */
    unsigned (*validate)(const void *page, bool valid, bool *changed);
};

struct ghcb {
    const struct ghcb_machine *machine;
    void *page;                                       /* mapped shared */
    uint64_t msr;                                     /* the page's address, as the register holds it */
    uint16_t version;                                 /* agreed on by ghcb_negotiate */
};

/* ---- the register ---- */
uint64_t ghcb_msr_page_state(paddr_t page, enum ghcb_page_state state);
/* True, and the version to use, when the answer to GHCB_MSR_SEV_INFO_REQUEST has one that we know. */
bool ghcb_msr_version(uint64_t answer, uint16_t *version);

/* ---- the page ---- */
void ghcb_put_msr(struct ghcb_page *page, uint16_t version, uint32_t msr, bool write, uint64_t value);
bool ghcb_take_msr(const struct ghcb_page *page, uint64_t *value);
void ghcb_put_vmmcall(struct ghcb_page *page, uint16_t version, uint64_t control, uint64_t rdx, uint64_t r8);
uint64_t ghcb_take_vmmcall(const struct ghcb_page *page);
void ghcb_put_hypercall(struct ghcb_hypercall_page *page, uint16_t version, uint64_t control, const void *input,
                        size_t bytes, gpa_t output);
uint64_t ghcb_take_hypercall(struct ghcb_hypercall_page *page);

/* ---- the exchange; each with interrupts off, on the page of this CPU ---- */
/* Once, before all else, with machine, page and msr set. The register holds the page's address again afterwards. */
bool ghcb_negotiate(struct ghcb *g);
bool ghcb_msr_read(const struct ghcb *g, uint32_t msr, uint64_t *value);
bool ghcb_msr_write(const struct ghcb *g, uint32_t msr, uint64_t value);
/*
 * A hypercall with its input copied into the page; output 0: none. Returns the hypercall's result word. A fast call's
 * two registers are an input of 16 bytes. Nothing is continued here: HV_STATUS_TIMEOUT means "call again from the
 * repetition that was reached", which is what hv_call_rep does.
 */
uint64_t ghcb_hypercall(const struct ghcb *g, uint64_t control, const void *input, size_t bytes, gpa_t output);
/* The same as instruction, for machines without a paravisor: arguments are addresses of shared pages, or the input. */
uint64_t ghcb_vmmcall(const struct ghcb *g, uint64_t control, uint64_t rdx, uint64_t r8);
/*
 * One page changes hands where no paravisor does it; mapped is its private side. True when all of it was done. When
 * not, the page is in a state that only the host knows and must not be used again by anyone.
 */
bool ghcb_page_share(const struct ghcb *g, paddr_t page, const void *mapped);
bool ghcb_page_unshare(const struct ghcb *g, paddr_t page, const void *mapped);
