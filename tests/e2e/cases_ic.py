# SPDX-License-Identifier: BSD-2-Clause
"""Integration components: what the host asks of the machine, and what each sees of the other."""
import re
import time
import urllib.request

import nbdclient as nbd
from cases_boot import script
from boards import ARCH
from harness import Failure, case
from labvm import Disk, POWER_OFF, REBOOT

NAMES = ["shutdown", "heartbeat", "timesync", "kvp"]
BEATS_S = ADDRESS_S = 60


def negotiated(t, vm, limit_s=60):
    """Waits until each component is negotiated; the numbers of the last report, by component."""
    deadline = time.monotonic() + limit_s
    while True:
        seen = components(vm)
        if all(name in seen and seen[name]["messages"] != "0.0" for name in NAMES):
            return seen
        if time.monotonic() > deadline:
            raise Failure(f"not all components are negotiated within {limit_s} s: {seen}")
        time.sleep(0.2)


def components(vm):
    """One `ics` report: component -> word -> value."""
    start = len(vm.lines["lab"].text)
    vm.command("ics", r"lab-command: ics.*done")
    return {m[1]: dict(word.split("=", 1) for word in m[2].split() if "=" in word)
            for m in re.finditer(r"^lab-ic: (\w+) (relid=.*)$", vm.lines["lab"].text[start:], re.M)}


def kvp(vm, command):
    """A command about keys: the items by key, and the status of the end."""
    start = len(vm.lines["lab"].text)
    number = vm.command(command, r"^lab-kvp: (\d+) end status=(0x[0-9a-f]+|0)$")
    text = vm.lines["lab"].text[start:]
    items = re.findall(rf"^lab-kvp: {number[1]} pool=\d+ index=\d+ (\S*) = (.*)$", text, re.M)
    return dict(items), int(number[2], 0)


def page(vm, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{vm.ports['http']}{path}", timeout=20) as answer:
        return answer.read().decode()


def metric(vm, name):
    found = re.search(rf"^{name} (\d+)$", page(vm, "/metrics"), re.M)
    if not found:
        raise Failure(f"/metrics lacks {name}")
    return int(found[1])


@case(limit_s=150)
def ic_shutdown_during_copy(t):
    """The host asks for a shutdown in the middle of copies: what was flushed is there, the machine powers off."""
    source, target = t.random_disk("source.img", 64), t.blank_disk("target.img", 64 << 20)
    big = t.blank_disk("big.img", 4 << 30)
    vm = t.lab(disks=[Disk(big), Disk(target, writable=True)], cmdline="nbd.write=disk1")
    negotiated(t, vm)
    with open(source, "rb") as f:
        content = f.read()
    reader = t.background("nbdcopy", f"nbd://127.0.0.1:{vm.ports['nbd']}/disk0", "null:")
    writer = nbd.Client(vm.ports["nbd"]).go("disk1")
    acknowledged = 0
    for n in range(16):
        writer.write(n << 20, content[n << 20:(n + 1) << 20])
    writer.flush()
    flushed = 16 << 20
    t.check(reader.poll() is None, "the copy is still running")
    vm.command("shutdown off", "lab-command: shutdown.*done")
    acknowledged = flushed
    try:
        while acknowledged < len(content):           # as long as it is answered
            writer.write(acknowledged, content[acknowledged:acknowledged + 65536])
            acknowledged += 65536
    except (OSError, nbd.ProtocolError, nbd.NBDError):
        pass
    vm.ended = vm.wait(60)
    t.equal(vm.ended, POWER_OFF, "end of the machine")
    t.check(reader.wait(20) != 0, "the copy that was cut off knows it")
    with open(target, "rb") as f:
        written = f.read()
    t.check(written[:acknowledged] == content[:acknowledged], f"all {acknowledged >> 10} KiB acknowledged are there")
    t.check("closing" in vm.console and "rt: shutting down" in vm.console, "the console tells the story")
    t.check("the last flush failed" not in vm.console and "going on without" not in vm.console, "nothing was forced")


@case(limit_s=90)
def ic_restart_and_refusals(t):
    """Hibernation is refused and changes nothing; a restart resets the machine."""
    disk = t.random_disk("disk.img", 4)
    vm = t.lab(disks=[Disk(disk)])
    negotiated(t, vm)
    vm.command("shutdown hibernate", "lab-command: shutdown.*done")
    vm.expect("the host asks for hibernation .*refused", 10)
    t.equal(int(components(vm)["shutdown"]["status"], 0), 0x80004005, "status of the refusal")
    with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
        client.read(0, 4096)
        vm.command("shutdown restart for\x1b[31m updates", "lab-command: shutdown.*done")
        vm.expect(r"the host asks for a restart \(reason 0x80000000\): for", 10)
        vm.ended = vm.wait(30)
    t.equal(vm.ended, REBOOT, "end of the machine")
    t.check("\x1b[31m" not in vm.console, "the host's text obeys no terminal")


@case(limit_s=90)
def ic_shutdown_hello(t):
    """An application that never asks after requests is not waited for; hello prints the time of day."""
    vm = t.lab(app="hello", ready=None, lab={"ic.time": "2026-01-31T12:00:00"})
    vm.expect(r"^It is 2026-01-31 12:0\d:\d\d UTC$", 30)
    vm.ended = vm.wait(30)
    t.equal(vm.ended, POWER_OFF, "end of the machine")
    vm = t.lab(app="iperf", ready=None, forward={"sink": 7001})
    vm.expect(r"DHCP", 30)
    negotiated(t, vm)
    vm.command("shutdown off", "lab-command: shutdown.*done")
    vm.ended = vm.wait(30)
    t.equal(vm.ended, POWER_OFF, "end of the machine")
    t.check("going on without it" not in vm.console, "nobody waits for an application that does not look")


@case(limit_s=90)
def ic_heartbeat(t):
    """Heartbeats are answered, none is missed, also under load; the guest and the host count the same."""
    disk = t.random_disk("disk.img", 64)
    vm = t.lab(disks=[Disk(disk)], lab={"ic.heartbeat_ms": 200})
    before = negotiated(t, vm)["heartbeat"]
    t.run("nbdcopy", f"nbd://127.0.0.1:{vm.ports['nbd']}/disk0", "null:")

    def enough(now):
        return int(now["answers"]) >= int(before["answers"]) + 10

    deadline = time.monotonic() + BEATS_S
    while not enough(after := components(vm)["heartbeat"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    t.check(enough(after), f"beats: {before['answers']}, {after['answers']}")
    t.equal(int(after["missed"]), 0, "missed")
    t.equal(int(after["word"], 0), 1, "the application is well")
    t.check(metric(vm, "candela_ic_heartbeats_total") >= int(after["answers"]), "beats as the guest counts them")


@case(limit_s=90)
def ic_keys(t):
    """What each tells the other by key-value pairs: the address is DHCP's, keys of the host are on the status page."""
    disk = t.random_disk("disk.img", 4)
    vm = t.lab(disks=[Disk(disk)], cmdline="net.hostname=wick")
    negotiated(t, vm)
    address = vm.expect(r"en0: ([\d.]+)/24, gateway ([\d.]+) \(DHCP\)", 20)
    deadline = time.monotonic() + ADDRESS_S          # an IPv6 address is tried before it is used
    while not kvp(vm, "kvp-enum 2")[0]["NetworkAddressIPv6"] and time.monotonic() < deadline:
        time.sleep(0.2)
    auto, status = kvp(vm, "kvp-enum 2")
    t.equal(status, 0x80070103, "the enumeration ends as it must")
    t.equal(len(auto), 10, "values")
    t.equal(auto["NetworkAddressIPv4"], address[1], "IPv4 address")
    t.check(auto["NetworkAddressIPv6"].upper().startswith("FE80::"), "IPv6 address")
    t.equal((auto["FullyQualifiedDomainName"], auto["OSName"], auto["ProcessorArchitecture"]),
            ("wick", "Candela", ARCH), "name, system, processor")
    t.check(re.fullmatch(r"\d+\.\d+\.\d+", auto["OSVersion"]), "version")
    for how in ("mac", "guid"):
        info, status = kvp(vm, "kvp-ip " + how)
        t.equal((status, info["dhcp"], info["gateways"]), (0, "1", address[2]), f"by {how}: status, DHCP, gateway")
        t.equal(info["addresses"].split(";")[0], address[1], f"by {how}: address")
        t.equal(info["subnets"].split(";")[0], "255.255.255.0", f"by {how}: subnet")
        t.equal(info["dns"], "10.0.2.3", f"by {how}: name server")
    t.equal(kvp(vm, "kvp-enum 1")[0], {"nbd.uri": f"nbd://{address[1]}:10809/"}, "what the application says")
    t.equal(kvp(vm, "kvp-set role backup <b>&7")[1], 0, "status of the set")
    t.equal(kvp(vm, "kvp-set gone soon")[1], 0, "status of the set")
    t.equal(kvp(vm, "kvp-delete gone")[1], 0, "status of the delete")
    t.equal(kvp(vm, "kvp-enum 0")[0], {"role": "backup <b>&7"}, "the host's own keys")
    html = page(vm, "/")
    t.check("<tr><th>role</th><td>backup &lt;b&gt;&amp;7</td></tr>" in html and "gone" not in html, "the status page")
    t.equal(metric(vm, "candela_host_keys"), 1, "keys among the metrics")


@case(limit_s=90)
def ic_time(t):
    """The host's time of day is the guest's; it may be set forward and back."""
    disk = t.random_disk("disk.img", 4)
    vm = t.lab(disks=[Disk(disk)], lab={"ic.time": "2026-01-31T12:00:00", "ic.timesync_ms": 500})
    vm.expect(r"it is 2026-01-31 12:0\d:\d\d UTC, says the host", 30)

    def host_seconds():
        return int(vm.command("ics", r"^lab-ic: time unix=(\d+)\.")[1])

    def same(when):
        """The guest's seconds are between those of the host's before and after, however long asking takes."""
        before, guest, after = host_seconds(), metric(vm, "candela_time_unix_seconds"), host_seconds()
        t.check(before - 1 <= guest <= after, f"{when}: the guest's time {guest}, the host's {before} to {after}")

    same("at first")
    for seconds, word in (("7200", "forward"), ("-3600", "back")):
        vm.command("time-sync " + seconds, "lab-command: time-sync.*done")
        vm.expect(rf"the clock is set {word} by {seconds.lstrip('-')}\.", 20)
        same(f"after a jump by {seconds} s")
    t.check(re.search(r"<th>Time</th><td>2026-01-31 13:0\d:\d\d UTC", page(vm, "/")), "the status page tells the time")
    t.equal(metric(vm, "candela_time_steps_total"), 2, "steps")


@case(limit_s=90)
def ic_time_of_firmware(t):
    """Without a host that tells it, the time of day is the firmware's."""
    script(t, "image.sh", t.path("hello"))
    vm = t.plain("uefi", t.path("hello.img"), extra=["-rtc", "base=2026-02-03T04:05:06"])
    vm.expect(r"it is 2026-02-03 04:(0[5-9]|1\d):\d\d UTC, says the firmware", 60)
    vm.expect(r"^It is 2026-02-03 04:(0[5-9]|1\d):\d\d UTC$", 30)


@case(limit_s=150)
def ic_hosts(t):
    """Hosts of every age, with transactions that are all zero, that ask for versions again, that have none of it."""
    disk = t.random_disk("disk.img", 1)
    hosts = {
        "the oldest": {"ic.framework": "1.0", **{f"ic.{name}.versions": "1.0" for name in NAMES}},
        "3.0": {"ic.framework": "3.0", **{f"ic.{name}.versions": "3.0" for name in NAMES}},
        "4.0": {"ic.kvp.versions": "4.0", "ic.timesync.versions": "4.0", "ic.shutdown.versions": "3.1"},
        "transactions that are all zero": {"ic.numbered": 0, "ic.timesync_answered": 0, "ic.timesync_ms": 20},
    }
    for name, options in hosts.items():
        vm = t.lab(disks=[Disk(disk)], lab=options)
        negotiated(t, vm)
        t.equal(kvp(vm, "kvp-enum 2")[0]["OSName"], "Candela", name)
        vm.expect("it is 20.* UTC, says the host", 20)
        vm.command("renegotiate", "lab-command: renegotiate.*done")
        negotiated(t, vm)
        t.equal(kvp(vm, "kvp-set a b")[1], 0, name)
        vm.command("shutdown off", "lab-command: shutdown.*done")
        vm.ended = vm.wait(30)
        t.equal(vm.ended, POWER_OFF, f"{name}: end of the machine")
    vm = t.lab(disks=[Disk(disk)], lab={"ic.all": 0})
    t.check(re.search("<th>Time</th><td>unknown", page(vm, "/")), "without the host's services the time is unknown")
    t.equal(metric(vm, "candela_time_unix_seconds"), 0, "and 0 among the metrics")
