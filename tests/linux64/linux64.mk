# SPDX-License-Identifier: BSD-2-Clause
# The test loader for the Linux 64-bit protocol: build/x86_64/linux64.elf
ifeq ($(ARCH),x86_64)
LINUX64_OBJS := $(O)/obj/tests/linux64/start.o $(O)/obj/tests/linux64/loader.o
$(LINUX64_OBJS): KFLAGS := $(filter-out -mcmodel=kernel,$(KFLAGS)) -mcmodel=small
$(O)/linux64.elf: $(LINUX64_OBJS) tests/linux64/linux64.ld
	$(LD) $(LDFLAGS) -T tests/linux64/linux64.ld -o $@ $(LINUX64_OBJS)
all: $(O)/linux64.elf
endif
