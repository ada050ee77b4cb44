# SPDX-License-Identifier: BSD-2-Clause
# LAB.EFI: the lab as an EFI application that slips below the running firmware. Included by the Makefile, behind efi.mk.
EFI_LAB := $(call efi_objs,boot/efi/handoff_$(ARCH).S boot/efi/say.c boot/efi/allocate.c \
                       $(wildcard tests/lab/efi/*.c tests/lab/$(ARCH)/efi/*.c tests/lab/$(ARCH)/efi/*.S))
$(O)/efi/lab-payload.o: boot/efi/payload.S $(O)/lab.bin
	@mkdir -p $(@D)
	$(Q)$(CC) $(EFIFLAGS) -D__ASSEMBLY__ '-DKERNEL_BIN="$(O)/lab.bin"' -c $< -o $@
$(O)/LAB.EFI: $(EFI_BASE) $(EFI_LAB) $(O)/efi/lab-payload.o boot/efi/image.lds
	$(call efi_link,$(filter %.o,$^))
# The flat image is what LAB.EFI carries, and on arm64 what QEMU starts.
lab: $(O)/lab.bin $(O)/LAB.EFI
# badguest: a guest that breaks rules, to see that the lab notices.
BADGUEST := $(call objs,$(call src,tests/lab/badguest tests/lab/$(ARCH)/badguest))
$(O)/badguest.elf: $(KERNEL_OBJS) $(LWIP_OBJS) $(BADGUEST) $(LDSCRIPT) scripts/symbols.py
	$(call link_image,$(filter %.o,$^),)
all: $(O)/badguest.elf $(if $(filter arm64,$(ARCH)),$(O)/badguest.bin)
