# SPDX-License-Identifier: BSD-2-Clause
# EFI applications without a second toolchain: ELF with an own PE header, flattened. Included by the Makefile.
#   $(O)/BOOT-<app>.EFI   the UEFI entry with that application's kernel inside
# A further EFI application (the lab's) links its own objects with $(EFI_BASE) by $(call efi_link,objects).
EFIFLAGS_x86_64 := -mno-red-zone -mgeneral-regs-only
EFIFLAGS_arm64  := -mgeneral-regs-only -mstrict-align -mno-outline-atomics
PE_MACHINE_x86_64 := 0x8664
PE_MACHINE_arm64 := 0xaa64
HEADER_OFFSET_x86_64 := 0
HEADER_OFFSET_arm64 := 64
EFIFLAGS := $(filter-out -fno-pie -fdata-sections,$(FREE)) -fpie -fvisibility=hidden -fshort-wchar \
            -fno-jump-tables -fno-tree-switch-conversion $(EFIFLAGS_$(ARCH)) -DPE_MACHINE=$(PE_MACHINE_$(ARCH)) -DHEADER_OFFSET=$(HEADER_OFFSET_$(ARCH)) -I. -Iarch/$(ARCH) -MMD -MP
efi_objs = $(patsubst %,$(O)/efi/%.o,$(basename $(1)))
# Header, strings and printing: what any EFI application needs.
EFI_BASE := $(call efi_objs,boot/efi/header.S lib/string.c lib/printf.c arch/$(ARCH)/memory.S)
EFI_BOOT := $(call efi_objs,boot/efi/handoff_$(ARCH).S $(filter-out %_x86_64.c %_arm64.c,$(wildcard boot/efi/*.c)) \
                       boot/efi/isolation_$(ARCH).c)

define efi_link
	@echo '  link $@'
	$(Q)$(LD) -nostdlib -pie --no-dynamic-linker -z noexecstack -z norelro -z max-page-size=4096 --hash-style=sysv --gc-sections \
	      --fatal-warnings --no-undefined --build-id=none -T boot/efi/image.lds -Map=$(@:.EFI=.efi.map) -o $(@:.EFI=.efi.elf) $(1)
	$(Q)$(OBJCOPY) -O binary -R .dynamic $(@:.EFI=.efi.elf) $@
	@$(NM) -n $(@:.EFI=.efi.elf) > $(@:.EFI=.efi.sym)
endef

$(O)/efi/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(EFIFLAGS) $(WARN) -c $< -o $@
$(O)/efi/%.o: %.S
	@mkdir -p $(@D)
	$(Q)$(CC) $(EFIFLAGS) -D__ASSEMBLY__ -c $< -o $@
$(O)/efi/payload-%.o: boot/efi/payload.S $(O)/candela-%.bin
	@mkdir -p $(@D)
	$(Q)$(CC) $(EFIFLAGS) -D__ASSEMBLY__ '-DKERNEL_BIN="$(O)/candela-$*.bin"' -c $< -o $@
$(O)/BOOT-%.EFI: $(EFI_BASE) $(EFI_BOOT) $(O)/efi/payload-%.o boot/efi/image.lds
	$(call efi_link,$(filter %.o,$^))
