#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`make check-lab`: Candela in the lab and on plain QEMU, with other people's programs as the oracle.

    tests/e2e/check_lab.py                 all cases, two at a time
    tests/e2e/check_lab.py nbd_ boot_uefi  those whose names begin so
    tests/e2e/check_lab.py --list
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import boards                                                 # noqa: E402
import harness                                                # noqa: E402
import cases_disk                                             # noqa: E402,F401
import cases_nbd                                              # noqa: E402,F401
import cases_net                                              # noqa: E402,F401
import cases_boot                                             # noqa: E402,F401
import cases_crash                                            # noqa: E402,F401
import cases_host                                             # noqa: E402,F401
import cases_machine                                          # noqa: E402,F401
import cases_bad                                              # noqa: E402,F401
import cases_fault                                            # noqa: E402,F401
import cases_ic                                               # noqa: E402,F401
import cases_processor                                        # noqa: E402,F401
import cases_isolated                                         # noqa: E402,F401
import cases_memory                                           # noqa: E402,F401
import cases_malice                                           # noqa: E402,F401

if boards.ARCH == "arm64":
    import cases_arm64                                        # noqa: F401
    import cases_arm64_boot                                   # noqa: F401
    import cases_order                                        # noqa: F401

if __name__ == "__main__":
    harness.main(os.path.abspath(__file__))
