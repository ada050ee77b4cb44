/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Turns a test program's machines into isolated ones: a program that includes this first and then another test's file
 * runs all of that file's tests once more, with memory private, the shared side above a boundary, contents lost when a
 * page changes hands, and visibility calls that are interrupted and continued.
 */
#pragma once
#include "hv/hv_wire.h"
#include "tests/fake_arch/hv_host.h"

#pragma GCC diagnostic ignored "-Wunused-function"

static unsigned isolated_boundary_bit = 38;

static void isolated_config_default(struct host_config *cfg)
{
    host_config_default(cfg);
    cfg->isolation_type = HV_ISOLATION_VBS;
    cfg->boundary_bit = (uint8_t)isolated_boundary_bit;
    cfg->ram_pages = 4ull << (30 - PAGE_SHIFT);
    cfg->scramble_on_change = true;
    cfg->rep_batch = 100;
#ifdef ISOLATED_SETTINGS
    config_parse(ISOLATED_SETTINGS);
#endif
}
#define host_config_default isolated_config_default
