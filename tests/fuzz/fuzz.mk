# SPDX-License-Identifier: BSD-2-Clause
# Fuzzers: the guest's rooms, the fake machine and the model, built by clang with libFuzzer and sanitizers. Included by
# the Makefile; tests/fuzz/fuzz_NAME.c becomes build/fuzz/NAME, and with COVERAGE=1 build/fuzz-coverage/NAME.
COMMA   := ,
FZ      := build/fuzz$(if $(COVERAGE),-coverage)
FCLANG  := clang
FFLAGS  := -std=gnu11 -g -O2 -fno-omit-frame-pointer -I. -Itests/fake_arch $(NETINC) -DCANDELA_HOSTED -MMD -MP \
           -DLOG_KEPT_BYTES=16384u
FSAN    := -fsanitize=address,undefined -fno-sanitize-recover=all -fsanitize-address-use-after-return=never \
           -D__SANITIZE_ADDRESS__=1
# What libFuzzer is guided by: the rooms that read what others wrote; by comparisons, too, where an execution is not a
# whole machine's. Other rooms are only watched for errors; the model and the fake machine are not sanitized.
FGUIDED := hv/% vmbus/% drivers/% rt/keys.c rt/wall.c rt/shutdown.c mm/given.c
FPARSED := apps/% rt/config.c mm/memory_map.c $(shell grep -l '^.include "[^t].*[.]c"' tests/fuzz/*.c)
FPROF   := $(if $(COVERAGE),-fprofile-instr-generate -fcoverage-mapping)
FGUIDE   = $(if $(filter $(FGUIDED) $(FPARSED),$(1)),-fsanitize-coverage=inline-8bit-counters$(COMMA)pc-table$(if \
           $(filter $(FPARSED),$(1)),$(COMMA)trace-cmp) $(FPROF))
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_OBJS := $(patsubst %,$(FZ)/obj/%.o,$(basename $(subst fake_arch/$(HOSTED_FOR)/,fake_arch/$(MACHINE)/,$(HOSTED_SRC))))
FUZZ_CORE := $(FZ)/obj/tests/fuzz/snapshot.o $(FZ)/obj/tests/fuzz/watch.o $(FZ)/obj/tests/fuzz/fuzz.o
FWRAP   := $(patsubst %,-Wl$(COMMA)--wrap=%,__asan_poison_memory_region __asan_unpoison_memory_region \
           vring_publish_write vsynic_post_message)

# Variables that are set back between executions lie in sections of their own: see snapshot.c.
define fuzz_object
	@mkdir -p $(@D)
	$(Q)$(FCLANG) $(FFLAGS) $(1) $(WARN) $(DEFS_$(notdir $*)) -c $< -o $@
	$(Q)objcopy --rename-section .data=guest_data --rename-section .bss=guest_bss $@
endef
$(FZ)/obj/tests/fuzz/snapshot.o $(FZ)/obj/tests/fuzz/watch.o: $(FZ)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(FCLANG) $(FFLAGS) -fno-builtin -O3 $(WARN) -D__SANITIZE_ADDRESS__=1 -c $< -o $@
$(FZ)/obj/tests/fuzz/fuzz.o: tests/fuzz/fuzz.c
	@mkdir -p $(@D)
	$(Q)$(FCLANG) $(FFLAGS) $(WARN) -D__SANITIZE_ADDRESS__=1 -c $< -o $@
$(FZ)/obj/tests/%.o: tests/%.c
	$(call fuzz_object,-D__SANITIZE_ADDRESS__=1)
$(FZ)/obj/tests/%.o: tests/%.S
	@mkdir -p $(@D)
	$(Q)$(FCLANG) $(FFLAGS) -c $< -o $@
$(FZ)/obj/tests/fuzz/fuzz_%.o: tests/fuzz/fuzz_%.c
	$(call fuzz_object,$(FSAN) $(call FGUIDE,$<))
$(FZ)/obj/%.o: %.c
	$(call fuzz_object,$(FSAN) $(call FGUIDE,$<))
$(FZ)/librooms.a: $(FUZZ_OBJS)
	@rm -f $@; ar rcs $@ $^
$(FZ)/%: $(FZ)/obj/tests/fuzz/fuzz_%.o $(FUZZ_CORE) $(FZ)/obj/tests/fuzz/lies.o $(FZ)/obj/tests/fuzz/machine.o $(FZ)/librooms.a
	$(Q)$(FCLANG) -fsanitize=fuzzer,address,undefined $(if $(COVERAGE),-fprofile-instr-generate) $(FWRAP) $^ -o $@
fuzzers: $(FUZZERS:%=$(FZ)/%)

.PHONY: fuzz fuzzers check-fuzz
SECONDS ?= 60
fuzz: fetch
	@$(MAKE) $(SUB) fuzzers
	@$(PY) tests/fuzz/run.py $(if $(COVERAGE),coverage,fuzz $(SECONDS)) $(TARGET)
check-fuzz: fetch
	@$(MAKE) $(SUB) fuzzers
	@$(PY) tests/check.py fuzz
