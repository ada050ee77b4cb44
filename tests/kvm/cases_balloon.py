# SPDX-License-Identifier: BSD-2-Clause
"""A real VMBus channel: QEMU's hv-balloon (8.2 and later), offered, opened, used, closed; memory that goes and comes.

The guest's application takes and returns memory all the time and checks what it holds (apps/bench/memory.c), so that a
page used on both sides would be seen. QEMU begins to send requests 50 s after the handshake.
"""
import contextlib
import os
import re
import time

import witness
from guest import FLAGS
from harness import case

MIB = 1 << 20
PAGE = 4096
HANDSHAKE_S = 90
REQUESTS_S = 120                                      # QEMU's 50 s, on a busy machine
ANSWER_S = 60
LINE_S = 60                                           # until the application's next one
CLOSE_CHANNEL, GPADL_TEARDOWN = 7, 11
REPORT = "HV_BALLOON_STATUS_REPORT"
REPORTS = 6                                           # to be waited for
FOR_EVER = 3600
DEVICE = "hv-balloon,id=balloon,status-report="
SAYS = (r"memory: \d+ rounds, (?P<refused>\d+) refused, (?P<wrong>\d+) wrong, up to (?P<highest>\d+) MiB, "
        r"(?P<free>\d+) of (?P<ram>\d+) MiB free, (?P<given>\d+) given$")


def start(t, seconds, mem, memory_device="", maxmem="", extra=(), reports="on", **options):
    """A guest with dynamic memory; returns after the handshake."""
    folder = os.path.dirname(t.work)
    if os.path.exists(reason := os.path.join(folder, "without-balloon")):
        with open(reason, encoding="utf-8") as f:
            t.skip(f.read())
    vm = t.guest(app="bench", cmdline=f"loglevel=debug args=memory:count={seconds}", mem=f"{mem}M{maxmem}",
                 extra=["-device", DEVICE + reports + memory_device, *extra], **options)
    vm.expect(r"balloon: balloon 1: dynamic memory 2\.0", HANDSHAKE_S)
    return vm


def says(vm, condition, limit_s, what):
    """The next of the application's lines for which the condition holds, as numbers."""
    begin, deadline = len(vm.console), time.monotonic() + limit_s
    while True:
        found = vm.expect(SAYS, max(deadline - time.monotonic(), 0.1), start=begin)
        numbers = {key: int(value) for key, value in found.groupdict().items()}
        if condition(numbers):
            return numbers
        if time.monotonic() > deadline:
            raise witness.Unseen(f"{what}: not within {limit_s} s, but {found[0]}")
        begin = found.end()


@contextlib.contextmanager
def held(vm):
    """The guest stands still inside. QEMU up to 10 aborts (gpadl_iter_seek: Assertion `iter->active') when a message of
    the guest comes while it works on a command of ours, so none may: those on their way are read first."""
    vm.qmp.command("stop")
    time.sleep(0.3)
    vm.qmp.command("query-status")
    yield
    vm.qmp.command("cont")


def set_target(vm, mib, state):
    """Asks for that size and waits until QEMU has done what it could, seen by its state `state` and IDLE after it."""
    begin = len(vm.trace)
    with held(vm):
        vm.qmp.command("balloon", value=mib * MIB)
    vm.traced(rf"-> {state}\n(?s:.*)-> S_IDLE(?!(?s:.*)-> )", ANSWER_S, begin)
    return vm.qmp.command("query-balloon")["actual"] // MIB, vm.trace[begin:]


def guest_ram(vm):
    """The file that is the guest's RAM, open for reading."""
    fds = f"/proc/{vm.process.pid}/fd"
    for fd in os.listdir(fds):
        with contextlib.suppress(OSError):
            if "memory-backend-memfd" in os.readlink(os.path.join(fds, fd)):
                return os.open(os.path.join(fds, fd), os.O_RDONLY)
    raise witness.Unseen("QEMU has no file for the guest's RAM")


def pages_held(ram):
    """The pages that the host has memory for. RAM below 2 GiB: the offset is the address."""
    pages, at = set(), 0
    while True:
        try:
            data = os.lseek(ram, at, os.SEEK_DATA)
        except OSError:                               # ENXIO: nothing from here to the end of the file
            return pages
        at = os.lseek(ram, data, os.SEEK_HOLE)
        pages.update(range(data // PAGE, at // PAGE))


def sound(t, vm):
    """The application still works and has seen no wrong page; neither side complained of the other."""
    says(vm, lambda n: True, LINE_S, "a line of the application")
    t.check(not re.search(r"memory: \d+ rounds, \d+ refused, [1-9]\d* wrong", vm.console), "no page was used twice")
    t.check(not re.search(r"(warning|error): ", vm.console), "no warning")
    complaints = [line for line in vm.trace.splitlines() if not re.match(r"(vmbus|hv_balloon)_|.*: warning: ", line)]
    t.equal(complaints, [], "what QEMU complains of")


def finish(t, vm):
    """The application ends by itself, and the channel is closed before the bus is left."""
    sound(t, vm)
    vm.expect(r"boot: bench returned 0", 180)
    witness.power_off(t, vm)
    sent = witness.received(vm)
    t.equal([n for n in sent if n in (CLOSE_CHANNEL, GPADL_TEARDOWN, witness.UNLOAD)],
            [CLOSE_CHANNEL, GPADL_TEARDOWN, witness.UNLOAD], "the last messages of the guest")
    t.check(re.search(r"vmbus_close_channel channel #1\n(?s:.*)vmbus_gpadl_torndown gpadl #", vm.trace),
            "QEMU closed the channel")
    witness.messages_taken(t, vm)
    witness.unloaded(t, vm)


@case(limit_s=70)
def balloon_channel(t):
    """The channel is offered, opened, used and closed; version 2.0, capabilities, a report of memory every second."""
    vm = start(t, 40, 256, flags=FLAGS + ("enforce-cpuid",), cpus=2)
    t.check("vmbus: 1 offers, 1 of them served" in vm.console, "the guest serves the offer")
    story = (r"vmbus_send_offer channel #1 (?s:.*)vmbus_terminate_offers "
             r"(?s:.*)vmbus_gpadl_header gpadl #\d+ gfns 10\n(?s:.*)vmbus_gpadl_created "
             r"(?s:.*)vmbus_open_channel channel #1 (?s:.*)vmbus_channel_open channel #1 status 0\n"
             r"(?s:.*)incoming proto version 2\.0\n(?s:.*)incoming caps 0x1f\n(?s:.*)-> S_POST_INIT_WAIT$")
    vm.traced(story, ANSWER_S)
    first, deadline, reports = vm.qmp.event(REPORT, ANSWER_S), time.monotonic() + ANSWER_S, 1
    while reports < REPORTS and time.monotonic() < deadline:
        time.sleep(0.2)
        reports = sum(e["event"] == REPORT for e in vm.qmp.events)
    took = time.monotonic() - vm.began
    t.check(REPORTS <= reports <= took + 1, f"{reports} reports, {took:.1f} s after the guest began")
    status = vm.qmp.command("query-hv-balloon-status-report")
    for one in (first, status):
        both = one["available"] + one["committed"]
        t.check(0 < one["available"] < 256 * MIB < both < 512 * MIB, f"a report says {one}")
    seen = says(vm, lambda n: True, LINE_S, "a line of the application")
    t.check(abs(seen["free"] - status["available"] // MIB) < 100, f"{status} and the guest's {seen}")
    t.equal(vm.qmp.command("query-balloon")["actual"], 256 * MIB, "QEMU's size of the guest")
    finish(t, vm)


@case(limit_s=70)
def balloon_without_reports(t):
    """A host that wants no reports gets none."""
    vm = start(t, 30, 256, reports="off")
    t.check("dynamic memory 2.0, no reports wanted" in vm.console, "the guest says so")
    time.sleep(3)
    answer = vm.qmp.answer("query-hv-balloon-status-report")
    t.check("error" in answer, f"QEMU has no report: {answer}")
    t.check(not any(e["event"] == REPORT for e in vm.qmp.events), "no report came")
    finish(t, vm)


@case(limit_s=200)
def balloon_moves(t):
    """QMP takes memory down to the guest's floor and gives it back; the host's own memory for those pages goes."""
    vm = start(t, FOR_EVER, 256,
               extra=["-object", "memory-backend-memfd,id=ram,size=256M", "-machine", "memory-backend=ram"])
    vm.traced(r"-> S_IDLE$", REQUESTS_S)
    ram = guest_ram(vm)
    before = pages_held(ram)
    actual, trace = set_target(vm, 64, "S_BALLOON_REPLY_WAIT")
    t.check(64 < actual < 200, f"the guest keeps what it needs: {actual} MiB left of 256, 64 asked")
    ranges = [(int(first, 16), int(count)) for count, first in
              re.findall(r"processing remove response range (\d+) @ (0x[0-9a-f]+), both 1", trace)]
    gone = sum(count for _, count in ranges)
    t.check(abs(gone * PAGE // MIB - (256 - actual)) <= 1, f"{gone} pages are {256 - actual} MiB")
    given = {page for first, count in ranges for page in range(first, first + count)}
    t.equal(len(given), gone, "different pages given")
    t.check(given & before, "some of the pages given had been in use")
    t.equal(len(given & pages_held(ram)), 0, f"pages given, {len(given & before)} of them once used, still with memory")
    t.note(f"{gone} pages given, {len(given & before)} of them once used")
    seen = says(vm, lambda n: n["given"], LINE_S, "the application sees what was given")
    t.equal(seen["given"], gone * PAGE // MIB, "MiB given, by the guest")

    for target in (actual + 40, 256):
        got, _ = set_target(vm, target, "S_UNBALLOON_REPLY_WAIT")
        t.equal(got, target, "QEMU's size of the guest after memory was given back")
    seen = says(vm, lambda n: not n["given"], LINE_S, "nothing is given any more")
    t.check(seen["free"] > 40, f"the memory is the guest's again: {seen}")
    actual, _ = set_target(vm, 200, "S_BALLOON_REPLY_WAIT")
    t.check(200 <= actual < 256, f"taken once more: {actual}")
    os.close(ram)
    sound(t, vm)


@case(limit_s=200)
def balloon_hot_add(t):
    """More memory than the machine was started with: offered, accepted, and in use afterwards."""
    vm = start(t, FOR_EVER, 96, memory_device=",memdev=more", maxmem=",maxmem=66G,slots=2",
               extra=["-object", "memory-backend-ram,id=more,size=512M"])
    where = vm.qmp.command("query-memory-devices")[0]["data"]["memaddr"] // MIB
    vm.traced(r"-> S_IDLE$", REQUESTS_S)
    start_seen = says(vm, lambda n: True, LINE_S, "a line of the application")
    t.check(start_seen["highest"] <= 96 and start_seen["refused"], f"memory is scarce: {start_seen}")
    for total in (96 + 128, 96 + 512):
        actual, trace = set_target(vm, total, "S_HOT_ADD_REPLY_WAIT")
        t.equal(actual, total, "QEMU's size of the guest")
        t.check(re.search(r"incoming hot add response \d+, result 1, count \d+", trace), "the guest accepted")
    t.check(f"the host added 128 MiB at {where} MiB" in vm.console, "the guest names the memory")
    seen = says(vm, lambda n: n["highest"] > where, LINE_S, "memory of the host's is in use")
    t.check(seen["ram"] > start_seen["ram"] + 500, f"the guest counts it: {seen}")
    calm = says(vm, lambda n: n["refused"] == seen["refused"], LINE_S, "nothing is refused any more")
    t.check(calm["free"] > 300, f"it is there to be used: {calm}")
    sound(t, vm)


@case(limit_s=70)
def balloon_unplug(t):
    """The device is unplugged while it is open (rescind), and plugged again."""
    vm = start(t, 20, 256)
    answer = vm.qmp.answer("device_del", id="balloon")
    if "error" in answer:
        reason = answer["error"]["desc"]
        t.check("hotplug" in reason, f"QEMU refuses: {reason}")
        finish(t, vm)
        t.skip(f"this QEMU says: {reason}")
    vm.expect(r"vmbus: balloon 1: the host removes it", ANSWER_S)
    t.check(re.search(r"vmbus_close_channel channel #1", vm.trace), "the guest closed the channel")
    begin = len(vm.console)
    vm.qmp.command("device_add", driver="hv-balloon", id="again", **{"status-report": True})
    vm.expect(r"balloon: .*dynamic memory 2\.0", HANDSHAKE_S, start=begin)
    witness.power_off(t, vm)
