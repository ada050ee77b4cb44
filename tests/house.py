#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`make check-house`: the rules of the house that a program can check, one PASS or FAIL line each.

Rooms may use what lies below them and nothing above: by #include lines, and, where objects are built, by the symbols
that they leave undefined. Architecture stays in arch/ and boot/. What the host defines stays in *_wire.h.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OBJECTS = os.path.join(ROOT, "build", "x86_64", "obj")
# room -> rooms below it that it may use, beside itself
ARROWS = {
    "lib": [],
    "arch": ["lib"],
    "mm": ["arch", "lib"],
    "rt": ["mm", "arch", "lib"],
    "hv": ["rt", "mm", "arch", "lib"],
    "vmbus": ["hv", "rt", "mm", "arch", "lib"],
    "drivers": ["vmbus", "hv", "rt", "mm", "arch", "lib"],
    "boot": ["drivers", "vmbus", "hv", "rt", "mm", "arch", "lib"],
    "apps": ["rt", "lib"],
}
# single files that a room may see of a higher one, and why
EXCEPTIONS = {
    ("arch", "hv/hv_wire.h"),        # register numbers of the hypervisor, facts without code
}
# rt's public headers show applications memory and tasks of mm/ and arch/: not by name, but the linker sees them
SHOWN_BY_RT = {"apps": ["mm", "arch"]}
APP_SYMBOLS = {"app_main", "app_name"}   # what an application defines for the kernel
FREESTANDING = {"stdint.h", "stddef.h", "stdbool.h", "stdarg.h", "limits.h"}
KERNEL_ROOMS = tuple(ARROWS)
LINE_MAX, FILE_MAX = 120, 1000
WIDER = {"rt/net/": 132, "apps/": 132}   # beside lwIP's long names
HOSTED_ONLY = {"rt/net/arch/cc.h"}   # names headers of a C library, for hosted tests alone
# the public header of each room, and how many lines of prose its top has at least
PROSE = {"lib/lib.h": 5, "arch/arch.h": 5, "mm/mm.h": 5, "rt/rt.h": 5, "rt/candela.h": 5, "rt/blk.h": 5, "rt/nic.h": 4,
         "hv/hv.h": 5, "vmbus/vmbus.h": 5, "drivers/drivers.h": 5, "boot/boot_info.h": 5, "tests/host/host.h": 5}


def files(*suffixes):
    """Files of the tree, by git: committed or about to be."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True,
                            check=True).stdout.split("\n")
    return [name for name in listed if name.endswith(suffixes) and os.path.exists(os.path.join(ROOT, name))]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def without_comments(text):
    """Comments and literals blanked, lines kept."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def lines_with(names, pattern):
    """file:line of code (no comments, no literals) that matches."""
    for name in names:
        for number, line in enumerate(without_comments(read(name)).split("\n"), 1):
            if re.search(pattern, line):
                yield f"{name}:{number}: {line.strip()}"


def kernel_files(*suffixes):
    return [name for name in files(*suffixes) if name.split("/")[0] in KERNEL_ROOMS]


# ---- the rules: each yields its violations ----

def arrows_of_includes():
    """each room includes only itself and the rooms below"""
    for name in kernel_files(".c", ".h", ".S"):
        room = name.split("/")[0]
        for number, line in enumerate(read(name).split("\n"), 1):
            found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not found:
                continue
            target = found[1]
            other = target.split("/")[0]
            if other not in ARROWS and other != "tests":
                continue             # arch_inline.h, lwIP's own
            mine = room == other and (room != "apps" or target.split("/")[1] == name.split("/")[1])
            if not mine and other not in ARROWS[room] and (room, target) not in EXCEPTIONS:
                yield f"{name}:{number}: {room}/ must not see {target}"


def symbols(room):
    """(defined, undefined with the object that wants them) of a room's objects."""
    defined, wanted = set(), {}
    for folder, _, names in os.walk(os.path.join(OBJECTS, room)):
        for path in (os.path.join(folder, n) for n in names if n.endswith(".o")):
            listed = subprocess.run(["nm", "-g", path], capture_output=True, text=True, check=True).stdout
            for line in listed.splitlines():
                kind, symbol = line.split()[-2:]
                if kind == "U":
                    wanted.setdefault(symbol, os.path.relpath(path, OBJECTS))
                else:
                    defined.add(symbol)
    return defined, wanted


def arrows_of_symbols():
    """each room's objects need only symbols of the rooms below"""
    if not os.path.isdir(OBJECTS):
        return
    tables = {room: symbols(room) for room in ARROWS}
    owner = {}
    for room, (defined, _) in tables.items():
        for symbol in defined:
            owner.setdefault(symbol, room)
    for room, (defined, wanted) in tables.items():
        for symbol, path in wanted.items():
            home = owner.get(symbol)
            below = ARROWS[room] + SHOWN_BY_RT.get(room, [])
            if home and symbol not in defined and home not in below and symbol not in APP_SYMBOLS:
                yield f"{path}: {room}/ needs {symbol} of {home}/"


def architecture():
    """no condition on the architecture outside arch/ and boot/"""
    names = [n for n in kernel_files(".c", ".h") if not n.startswith(("arch/", "boot/"))]
    return lines_with(names, r"#\s*(if|elif).*(__x86_64__|__aarch64__|__i386__|ARCH_X86|ARCH_ARM)")


def assembly():
    """no inline assembly and no intrinsics outside arch/ and boot/"""
    names = [n for n in kernel_files(".c", ".h") if not n.startswith(("arch/", "boot/"))]
    names += [n for n in files(".c", ".h") if n.startswith("tests/host/")]
    return lines_with(names, r"\b(__asm__|__asm|asm)\b|__builtin_ia32|#\s*include\s*<\w*intrin\.h>")


def weak():
    """no weak symbols: a missing function is a link error"""
    return lines_with(kernel_files(".c", ".h", ".S"), r"__weak|\(\s*weak\s*[,)]\s*\)|^\s*\.weak")


def headers():
    """standard headers in the kernel are the compiler's freestanding ones and lib/include"""
    own = {n[len("lib/include/"):] for n in files(".h") if n.startswith("lib/include/")}
    for name in (n for n in kernel_files(".c", ".h") if n not in HOSTED_ONLY):
        for number, line in enumerate(read(name).split("\n"), 1):
            found = re.match(r"\s*#\s*include\s*<([^>]+)>", line)
            if found and found[1] not in FREESTANDING | own and not re.match(r"(lwip|netif)/", found[1]):
                yield f"{name}:{number}: <{found[1]}>"


def wire():
    """what the host defines: sizes asserted, no bit-fields, and only in *_wire.h"""
    for name in files("_wire.h"):
        text = without_comments(read(name))
        for number, line in enumerate(text.split("\n"), 1):
            if re.match(r"\s*u?int\d*_t\s+\w+\s*:\s*\d+", line):
                yield f"{name}:{number}: a bit-field"
        for found in re.finditer(r"^struct (\w+) \{", text, re.M):
            if not re.search(r"(sizeof|SIZE)\(struct " + found[1] + r"\b", text):
                yield f"{name}: the size of struct {found[1]} is not asserted"


def beginnings():
    """every file begins with its licence, and C and assembly with what the file is for"""
    for name in files(".c", ".h", ".S", ".py", ".sh", ".mk", ".ld", ".lds"):
        head = read(name)[:1000].split("\n")
        if not any("SPDX-License-Identifier: BSD-2-Clause" in line for line in head[:2]):
            yield f"{name}: no SPDX line"
        elif name.endswith((".c", ".h", ".S")) and not head[1].startswith("/*"):
            yield f"{name}: line 2 does not say what the file is for"


def prose():
    """each room's public header begins with what the room is for, promises and assumes"""
    for name, least in PROSE.items():
        found = re.match(r"/\*[^\n]*\*/\n/\*\n(.*?)\*/", read(name), re.S)
        lines = [line for line in found[1].split("\n") if line.strip(" *")] if found else []
        if len(lines) < least:
            yield f"{name}: {len(lines)} lines of prose, {least} are the least"


def unfinished():
    """nothing is marked as unfinished"""
    words = "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"])
    for name in files(".c", ".h", ".S", ".py", ".sh", ".mk", ".ld", ".md", "Makefile"):
        for number, line in enumerate(read(name).split("\n"), 1):
            if re.search(rf"\b({words})\b", line):
                yield f"{name}:{number}: {line.strip()}"


def sizes():
    """files of at most 1000 lines; in the kernel no overlong lines, no tabs, no blanks at their ends"""
    for name in files(".c", ".h", ".S", ".py", ".sh"):
        count = read(name).count("\n")
        if count > FILE_MAX:
            yield f"{name}: {count} lines"
    for name in kernel_files(".c", ".h", ".S"):
        text = read(name)
        most = next((width for room, width in WIDER.items() if name.startswith(room)), LINE_MAX)
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > most:
                yield f"{name}:{number}: {len(line)} characters"
            if line != line.rstrip() or "\t" in line:
                yield f"{name}:{number}: a tab, or blanks at the end"
        if "\n\n\n" in text:
            yield f"{name}:{text[:text.index(chr(10) * 3)].count(chr(10)) + 2}: two empty lines"


def comments():
    """functions of the rooms' public headers stand under or beside a comment"""
    for name in (n for n in PROSE if not n.startswith("tests/")):
        depth, covered = 0, False
        prototype = r"(NORETURN |const |struct |enum |unsigned )*\w+ \**\w+\(.*\)( PRINTF_LIKE.*)?;$"
        for number, line in enumerate(read(name).split("\n"), 1):
            code = without_comments(line).strip()
            if not line.strip():
                covered = False
            elif line.lstrip().startswith(("/*", "*")) or "*/" in line or "/*" in line:
                covered = True
            elif depth == 0 and not covered and re.match(prototype, code):
                yield f"{name}:{number}: {code}"
            depth += code.count("{") - code.count("}")


def settings():
    """every setting that the kernel or an application reads stands in README.md"""
    told = set(re.findall(r"`([a-z0-9._]+)`", read("README.md")))
    for name in kernel_files(".c"):
        for key in re.findall(r'\bconfig_(?:string|number|bool)\("([^"]+)"', read(name)):
            if key not in told:
                yield f"{name}: {key}"


RULES = [arrows_of_includes, arrows_of_symbols, architecture, assembly, weak, headers, wire, beginnings, prose, comments,
         settings, unfinished, sizes]


def main():
    passed = failed = 0
    for rule in RULES:
        name, violations = rule.__name__, list(rule())
        if violations:
            failed += 1
            print(f"FAIL: house_{name}: {rule.__doc__}", *violations, sep="\n    ", flush=True)
        else:
            passed += 1
            print(f"PASS: house_{name}: {rule.__doc__}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
