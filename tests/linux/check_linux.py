#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`make check-linux`: stock Linux with its own Hyper-V drivers as guest of the lab: is the host model honest?

    tests/linux/check_linux.py                 all cases, two at a time
    tests/linux/check_linux.py linux_vmbus     those whose names begin so
    tests/linux/check_linux.py --list
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "e2e")]
import cases_balloon                                          # noqa: E402,F401
import cases_channels                                         # noqa: E402,F401
import harness                                                # noqa: E402
import linuximage                                             # noqa: E402
import cases_linux                                            # noqa: E402,F401
import cases_services                                         # noqa: E402,F401
import cases_vbs                                              # noqa: E402,F401


def main():
    if not {"--child", "--list"} & set(sys.argv):
        try:
            print(f"Linux {linuximage.Linux().release}", flush=True)
        except linuximage.Unavailable as why:
            print(f"SKIP: linux: {why}\n0 passed, 0 failed, 1 skipped")
            return
    harness.main(os.path.abspath(__file__))


if __name__ == "__main__":
    main()
