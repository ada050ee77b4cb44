/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's memory as the model of the host may see it: a mapping of its own in which every page is closed but those
 * that the model has mapped now. An access to any other page is a fault at the very instruction: this is how the
 * hosted tests hold the model to its promise (tests/host/host.h).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

void guarded_reset(int file, uint64_t bytes);    /* everything is closed; the file holds the memory */
void guarded_relax(void);                        /* from now on only counts: millions of calls take their time */
void guarded_off(void);                          /* until the next reset all is open and nothing is counted */
void *guarded_open(uint64_t at, bool write);     /* the page of that offset, once more */
void guarded_close(uint64_t at, bool write);
bool guarded_is_open(uint64_t at);
uint64_t guarded_pages(void);                    /* open now */
uint64_t guarded_bytes(void);                    /* of the view; 0: there is none */
