# SPDX-License-Identifier: BSD-2-Clause
# QEMU starts the flat image, by the header of Linux's boot protocol. Included by the Makefile.
lab: $(O)/lab.bin
