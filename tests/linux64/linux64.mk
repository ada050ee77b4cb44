# SPDX-License-Identifier: BSD-2-Clause
# The test loader for the Linux 64-bit protocol: build/x86_64/linux64.elf
ifeq ($(ARCH),x86_64)
LINUX64_OBJS := $(O)/obj/tests/linux64/start.o $(O)/obj/tests/linux64/loader.o
$(LINUX64_OBJS): KFLAGS := $(filter-out -mcmodel=kernel,$(KFLAGS)) -mcmodel=small
$(O)/linux64.elf: $(LINUX64_OBJS) tests/linux64/linux64.ld
	$(Q)$(LD) $(LDFLAGS) -T tests/linux64/linux64.ld -Map=$(@:.elf=.map) -o $@ $(LINUX64_OBJS)
	@$(NM) -n $@ > $(@:.elf=.sym)
all: $(O)/linux64.elf
endif
