# SPDX-License-Identifier: BSD-2-Clause
# Hosted tests: the guest's own rooms, the fake machine and the model of the host in ordinary programs, with sanitizers.
# Included by the Makefile; tests/unit/test_NAME.c becomes build/hosted/test_NAME.
HFLAGS := -std=gnu11 -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
          -I. -Itests/fake_arch $(NETINC) -DCANDELA_HOSTED -MMD -MP
HOSTED_SRC := $(filter-out lib/string.c drivers/console_%.c,$(call src,lib mm rt hv vmbus drivers)) \
              $(call src,tests/host tests/fake_arch) $(filter-out %/main.c,$(call src,apps/nbd)) \
              arch/x86_64/ghcb.c arch/x86_64/tdx.c     # what they encode does not depend on the processor
HOSTED_OBJS := $(patsubst %,$(H)/obj/%.o,$(basename $(HOSTED_SRC)))
UNIT := $(patsubst tests/unit/%.c,$(H)/%,$(wildcard tests/unit/test_*.c))

$(H)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)gcc $(HFLAGS) $(WARN) $(DEFS_$(notdir $*)) -c $< -o $@
$(H)/obj/%.o: %.S
	@mkdir -p $(@D)
	$(Q)gcc $(HFLAGS) -c $< -o $@
$(H)/librooms.a: $(HOSTED_OBJS)
	@rm -f $@; ar rcs $@ $^
$(H)/test_%: $(H)/obj/tests/unit/test_%.o $(H)/obj/tests/unit/test.o $(H)/librooms.a
	$(Q)gcc $(HFLAGS) $^ -o $@
hosted: $(UNIT)

