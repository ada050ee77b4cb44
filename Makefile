# Candela: a unikernel for Hyper-V. `make help` lists what can be asked of this file.
ARCH ?= x86_64
APP  ?= nbd
O    := build/$(ARCH)
LWIP := build/lwip
PY   := python3
MAKEFLAGS += -r
Q    := $(if $(V),,@)
MACHINE := $(subst aarch64,arm64,$(shell uname -m))
CROSS := $(if $(filter-out $(MACHINE),$(ARCH)),$(subst arm64,aarch64,$(ARCH))-linux-gnu-)
H    := build/hosted$(if $(CROSS),-$(ARCH))
CC := $(CROSS)gcc
LD := $(CROSS)ld
OBJCOPY := $(CROSS)objcopy
NM := $(CROSS)nm
VERSION := 0.1.0$(addprefix -,$(shell git describe --always --dirty 2>/dev/null))
SUB = --no-print-directory -s $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 2))
export PYTHONDONTWRITEBYTECODE := 1
export DISK MEM CPUS ARGS

# ---- flags ----
WARN := -Wall -Wextra -Werror -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Wwrite-strings
ARCHFLAGS_x86_64 := -mno-red-zone -mgeneral-regs-only -mcmodel=kernel
# No -mstrict-align: C runs with the MMU on, in ordinary memory, where words may lie anywhere.
ARCHFLAGS_arm64  := -mgeneral-regs-only -mno-outline-atomics
# Messages to the host must not carry what the stack held before: compilers from GCC 15 on zero a union's unused bytes when told.
ZERO := $(shell $(CC) -fzero-init-padding-bits=unions -x c -E /dev/null >/dev/null 2>&1 && echo -fzero-init-padding-bits=unions)
FREE := -std=gnu11 -O2 -g -ffreestanding -nostdinc -isystem lib/include -isystem $(shell $(CC) -print-file-name=include 2>/dev/null) \
        -fno-pie -fno-stack-protector -fno-omit-frame-pointer -fno-asynchronous-unwind-tables -fno-common -ffunction-sections -fdata-sections $(ZERO)
KFLAGS := $(FREE) $(ARCHFLAGS_$(ARCH)) -I. -Iarch/$(ARCH) -MMD -MP
NETINC := -Irt/net -I$(LWIP)/src/include -I$(LWIP)/contrib/addons/tcp_isn
LDFLAGS := -nostdlib -static -z noexecstack -z max-page-size=4096 --gc-sections --fatal-warnings --no-undefined --build-id=none

# ---- what is built of what ----
src  = $(foreach d,$(1),$(wildcard $(d)/*.c $(d)/*.S))
objs = $(patsubst %,$(O)/obj/%.o,$(basename $(1)))
APPS := $(notdir $(patsubst %/,%,$(dir $(wildcard apps/*/main.c))))
CORE := lib mm arch arch/$(ARCH) boot/loader boot/$(ARCH)
LDSCRIPT := arch/$(ARCH)/linker.ld
KERNEL_OBJS := $(call objs,$(call src,$(CORE) hv vmbus drivers rt rt/net boot))
LAB_OBJS := $(call objs,$(call src,$(CORE) tests/host tests/lab tests/lab/$(ARCH)) boot/acpi_arm.c)
-include rt/net/lwip.mk
LWIP_OBJS := $(patsubst %.c,$(O)/obj/lwip/%.o,$(LWIP_SRC))

# ---- what can't work is said in one line, before anything is compiled ----
ifeq ($(wildcard arch/$(ARCH)),)
$(error ARCH=$(ARCH): there is no such architecture here; there are: $(patsubst arch/%/,%,$(wildcard arch/*/)))
endif
ifeq ($(filter $(APP),$(APPS)),)
$(error APP=$(APP): there is no apps/$(APP)/main.c; there are: $(APPS))
endif
# These goals fetch what they need; every other one compiles, and touches no network.
ifneq ($(filter-out help clean packages fetch run image iso check check-% soak bench bench-% fuzz,$(or $(MAKECMDGOALS),all)),)
ifeq ($(shell command -v $(CC) 2>/dev/null),)
$(error $(CC) is not here: run "make fetch" once)
endif
ifeq ($(or $(wildcard $(LWIP)/src/include/lwip/init.h),$(shell sh scripts/fetch-lwip.sh --cached 2>/dev/null && echo here)),)
$(error lwIP is not here: run "make fetch" once)
endif
endif

.PHONY: all always lab help run check check-house check-cbmc check-hosted check-lab check-linux check-kvm check-isolation check-malice soak image iso bench bench-native clean fetch packages hosted check-compile
.SECONDARY:
all: $(foreach a,$(APPS),$(O)/candela-$(a).elf $(O)/BOOT-$(a).EFI) lab $(O)/libcandela-hv.a
lab: $(O)/lab.elf

help:
	@echo 'make             build every application for ARCH=$(ARCH) and the lab; no network'
	@echo 'make run         boot APP=$(APP) in the lab  [DISK=a.raw,b.qcow2 MEM=256M CPUS=1 ARGS="nbd.write=disk0"]'
	@echo 'make check       everything CI runs, for both architectures: check-house -cbmc (proofs) -hosted -fuzz -lab -linux (stock Linux on the lab) -kvm (Candela on KVM); of these, isolated machines: check-isolation'
	@echo 'make check-malice  a host that lies: hundreds of seeds of each class of lies  [MALICE_SEEDS=300]'
	@echo 'make fuzz        fuzzes the guest against a lying host and others  [SECONDS=60 TARGET=nbd]; COVERAGE=1: lines reached'
	@echo 'make soak        host and guest on processors of their own for ten minutes: no signal is lost (ARCH=arm64: in the lab, too)'
	@echo 'make image       disk images of APP for Hyper-V and Azure: .img .vhdx .vhd'
	@echo 'make iso         GRUB rescue ISO of APP'
	@echo 'make bench       figures of Candela and of stock Linux; bench-native only the ones of this machine'
	@echo 'make fetch       packages and the lwIP source (run and check do it themselves)'
	@echo 'make clean       remove build/        (V=1 shows the compiler calls)'

# ---- objects ----
$(O)/obj/lwip/%.o: $(LWIP)/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(KFLAGS) $(NETINC) -w -c $< -o $@
$(O)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(KFLAGS) $(WARN) $(if $(filter rt/net/% apps/%,$<),$(NETINC)) $(DEFS_$(notdir $*)) -c $< -o $@
$(O)/obj/%.o: %.S
	@mkdir -p $(@D)
	$(Q)$(CC) $(KFLAGS) -D__ASSEMBLY__ -c $< -o $@
DEFS_machine := -DCANDELA_VERSION='"$(VERSION)"'
$(O)/obj/rt/machine.o $(H)/obj/rt/machine.o: build/version
build/version: always
	@mkdir -p $(@D); echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@
$(LWIP)/src/include/lwip/init.h:
	@sh scripts/fetch-lwip.sh --cached || { echo 'lwIP is not here yet: run "make fetch" once'; exit 1; }
$(LWIP)/%.c: $(LWIP)/src/include/lwip/init.h ;
$(call objs,$(call src,rt/net $(APPS:%=apps/%))): | $(LWIP)/src/include/lwip/init.h

# ---- images: two links, so that the symbol table is in the image; no relocation may remain ----
define link_image
	@echo '  link $@'; mkdir -p $(@D)
	$(Q)$(LD) $(LDFLAGS) -T $(LDSCRIPT) $(2) -o $@.1 $(1)
	$(Q)$(PY) scripts/symbols.py $(NM) $@.1 > $@.symbols.S
	$(Q)$(CC) $(KFLAGS) -c $@.symbols.S -o $@.symbols.o
	$(Q)$(LD) $(LDFLAGS) -T $(LDSCRIPT) $(2) -Map=$(@:.elf=.map) -o $@ $(1) $@.symbols.o
	@if readelf -rW $@ | grep -q 'Relocation section'; then echo '$@: relocations are left'; rm -f $@; exit 1; fi
	@rm -f $@.1; $(NM) -n $@ > $(@:.elf=.sym)
endef
.SECONDEXPANSION:
$(O)/candela-%.elf: $(KERNEL_OBJS) $(LWIP_OBJS) $$(call objs,$$(call src,apps/$$*)) $(LDSCRIPT) scripts/symbols.py
	$(call link_image,$(filter %.o,$^),)
$(O)/lab.elf: $(LAB_OBJS) $(LDSCRIPT) scripts/symbols.py
	$(call link_image,$(filter %.o,$^),$(LAB_LDFLAGS))
%.bin: %.elf
	$(Q)$(OBJCOPY) -O binary $< $@
-include boot/efi/efi.mk tests/linux64/linux64.mk tests/lab/lab.mk

# The rooms that speak with the host, for another kernel that keeps the contracts of arch/arch.h, mm/mm.h and rt/rt.h.
$(O)/libcandela-hv.a: $(call objs,$(call src,hv vmbus drivers))
	@rm -f $@; $(CROSS)ar rcs $@ $^
check-compile: $(call objs,$(call src,$(DIRS)))

-include tests/unit/unit.mk tests/fuzz/fuzz.mk tests/check.mk

# ---- commands ----
packages: ; @sh scripts/packages.sh check
fetch: packages ; @sh scripts/fetch-lwip.sh
run: fetch
	@$(MAKE) $(SUB) $(O)/candela-$(APP)$(if $(filter arm64,$(ARCH)),.bin,.elf) lab
	@$(PY) scripts/run.py --arch=$(ARCH) --app=$(APP) --disk="$$DISK" --mem="$$MEM" --cpus="$$CPUS" --args="$$ARGS"
image: fetch
	@$(MAKE) $(SUB) $(O)/BOOT-$(APP).EFI
	@sh scripts/image.sh $(ARCH) $(APP)
iso: fetch
	@$(MAKE) $(SUB) $(O)/candela-$(APP).elf
	@sh scripts/iso.sh $(ARCH) $(APP)
bench:                # standard output is the figures alone
	@$(MAKE) $(SUB) fetch >&2 && $(MAKE) $(SUB) all >&2
	@$(PY) tests/bench/bench.py --arch=$(ARCH)
bench-native:
	@$(MAKE) $(SUB) fetch >&2 && $(PY) tests/bench/bench.py --arch=$(ARCH) ring
clean:
	rm -rf build

-include $(shell find build $(O) -name '*.d' 2>/dev/null)
