#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes the symbol table for the second link: symbols.py NM ELF > table.S

One chunk of the section candela_symbols, in the layout that lib/symbols.c reads: base address, number of entries,
bytes of the chunk; entries (address - base, offset of the name) in ascending order, the last of them nameless at the
end of the code; names.
"""
import subprocess
import sys


def functions(nm, elf):
    """Addresses of the code and one name each, ascending; then the end of the code."""
    found, end = {}, None
    for line in subprocess.run([nm, "-n", elf], check=True, capture_output=True, text=True).stdout.splitlines():
        parts = line.split()
        if len(parts) != 3:
            continue
        address, kind, name = int(parts[0], 16), parts[1], parts[2]
        if name == "image_text_end":
            end = address
        elif kind in "tT" and not name.startswith((".L", "$")) and name != "image_text_start":
            found.setdefault(address, name)
    if end is None:
        sys.exit(f"{elf}: no symbol image_text_end")
    high = 1 << 63
    return sorted((a, n) for a, n in found.items() if a & high and a < end) + [(end, "")]


def main():
    symbols = functions(sys.argv[1], sys.argv[2])
    base = symbols[0][0]
    header, entry = 16, 8
    names, entries = bytearray(), []
    for address, name in symbols:
        entries.append((address - base, header + entry * len(symbols) + len(names)))
        names += name.encode() + b"\0"
    total = (header + entry * len(symbols) + len(names) + 15) // 16 * 16
    print('    .section candela_symbols, "a"')
    print("    .balign 16")
    print(f"    .quad {base:#x}")
    print(f"    .long {len(symbols)}, {total}")
    for address, name in entries:
        print(f"    .long {address:#x}, {name}")
    for address, name in symbols:
        print(f'    .asciz "{name}"')
    print("    .balign 16")
    print('    .section .note.GNU-stack, "", @progbits')


main()
