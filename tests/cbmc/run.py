#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`make check-cbmc`: proofs about the guest's own rooms, by CBMC; PASS, FAIL or SKIP lines.

    run.py [--list] [proof ...]

A proof is a function proof_NAME of tests/cbmc/FILE.c. Each holds for all inputs within the bounds that its file states,
loops are unwound to their end (CBMC checks that they were), and the proof's own end is seen to be reached.

A proof that can't fail proves nothing: so each has mutants, changes of one place of the room, and must fail for each of
them. A change that is not found in the room any more fails as well.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORK = os.path.join(ROOT, "build", "cbmc")
OPTIONS = ["-I.", "-Itests/fake_arch", "--unwinding-assertions", "--no-malloc-may-fail", "--slice-formula"]
WIDE = ["--max-field-sensitivity-array-size", "128"]
LIMIT_S = 900
JOBS = 2
END = "the end is reached"

# (file, proof): how often loops are unwound, more options, mutants: room, what stands there, what a mutant has instead
PROOFS = {
    ("ring", "indices"): (34, [], [
        ("vmbus/ring.c", "r->size - (from - to);", "r->size - (from - to) - 8;"),
        ("vmbus/ring.c", "- distance(r, r->theirs, r->mine) - VMBUS_PACKET_ALIGN;",
         "- distance(r, r->theirs, r->mine);")]),
    ("ring", "reserve"): (34, [], [
        ("vmbus/ring.c", "if (room(r) < space)\n        return -E_AGAIN;", ""),
        ("vmbus/ring.c", "index >= r->size || index % VMBUS_PACKET_ALIGN", "index > r->size")]),
    ("ring", "commit"): (34, [], [
        ("vmbus/ring.c", "return bytes >= r->size - index ?", "return bytes > r->size - index ?")]),
    ("ring", "signal"): (34, [], [
        ("vmbus/ring.c", "r->unsignalled = 0;", "")]),
    ("ring", "unblocked"): (34, [], [
        ("vmbus/ring.c", "room(r) < r->waiting_bytes)", "room(r) + 8 < r->waiting_bytes)")]),
    ("ring", "receive"): (17, [], [
        ("vmbus/ring.c", "bytes > capacity ||", ""),
        ("vmbus/ring.c", "offset > bytes ||", ""),
        ("vmbus/ring.c", "bytes > available - VMBUS_PACKET_TRAILER_BYTES", "bytes > available"),
        ("vmbus/ring.c", "memcpy(buf, &d, sizeof(d));",
         "d = read_descriptor(r->data + r->mine); memcpy(buf, &d, sizeof(d));")]),
    ("ring", "rest"): (34, [], [
        ("vmbus/ring.c", "if (r->theirs == r->mine) {", "if (1) {")]),
    ("gpadl", "header"): (30, [], [
        ("vmbus/gpadl.c", "((UINT16_MAX - sizeof(", "((UINT16_MAX + 1 - sizeof("),
        ("vmbus/gpadl.c", "(size_t)VMBUS_GPADL_HEADER_PFNS_MAX)", "(size_t)VMBUS_GPADL_HEADER_PFNS_MAX + 1)")]),
    ("gpadl", "body"): (30, [], [
        ("vmbus/gpadl.c", "MIN(g->memory->pages - done,", "MIN(g->memory->pages,"),
        ("vmbus/gpadl.c", "frames + done, n)", "frames + done + 1, n)")]),
    ("gpadl", "list"): (30, [], [
        ("vmbus/gpadl.c", "rc == 0 && sent < g->memory->pages", "rc == 0 && sent + 1 < g->memory->pages")]),
    ("bounce", "runs_of"): (8, [], [
        ("hv/bounce.c", "more = MIN(have, n - have);", "more = have;")]),
    ("bounce", "next_run"): (7, [], [
        ("hv/bounce.c", "page = (page | 63) + 1", "page += 64"),
        ("hv/bounce.c", "if (run < 64 - bit)", "if (run <= 64 - bit)")]),
    ("bounce", "mark"): (7, [], [
        ("hv/bounce.c", "while (UNLIKELY(page % 64 + n > 64))", "while (UNLIKELY(page % 64 + n > 65))")]),
    ("bounce", "lend"): (7, [], [
        ("hv/bounce.c", "w * 64 + (unsigned)__builtin_ctzll(runs)",
         "w * 64 + 64 - (unsigned)__builtin_clzll(runs)"),
        ("hv/bounce.c", "e->pages = (uint16_t)n;", "e->pages = (uint16_t)(n + 1);")]),
    ("dma", "to_host"): (3, [], [
        ("hv/dma.c", "                at = 0;\n", "                at = m->offset;\n"),
        ("hv/dma.c", "left = e->pages * PAGE_BYTES - at;", "left = e->pages * PAGE_BYTES;")]),
    ("dma", "from_host"): (3, [], [
        ("hv/dma.c", "memcpy(va_ptr(va_of(spans->addr)), e->virt + m->offset, spans->bytes);",
         "memcpy(va_ptr(va_of(spans->addr)), e->virt, spans->bytes);"),
        ("hv/dma.c", "left -= some, span += some, at += some", "left -= some, span += some")]),
    ("dma", "frames"): (6, [], [
        ("hv/dma.c", "((uint64_t)m->offset + m->bytes + PAGE_MASK)", "((uint64_t)m->bytes + PAGE_MASK)"),
        ("hv/dma.c", "if (pages > max || pages", "if (pages")]),
    ("tlb", "range"): (10, WIDE, [
        ("hv/tlb.c", "page | (some - 1)", "page | (some & 0xFFF)"),
        ("hv/tlb.c", "(bytes + (start.v & PAGE_MASK) + PAGE_MASK)", "(bytes + PAGE_MASK)")]),
    ("tlb", "length"): (68, WIDE, [
        ("hv/tlb.c", "if (pages > LIST_MAX * (uint64_t)HV_GVA_RANGE_PAGES_MAX)",
         "if (pages > LIST_MAX * (uint64_t)HV_GVA_RANGE_PAGES_MAX + 1)")]),
    ("tlb", "processors"): (10, WIDE, [
        ("hv/tlb.c", "banks[(*varhead)++] =", "banks[b] = ++*varhead ? hv_state.online[b] :"),
        ("hv/tlb.c", "return banks + *varhead;", "return banks + 1;")]),
}


def command():
    """What runs CBMC, or why nothing does."""
    done = subprocess.run(["sh", "scripts/fetch-cbmc.sh"], cwd=ROOT, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return done.stdout.split(), None
    return None, done.stderr.strip().splitlines()[-1].removeprefix("fetch-cbmc: ")


def run(cbmc, proof, more):
    """(failed properties, None), or (None, why it said nothing)."""
    (name, function), (unwind, options, _) = proof, PROOFS[proof]
    words = [*cbmc, f"tests/cbmc/{name}.c", *more, *OPTIONS, *options, "--unwind", str(unwind), "--function",
             "proof_" + function]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S,
                              stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return None, f"no result within {LIMIT_S} s"
    if done.returncode not in (0, 10) or "\nVERIFICATION " not in done.stdout:
        return None, "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
    failed = re.findall(r"^\[.*\] (?:file \S+ )?line (\d+) (.*): FAILURE$", done.stdout, re.M)
    if "--stop-on-fail" in more and done.returncode == 10:
        failed = failed or [("?", "a property that the trace names")]
    return failed, None


def prove(cbmc, proof):
    failed, why = run(cbmc, proof, [])
    if failed is None:
        return why
    if END not in [text for _, text in failed]:
        return "its end is never reached: the assumptions contradict each other"
    return "; ".join(f"line {line}: {text}" for line, text in failed if text != END)


def kill(cbmc, proof, number):
    """Whether the proof fails for a mutant, as it must."""
    room, old, new = PROOFS[proof][2][number]
    folder = os.path.join(WORK, f"{proof[0]}-{proof[1]}-{number + 1}")
    with open(os.path.join(ROOT, room), encoding="utf-8") as f:
        text = f.read()
    if old not in text:
        return f"{room} has no {old.strip()!r} to change"
    os.makedirs(os.path.dirname(os.path.join(folder, room)), exist_ok=True)
    with open(os.path.join(folder, room), "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))
    failed, why = run(cbmc, proof, ["-I" + os.path.relpath(folder, ROOT), "-DPROOF_OF_MUTANT", "--stop-on-fail"])
    if failed is None:
        return why
    return "" if failed else f"the proof holds with {new.strip()!r} in place of {old.strip()!r} as well"


def main():
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    chosen = [proof for proof in PROOFS if not wanted or "-".join(proof) in wanted or proof[0] in wanted]
    if "--list" in sys.argv:
        print(*("-".join(proof) for proof in PROOFS), sep="\n")
        return 0
    if not chosen:
        sys.exit(f"run.py: there is no such proof; there are: {', '.join('-'.join(proof) for proof in PROOFS)}")
    cbmc, why = command()
    if not cbmc:
        print(f"SKIP: cbmc: {why}\n0 passed, 0 failed, 1 skipped")
        return 0
    work = [(proof, None) for proof in chosen]
    work += [(proof, number) for proof in chosen for number in range(len(PROOFS[proof][2]))]
    bad = 0

    def one(item):
        proof, number = item
        started = time.monotonic()
        wrong = prove(cbmc, proof) if number is None else kill(cbmc, proof, number)
        return wrong, time.monotonic() - started

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for (proof, number), (wrong, took) in zip(work, pool.map(one, work)):
            name = "cbmc-" + "-".join(proof) + ("" if number is None else f": fails for mutant {number + 1}")
            print(f"FAIL: {name}: {wrong}" if wrong else f"PASS: {name} ({took:.1f} s)", flush=True)
            bad += bool(wrong)
    print(f"{len(work) - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
