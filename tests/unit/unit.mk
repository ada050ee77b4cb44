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
# What is about loaders and instructions of x86_64 alone, or wants clang's sanitizer.
UNIT_x86_64 := test_boot test_flip_balloon test_flip_ic test_flip_netvsc test_flip_storvsc test_flip_vmbus test_flip_wild test_ghcb_tdx test_paravisor
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

# Programs test_flip_NAME are of clang's making: calls at each load and store of the guest, at each store of the model and
# of the test, which are the host. See tests/unit/flip.h.
FLIP_FLAGS  := $(HFLAGS) -D__SANITIZE_ADDRESS__=1 -fsanitize-address-use-after-return=never
FLIP_WARN   := -Wno-gnu-variable-sized-type-not-at-end -Wno-unused-but-set-variable      # the tests are of gcc's mind
FLIP_OBJS   := $(patsubst %,$(H)/flip/%.o,$(basename $(HOSTED_SRC)) tests/unit/flip tests/unit/test)
FLIP_COMMA  := ,
FLIP_STORES := -fsanitize-coverage=func,inline-8bit-counters,pc-table,trace-stores
FLIP_COPIES := memcpy memmove memset
FLIP_GUEST  := $(foreach f,$(FLIP_COPIES),--redefine-sym __asan_$(f)=flip_guest_$(f)) --redefine-sym memcmp=flip_guest_memcmp
FLIP_HOST   := $(foreach f,$(FLIP_COPIES),--redefine-sym __asan_$(f)=flip_host_$(f)) \
               $(foreach n,1 2 4 8 16,--redefine-sym __sanitizer_cov_store$(n)=flip_host_store$(n))
define flip_object
	@mkdir -p $(@D)
	$(Q)clang $(FLIP_FLAGS) $(1) $(WARN) $(FLIP_WARN) $(DEFS_$(notdir $*)) -c $< -o $@
	$(if $(2),$(Q)objcopy $(2) $@)
endef
$(H)/flip/tests/unit/flip.o $(H)/flip/tests/unit/test.o: $(H)/flip/%.o: %.c
	$(call flip_object,,)
$(H)/flip/tests/fake_arch/%.o: tests/fake_arch/%.S
	@mkdir -p $(@D)
	$(Q)clang $(FLIP_FLAGS) -c $< -o $@
$(H)/flip/tests/fake_arch/%.o: tests/fake_arch/%.c
	$(call flip_object,,)
$(H)/flip/tests/%.o: tests/%.c
	$(call flip_object,$(FLIP_STORES),$(FLIP_HOST))
$(H)/flip/%.o: %.c
	$(call flip_object,$(FLIP_STORES)$(FLIP_COMMA)trace-loads,$(FLIP_GUEST))
$(H)/flip/librooms.a: $(FLIP_OBJS)
	@rm -f $@; ar rcs $@ $^
$(H)/test_flip_%: $(H)/flip/tests/unit/test_flip_%.o $(H)/flip/librooms.a
	$(Q)clang $(FLIP_FLAGS) -Wl,--wrap=shmem_alloc,--wrap=shmem_free,--wrap=hv_synic_init,--wrap=hv_synic_stop $^ -o $@
