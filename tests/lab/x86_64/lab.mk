# LAB.EFI: the lab as an EFI application that slips below the running firmware. Included by the Makefile, behind efi.mk.
EFI_LAB := $(call efi_objs,boot/efi/handoff_$(ARCH).S boot/efi/say.c $(wildcard tests/lab/x86_64/efi/*.c tests/lab/x86_64/efi/*.S))
$(O)/efi/lab-payload.o: boot/efi/payload.S $(O)/lab.bin
	@mkdir -p $(@D)
	$(Q)$(CC) $(EFIFLAGS) -D__ASSEMBLY__ '-DKERNEL_BIN="$(O)/lab.bin"' -c $< -o $@
$(O)/LAB.EFI: $(EFI_BASE) $(EFI_LAB) $(O)/efi/lab-payload.o boot/efi/image.lds
	$(call efi_link,$(filter %.o,$^))
