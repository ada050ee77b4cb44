/* SPDX-License-Identifier: BSD-2-Clause */
/* Failures on demand: selftest=assert|null|write-constant|undefined|execute-data|boot-stack|task-stack. */
#pragma once

void selftest_run(const char *name);
