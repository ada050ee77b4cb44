# SPDX-License-Identifier: BSD-2-Clause
# Hosted tests: the guest's own rooms, the fake machine and the model of the host in ordinary programs, with sanitizers.
# Included by the Makefile; tests/unit/test_NAME.c becomes build/hosted/test_NAME, with ARCH=arm64 on a machine that is none
# build/hosted-arm64/test_NAME, run by QEMU's user-mode emulation.
#
# There only the undefined behaviour sanitizer watches. That for addresses works too, but costs each process 420 MB and a
# second at its start, as up to version 7.2 QEMU keeps 24 bytes for each page that is reserved; what it finds in these
# sources it finds in the machine's own programs. For the same reason the fake machine is smaller there.
HOSTED_FOR := $(if $(CROSS),$(ARCH),$(MACHINE))
HOSTED_CC := $(CROSS)gcc
HOSTED_SAN := $(if $(CROSS),-O2 -fsanitize=undefined,-O1 -fsanitize=address -fsanitize=undefined)
HFLAGS := -std=gnu11 -g -fno-omit-frame-pointer $(HOSTED_SAN) -fno-sanitize-recover=all \
          -I. -Itests/fake_arch $(NETINC) -DCANDELA_HOSTED $(if $(CROSS),-DFAKE_LOW_ADDRESSES) -MMD -MP
HOSTED_SRC := $(filter-out lib/string.c drivers/console_%.c,$(call src,lib mm rt hv vmbus drivers)) \
              $(call src,tests/host tests/fake_arch tests/fake_arch/$(HOSTED_FOR)) $(filter-out %/main.c,$(call src,apps/nbd)) \
              arch/x86_64/ghcb.c arch/x86_64/tdx.c     # what they encode does not depend on the processor
HOSTED_OBJS := $(patsubst %,$(H)/obj/%.o,$(basename $(HOSTED_SRC)))
# What is about loaders and instructions of x86_64 alone.
UNIT_x86_64 := test_boot test_ghcb_tdx test_paravisor
UNIT := $(patsubst %,$(H)/%,$(filter-out $(if $(filter-out x86_64,$(HOSTED_FOR)),$(UNIT_x86_64)),\
                                         $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))))

$(H)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(HOSTED_CC) $(HFLAGS) $(WARN) $(DEFS_$(notdir $*)) -c $< -o $@
$(H)/obj/%.o: %.S
	@mkdir -p $(@D)
	$(Q)$(HOSTED_CC) $(HFLAGS) -c $< -o $@
$(H)/librooms.a: $(HOSTED_OBJS)
	@rm -f $@; $(CROSS)ar rcs $@ $^
$(H)/test_%: $(H)/obj/tests/unit/test_%.o $(H)/obj/tests/unit/test.o $(H)/librooms.a
	$(Q)$(HOSTED_CC) $(HFLAGS) $(if $(CROSS),-static) $^ -o $@
# Two threads, nothing but the rings: the thread sanitizer, which does not know fences, watches over the rest.
RING_ORDER := $(addprefix tests/unit/,test_ring_order.c test.c) vmbus/ring.c tests/host/host_ring.c
$(H)/test_ring_order: $(RING_ORDER) vmbus/ring.h tests/host/host_internal.h tests/unit/test.h
	@mkdir -p $(@D)
	$(Q)$(HOSTED_CC) $(filter-out -M% -fsanitize=%,$(HFLAGS)) $(WARN) -Wno-tsan $(if $(CROSS),-static,-fsanitize=thread) $(RING_ORDER) -pthread -o $@
hosted: $(UNIT)

