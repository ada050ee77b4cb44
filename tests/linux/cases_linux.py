# SPDX-License-Identifier: BSD-2-Clause
"""Stock Linux on every way in, with its disks and networks, on hosts of every age."""
import os
import re

import labvm
import linuximage
import network
import storage
from boards import ARCH
from etherpeer import Peer
from guest import MODULES, Guest
from harness import Skip, case
from labvm import Disk, UserNet, WireNet

MIB = 1 << 20
FORWARD = {"http": 80}
FLUSH_ROUNDS = 200


# What the kernel says of what it found, and its clock; only on x86_64 it flushes and signals by hypercall.
FOUND = {
    "x86_64": [r"^Hypervisor detected: Microsoft Hyper-V", r"^Hyper-V: Using hypercall for remote TLB flush",
               r"^clocksource: Switched to clocksource hyperv_clocksource_tsc_page"],
    "arm64": [r"^Hyper-V: privilege flags low 0x[0-9a-f]+", r"^clocksource: Switched to clocksource arch_sys_counter"],
}[ARCH]
CLOCK = {"x86_64": "hyperv_clocksource_tsc_page", "arm64": "arch_sys_counter"}[ARCH]
BY_HYPERCALL = ARCH == "x86_64"


def check_facilities(t, log, version="5.3", smp=False, ipi=True):
    """Linux has found what the host offers, and uses it."""
    wanted = [*FOUND, rf"hv_vmbus: Vmbus version:{re.escape(version)}$", r"^scsi host\d+: storvsc_host_t",
              r"scsi .*Direct-Access +Msft +Virtual Disk"]
    for pattern in wanted:
        t.check(re.search(pattern, log, re.M), f"the log says {pattern!r}")
    t.equal("Hyper-V: Using IPI hypercalls" in log, ipi and BY_HYPERCALL, "IPIs by hypercall")
    if smp:
        t.check(re.search(r"smp: Brought up 1 node, 2 CPUs", log), "two processors")


def check_bound(t, guest, channels=1):
    """Both drivers are bound to their devices, which have that many channels; the clock is the best there is."""
    t.equal(guest.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource").strip(), CLOCK,
            "clock source")
    for driver in ("hv_storvsc", "hv_netvsc"):
        found = guest.run(f"for d in /sys/bus/vmbus/drivers/{driver}/*-*; do ls $d/channels | wc -l; done").split()
        t.check(found and set(found) == {str(channels)}, f"{driver}: channels of each device: {found}")


@case(limit_s=180)
def linux_direct(t):
    """One processor, no firmware: facilities, disk (read, written, discarded, plugged), network 100 MiB each way."""
    source, target = t.random_disk("source.img", 32), t.random_disk("target.img", 32, seed=2)
    plugged = t.random_disk("plugged.img", 4, seed=3)
    writes = storage.Writes(60, 32 * MIB, 16 * MIB)
    wire = WireNet(t.socket_path("guest"), t.socket_path("peer"))
    peer = Peer(wire.guest_path, wire.peer_path).start()
    try:
        guest = Guest(t, disks=[Disk(source), Disk(target, writable=True), Disk(plugged)], lab={"lun.absent": "2"},
                      net=[UserNet(FORWARD), wire], files={"/etc/writes": writes.script()})
        check_bound(t, guest)
        storage.check_whole(t, guest, guest.disk(0), source)
        writes.run(t, guest, source, target)
        storage.check_discard(t, guest, guest.disk(1), target, 20 * MIB, 4 * MIB)
        storage.check_hotplug(t, guest, 2, plugged)
        t.equal(guest.dhcp(), "10.0.2.15", "the address")
        network.check_ping(t, guest)
        network.check_http(t, guest, 100 * MIB)
        network.check_peer(t, guest, "eth1", peer)
        check_facilities(t, guest.check_log(allowed=[r"Synchronize Cache\(10\) failed"]))
        guest.power_off()
    finally:
        peer.stop()
    counters = guest.vm.counters()
    t.check(counters["host_tx_frames"] > 2 * counters["host_tx_packets"],
            f"large sends are segmented by the host: {counters['host_tx_frames']} frames of "
            f"{counters['host_tx_packets']} packets")
    t.check(counters["host_tlb_flushes"] == 0, "one processor has no other to flush")


@case(limit_s=180)
def linux_two_cpus(t):
    """Two processors: TLB flush and IPI by hypercall, a channel for each, disk and network over all of them."""
    source, target = t.random_disk("source.img", 32), t.random_disk("target.img", 16, seed=2)
    writes = storage.Writes(30, 32 * MIB, 16 * MIB, seed=2)
    guest = Guest(t, cpus=2, disks=[Disk(source), Disk(target, writable=True)],
                  files={"/etc/writes": writes.script()})
    check_bound(t, guest, channels=2)
    storage.check_parallel(t, guest, guest.disk(0), source)
    writes.run(t, guest, source, target)
    guest.dhcp()
    network.check_http(t, guest, 32 * MIB)
    for driver in ("hv_storvsc", "hv_netvsc"):
        used = guest.run(f"cat /sys/bus/vmbus/drivers/{driver}/*-*/channels/*/interrupts").split()
        t.check(all(int(n) > 0 for n in used), f"{driver}: interrupts of each channel: {used}")
    check_facilities(t, guest.check_log(), smp=True)
    guest.power_off()
    counters = guest.vm.counters()
    if BY_HYPERCALL:
        t.check(counters["host_tlb_flushes"] > 0 and counters["host_ipis"] > 0, f"flushes and IPIs: {counters}")


@case(limit_s=120, arch="x86_64")
def linux_remote_flush(t):
    """Two processors: a mapping that changes is changed for a thread on the other when the flush hypercall returns."""
    program = t.path("staletlb")
    t.run("cc", "-O2", "-Wall", "-Werror", "-pthread", "-o", program,
          os.path.join(labvm.ROOT, "tests", "linux", "staletlb.c"))
    try:
        files = linuximage.with_libraries([program])
    except linuximage.Unavailable as why:
        raise Skip(str(why)) from None
    guest = Guest(t, cpus=2, disks=[], modules=[], files={**files, "/bin/staletlb": files.pop(program)})
    seen = guest.run(f"staletlb {FLUSH_ROUNDS}")
    t.check(re.search(rf"^staletlb: {FLUSH_ROUNDS} rounds, \d+ reads, 0 stale$", seen, re.M), seen)
    guest.check_log()
    guest.power_off()
    flushes = guest.vm.counters()["host_tlb_flushes"]
    t.check(flushes >= FLUSH_ROUNDS, f"the flushes came as hypercalls: {flushes}")


def by_firmware(t, cpus):
    source = t.random_disk("source.img", 16)
    guest = Guest(t, firmware=True, cpus=cpus, disks=[Disk(source)], mem="512M")
    check_bound(t, guest, channels=cpus)
    guest.run("[ -d /sys/firmware/efi ]")
    storage.check_whole(t, guest, guest.disk(0), t.path("boot.img"))
    storage.check_parallel(t, guest, guest.disk(1), source)
    guest.dhcp()
    network.check_http(t, guest, 8 * MIB)
    check_facilities(t, guest.check_log(), smp=cpus > 1)
    guest.power_off()


@case(limit_s=150)
def linux_uefi(t):
    """Firmware starts Linux with the lab below, as on a Generation 2 machine."""
    by_firmware(t, 1)


@case(limit_s=180)
def linux_uefi_two_cpus(t):
    """The same with two processors."""
    by_firmware(t, 2)


OFF, RESTART = ("off", "power off", labvm.POWER_OFF), ("restart", "restart", labvm.REBOOT)


def on_version(version, end, poorer, timer):
    def run(t):
        source, target = t.random_disk("source.img", 8), t.random_disk("target.img", 8, seed=2)
        writes = storage.Writes(10, 8 * MIB, 8 * MIB, seed=3)
        guest = Guest(t, lab={"vmbus.version": version, **poorer}, disks=[Disk(source), Disk(target, writable=True)],
                      files={"/etc/writes": writes.script()})
        check_bound(t, guest)
        storage.check_whole(t, guest, guest.disk(0), source)
        writes.run(t, guest, source, target)
        guest.dhcp()
        network.check_ping(t, guest, count=2)
        network.check_http(t, guest, 4 * MIB)
        check_facilities(t, guest.check_log(), version, ipi="hv.hints" not in poorer)
        if ARCH == "x86_64":                          # arm64 has one kind of timer, the processor's
            check_timer(t, guest, *timer)
        guest.end_by_host(*end)
    run.__name__ = "linux_vmbus_" + version.replace(".", "_")
    run.__doc__ = f"VMBus limited to {version} by the host: disk and network work, and its request to end."
    return run


def check_timer(t, guest, name, interrupt):
    """Which timer ticks while a program computes: HVS synthetic, HYP synthetic by messages, LOC the local APIC's."""
    t.equal(guest.run("cat /sys/devices/system/clockevents/clockevent0/current_device").strip(), name, "its name")
    before, after = ({row: int(n) for row, n in re.findall(r"^ *(LOC|HVS|HYP): +(\d+)", text, re.M)} for text in
                     guest.run("cat /proc/interrupts; n=0; while [ $n -lt 50000 ]; do n=$((n + 1)); done; echo; "
                               "cat /proc/interrupts").split("\n\n"))
    ticks = {row: n - before[row] for row, n in after.items()}
    t.check(ticks[interrupt] > 10 and all(n < ticks[interrupt] // 2 for row, n in ticks.items() if row != interrupt),
            f"{name} ticks by {interrupt}: {ticks}")


# Hosts of that age had less to offer: no synthetic timers; no direct ones; auto-EOI, and no IPIs by hypercall.
DIRECT, MESSAGES, LOCAL = ("Hyper-V clockevent", "HVS"), ("Hyper-V clockevent", "HYP"), ("lapic", "LOC")
NO_STIMER, NO_DIRECT = {"hv.access": "0xa67"}, {"hv.features": hex(1 << 8 | 1 << 10)}
AUTO_EOI = {"hv.hints": hex(1 << 5 | 1 << 2)}
for number, ending, lacking, timer in (("5.2", OFF, {}, DIRECT), ("5.0", RESTART, {}, DIRECT),
                                       ("4.0", OFF, NO_STIMER, LOCAL), ("3.0", RESTART, NO_DIRECT, MESSAGES),
                                       ("2.4", OFF, AUTO_EOI, DIRECT)):
    case(limit_s=90)(on_version(number, ending, lacking, timer))


@case(limit_s=150)
def linux_reload(t):
    """Adapters and drivers come and go: link, MTU, NIC, modules; at last a panic that the host hears."""
    source = t.random_disk("source.img", 8)
    nets = [UserNet(FORWARD), UserNet({})]
    modules = [name for name in MODULES if name != "hv_balloon"]      # which cannot be unloaded
    guest = Guest(t, disks=[Disk(source)], cpus=2, net=nets, modules=modules)
    guest.dhcp()
    check_carrier(t, guest)
    for mtu in (1400, 1500):
        guest.run(f"ip link set eth0 mtu {mtu}")
        guest.dhcp()
        network.check_ping(t, guest, count=2, size=mtu - 28)
    for turn in range(2):
        guest.vm.command("nic-remove 1", r"^lab-command: nic-remove 1.*: done")
        guest.wait_for("[ $(ls -d /sys/class/net/eth* | wc -l) = 1 ]", f"an adapter goes, turn {turn}")
        guest.vm.command("nic-add 1", r"^lab-command: nic-add 1.*: done")
        guest.wait_for("[ $(ls -d /sys/class/net/eth* | wc -l) = 2 ]", f"and comes again, turn {turn}")
    guest.dhcp("eth1")

    guest.run(f"for m in {' '.join(reversed(modules))}; do rmmod $m || break; done; ! [ -d /sys/class/net/eth0 ]")
    guest.run(f"load_modules {' '.join(modules)}")
    storage.check_parallel(t, guest, guest.disk(0), source)
    guest.dhcp()
    network.check_http(t, guest, 4 * MIB)
    check_facilities(t, guest.check_log(allowed=[r"Synchronize Cache\(10\) failed"]), smp=True)
    text = guest.crash()
    t.check("sysrq triggered crash" in text, f"the host has the text of the panic: {text[-500:]}")


def check_carrier(t, guest):
    for state, carrier in (("down", 0), ("up", 1)):
        guest.vm.command(f"link 0 {state}", rf"^lab-command: link 0 {state}.*: done")
        guest.wait_for(f"grep -qx {carrier} /sys/class/net/eth0/carrier", f"carrier after link {state}")
