/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the files of this folder: the ways of processor.c, for the list in machine.c. */
#pragma once
void call_emulator(void);
void call_psci(void);
void stop_last(void);
void run_thumb(void);
void miss_devices(void);
void watch_lab(void);
void stream(void);
