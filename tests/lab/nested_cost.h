/* SPDX-License-Identifier: BSD-2-Clause */
/* The command "nested-cost MIB": what second-stage blocks are worth. False: too much, or no memory for the tables. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
bool nested_cost(uint64_t mib);
