# SPDX-License-Identifier: BSD-2-Clause
# `make check` and its parts. Included by the Makefile.
# All parts of both architectures, or of the one that is named on the command line; fuzzers and, on machines that are no
# PC, hosted tests exist for the machine's own alone.
CHECKED := $(if $(filter command environment,$(firstword $(origin ARCH))),$(ARCH),x86_64 arm64)
PARTS_x86_64 := $(if $(filter x86_64,$(MACHINE)),hosted) fuzz lab linux kvm
PARTS_arm64  := hosted lab
BUILT_x86_64 := all $(if $(filter x86_64,$(MACHINE)),hosted)
BUILT_arm64  := all hosted

check: fetch
	@$(foreach a,$(CHECKED),$(MAKE) $(SUB) ARCH=$(a) $(BUILT_$(a)) &&) true
	@$(if $(filter x86_64,$(CHECKED)),$(MAKE) $(SUB) ARCH=$(MACHINE) fuzzers)
	@$(PY) tests/check.py house $(if $(filter x86_64,$(CHECKED)),cbmc) $(foreach a,$(CHECKED),$(PARTS_$(a):%=$(a)/%))
check-cbmc:           # compiles nothing but the proofs
	@$(PY) tests/check.py cbmc
check-hosted check-isolation: fetch
	@$(MAKE) $(SUB) hosted $(if $(filter %-isolation,$@),all)
	@$(PY) tests/check.py $(@:check-%=%)
check-malice: fetch   # MALICE_SEEDS=300 of each class; `make check` takes thirty, and the lab's cases
	@$(MAKE) $(SUB) hosted all
	@$(PY) tests/check.py malice
soak: fetch           # host and guest on processors of their own, for ten minutes
	@$(MAKE) $(SUB) all $(H)/test_ring_order
	@CANDELA_ORDER_S=$${CANDELA_ORDER_S:-600} $(PY) tests/check.py order
check-house check-lab check-linux check-kvm: fetch
	@$(MAKE) $(SUB) all
	@$(PY) tests/check.py $(@:check-%=%)
