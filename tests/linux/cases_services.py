# SPDX-License-Identifier: BSD-2-Clause
"""The integration components, with Linux's drivers and its own daemon at the other end."""
import re
import time

import labvm
import linuximage
from boards import ARCH
from guest import Guest
from harness import case
from labvm import Disk

KVP_STATUS_END = "0x80070103"                         # no more items


def components(guest):
    """What the lab says of its components: name -> {"messages": "3.2", "answers": "5", ...}."""
    start = len(guest.vm.lines["lab"].text)
    guest.vm.command("ics", r"^lab-command: ics.*: done")
    text = guest.vm.lines["lab"].text[start:]
    lines = re.findall(r"^lab-ic: (\w+) (.*)$", text, re.M)
    return {name: dict(re.findall(r"(\w+)=(\S+)", rest)) for name, rest in lines}


def wait_for(t, condition, what, limit_s=60):
    deadline = time.monotonic() + limit_s
    while not condition():
        t.check(time.monotonic() < deadline, what)
        time.sleep(0.2)


def kvp(guest, command):
    """The items that a request of the host's brings: {key: value}."""
    line = guest.vm.lines["lab"]
    start = len(line.text)
    guest.vm.command(command, rf"^lab-command: {re.escape(command)}.*: done")
    end = guest.vm.expect(r"^lab-kvp: \d+ end status=(\S+)$", 30, "lab", start)
    items = dict(re.findall(r"^lab-kvp: \d+ pool=\d+ index=\d+ (.*?) = (.*)$", line.text[start:end.start()], re.M))
    return end[1], items


def host_time(guest):
    return float(components(guest)["time"]["unix"])


def check_time(t, guest):
    """The host's clock becomes the guest's when the host says so, be it far away."""
    t.equal(guest.run("cat /sys/class/ptp/ptp0/clock_name").strip(), "hyperv", "the clock that the host offers")
    guest.run("date -s @1000000000")
    for jump in ("", " 86400", " -7200"):
        guest.vm.command("time-sync" + jump, r"^lab-command: time-sync.*: done")
        wait_for(t, lambda: abs(float(guest.run("date +%s")) - host_time(guest)) < 3, f"the time after time-sync{jump}")


def check_keys(t, guest):
    """Keys that the host sets are in the daemon's file; what the daemon says of the system is told to the host."""
    guest.vm.command("kvp-set lab.key some-value", r"^lab-command: kvp-set.*: done")
    guest.vm.command("kvp-set lab.other another", r"^lab-command: kvp-set.*: done")
    wait_for(t, lambda: kvp(guest, "kvp-enum 0")[1] == {"lab.key": "some-value", "lab.other": "another"},
             "keys set by the host are read back")
    guest.run("tr '\\0' '\\n' < /var/lib/hyperv/.kvp_pool_0 | grep -qx some-value")
    guest.vm.command("kvp-delete lab.other", r"^lab-command: kvp-delete.*: done")
    wait_for(t, lambda: kvp(guest, "kvp-enum 0")[1] == {"lab.key": "some-value"}, "and deleted by the host")
    status, system = kvp(guest, "kvp-enum 2")
    t.equal(status, KVP_STATUS_END, "the end of the list")
    t.equal(system.get("NetworkAddressIPv4", "").split(";")[0], "10.0.2.15", f"what the guest says of itself: {system}")
    t.equal(system.get("OSBuildNumber"), guest.linux.release, "its version")
    t.equal(system.get("ProcessorArchitecture"), {"x86_64": "x86_64", "arm64": "aarch64"}[ARCH],
            "its architecture")
    _, addresses = kvp(guest, "kvp-ip mac")
    t.check("10.0.2.15" in " ".join(addresses.values()), f"addresses of the adapter: {addresses}")


def daemon_files(linux):
    """What the daemon needs, or nothing where the distribution has none for this kernel."""
    program = linux.program("hv_kvp_daemon")
    if not program:
        return {}
    files = linuximage.with_libraries([program])
    files["/sbin/hv_kvp_daemon"] = files.pop(program)
    return {**files, "/etc/os-release": b"NAME=lab\nVERSION_ID=1\n", "/var/lib/hyperv/.keep": b"", "/etc/hosts": b""}


@case(limit_s=150)
def linux_services(t):
    """Heartbeat, time, keys and the host's shutdown, by hv_utils and the distribution's hv_kvp_daemon."""
    files = daemon_files(linuximage.Linux())
    guest = Guest(t, disks=[Disk(t.random_disk("disk.img", 1))], files=files)
    guest.dhcp()
    if files:
        guest.run("hv_kvp_daemon")
    # Without the daemon the driver of keys leaves the host's offer of versions in the ring.
    awaited = ["shutdown", "heartbeat", "timesync"] + (["kvp"] if files else [])
    wait_for(t, lambda: all(components(guest)[name]["messages"] != "0.0" for name in awaited),
             "all versions are negotiated", 90)
    for name, one in components(guest).items():
        t.note(f"{name}: {one}")
    check_time(t, guest)
    if files:
        check_keys(t, guest)
    before = components(guest)["heartbeat"]
    wait_for(t, lambda: int(components(guest)["heartbeat"]["answers"]) > int(before["answers"]) + 1, "a heart beats")
    guest.vm.command("renegotiate", r"^lab-command: renegotiate.*: done")
    wait_for(t, lambda: int(components(guest)["heartbeat"]["answers"]) > int(before["answers"]) + 3,
             "and goes on after versions were negotiated again")
    for name in awaited:
        one = components(guest)[name]
        t.check(one.get("missed", "0") == "0", f"requests of {name} that were not answered: {one}")
    guest.check_log()
    guest.end_by_host("off maintenance", "power off", labvm.POWER_OFF)
