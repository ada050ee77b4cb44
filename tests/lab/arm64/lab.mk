# SPDX-License-Identifier: BSD-2-Clause
# QEMU starts the flat image, by the header of Linux's boot protocol. Included by the Makefile.
lab: $(O)/lab.bin
# badguest.elf: a guest that breaks rules, to see that the lab notices.
BADGUEST := $(call objs,$(call src,tests/lab/badguest tests/lab/$(ARCH)/badguest))
$(O)/badguest.elf: $(KERNEL_OBJS) $(LWIP_OBJS) $(BADGUEST) $(LDSCRIPT) scripts/symbols.py
	$(call link_image,$(filter %.o,$^),)
all: $(O)/badguest.elf $(O)/badguest.bin
