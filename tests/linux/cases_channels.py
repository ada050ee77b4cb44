# SPDX-License-Identifier: BSD-2-Clause
"""Stock Linux with several channels for each device: it asks for them, uses all, moves them, changes their number."""
import hashlib
import random
import re

import linuximage
import network
import storage
from cases_linux import check_bound
from guest import Guest
from harness import Skip, case
from labvm import Disk

MIB = 1 << 20
CPUS = 3
KEY = ":".join(f"{n:02x}" for n in random.Random(1).randbytes(40))
STORAGE, NETWORK = "/sys/bus/vmbus/drivers/hv_storvsc/*-*", "/sys/bus/vmbus/drivers/hv_netvsc/*-*"


def numbers(guest, command):
    return [int(n) for n in guest.run(command).split()]


def interrupts(guest, device):
    """Of each channel."""
    return numbers(guest, f"cat {device}/channels/*/interrupts")


def read_on(guest, cpu):
    """Forty requests by one processor."""
    guest.run(f"taskset -c {cpu} dd if=/dev/sda of=/dev/null bs=64k count=40 iflag=direct status=none")


def check_storage(t, guest, source):
    """A queue for each processor. The driver sends a request by the channel of the next one, and is told by that."""
    t.equal(sorted(guest.run("ls /sys/block/sda/mq").split()), [str(n) for n in range(CPUS)], "hardware queues")
    t.equal(sorted(numbers(guest, f"cat {STORAGE}/channels/*/cpu")), list(range(CPUS)), "processors of the channels")
    used = []
    for cpu in range(CPUS):
        before = interrupts(guest, STORAGE)
        read_on(guest, cpu)
        more = [b - a for a, b in zip(before, interrupts(guest, STORAGE))]
        used.append(more.index(max(more)))
        t.check(max(more) > 20 and sum(more) - max(more) < 10, f"interrupts by channel after 40 reads: {more}")
    t.equal(sorted(used), list(range(CPUS)), "channels by which the processors' reads went")
    storage.check_parallel(t, guest, "/dev/sda", source)


def check_queues(t, guest, count):
    """The network card has that many queues, and for each a channel on a processor of its own."""
    if count > 1:                                     # Linux 6.1 does not take the others away for a single one
        t.equal(sorted(guest.run("ls /sys/class/net/eth0/queues").split()),
                sorted(f"{way}-{n}" for way in ("rx", "tx") for n in range(count)), "queues of the card")
    found = re.search(r"Current hardware settings:.*?Combined:\s+(\d+)", guest.run("ethtool -l eth0"), re.S)
    t.equal(found[1], str(count), "ethtool -l")
    cpus = numbers(guest, f"cat {NETWORK}/channels/*/cpu")
    t.equal((len(cpus), len(set(cpus))), (count, count), f"processors of the channels: {cpus}")


def received(guest):
    """Frames by queue."""
    return [int(n) for n in re.findall(r"rx_queue_\d+_packets: (\d+)", guest.run("ethtool -S eth0"))]


def check_spread(t, guest, queues):
    """The frames of many connections come by those queues and by no other."""
    with network.Server(20000) as server:
        before = received(guest)
        guest.run(f"for n in $(seq 30); do wget -q -O - {server.url} | sha256sum; done | sort -u > /tmp/sums")
        more = [b - a for a, b in zip(before, received(guest))]
    t.equal(numbers(guest, "wc -l < /tmp/sums"), [1], "different contents among 30 connections")
    t.equal([n for n, frames in enumerate(more) if frames > 0], queues, f"queues with frames; by queue: {more}")


def check_table(t, guest, queues):
    """The table of receive-side scaling names those."""
    rows = re.findall(r"^\s+\d+:((?:\s+\d+)+)$", guest.run("ethtool -x eth0"), re.M)
    entries = [int(n) for row in rows for n in row.split()]
    t.equal((len(entries), sorted(set(entries))), (128, queues), "entries of the table; queues in it")


def change_queues(t, guest, count):
    """Another number of queues while a connection brings data: it goes on."""
    with network.Server(8 * MIB) as server:
        guest.run(f"wget -q -O /tmp/load {server.url} & sleep 0.2; ethtool -L eth0 combined {count}; wait")
        t.equal(guest.run("sha256sum /tmp/load; rm /tmp/load").split()[0], hashlib.sha256(server.content).hexdigest(),
                f"what came while {count} queues were made")
    check_queues(t, guest, count)


def move_channels(t, guest, device, cpu):
    """All interrupts of a device to one processor. The kernel asks the host for it, channel by channel."""
    guest.run(f"for c in {device}/channels/*; do echo {cpu} > $c/cpu || exit 1; done")
    t.equal(set(numbers(guest, f"cat {device}/channels/*/cpu")), {cpu}, "processors of the channels")


def callbacks(guest):
    """The bus's interrupts by processor: callbacks of the hypervisor on x86_64, a line of the GIC on arm64."""
    line = r"^ *(?:HYP|\d+):((?:\s+\d+)+) .*(?:Hypervisor callback|VMbus)"
    found = re.search(line, guest.run("cat /proc/interrupts"), re.M)
    return [int(n) for n in found[1].split()]


def check_moved(t, guest, source):
    """With all channels on processor 1, the others hear nothing of the disk, whoever reads."""
    for device in (STORAGE, NETWORK):
        move_channels(t, guest, device, 1)
    before = callbacks(guest)
    for cpu in range(CPUS):
        read_on(guest, cpu)
    more = [b - a for a, b in zip(before, callbacks(guest))]
    t.check(more[1] > 20 * CPUS and max(more[0], more[2]) < 20, f"interrupts by processor: {more}")
    storage.check_parallel(t, guest, "/dev/sda", source)


def check_offline(t, guest, source):
    """A processor that no channel is told on may go, and come back."""
    online = f"/sys/devices/system/cpu/cpu{CPUS - 1}/online"
    guest.run(f"echo 0 > {online}")
    storage.check_parallel(t, guest, "/dev/sda", source)
    guest.run(f"echo 1 > {online}")
    move_channels(t, guest, STORAGE, CPUS - 1)
    storage.check_parallel(t, guest, "/dev/sda", source)


def rebind_storage(t, guest, source):
    """The driver leaves the device, closes all channels, and comes back."""
    name = guest.run(f"basename {STORAGE}").strip()
    guest.run(f"echo {name} > /sys/bus/vmbus/drivers/hv_storvsc/unbind")
    guest.wait_for(f"[ $(ls /sys/bus/vmbus/devices/{name}/channels | wc -l) = 1 ]", "the sub-channels go")
    guest.run(f"echo {name} > /sys/bus/vmbus/drivers/hv_storvsc/bind")
    guest.wait_for("[ -b /dev/sda ]", "the disk comes back")
    check_storage(t, guest, source)


@case(limit_s=240)
def linux_channels(t):
    """Storage and network by as many channels as there are processors; another number, other tables and processors."""
    source = t.random_disk("source.img", 16)
    try:
        files = linuximage.with_libraries(["ethtool"])
    except linuximage.Unavailable as why:
        raise Skip(str(why)) from None
    guest = Guest(t, cpus=CPUS, disks=[Disk(source)], lab={"storvsp.channels": "6", "netvsp.queues": "8"}, files=files)
    check_bound(t, guest, channels=CPUS)
    check_storage(t, guest, source)
    check_queues(t, guest, CPUS)
    guest.dhcp()
    every = list(range(CPUS))
    check_table(t, guest, every)
    check_spread(t, guest, every)
    guest.run("ethtool -X eth0 weight 0 1 0")
    check_table(t, guest, [1])
    check_spread(t, guest, [1])
    guest.run("ethtool -X eth0 default")
    for count in (2, CPUS):
        change_queues(t, guest, count)
        check_spread(t, guest, list(range(count)))
    for count in (1, CPUS):
        change_queues(t, guest, count)
    guest.run(f"ethtool -X eth0 hkey {KEY}")             # with a single queue Linux 6.1 has forgotten its own
    check_table(t, guest, every)
    check_spread(t, guest, every)
    network.check_http(t, guest, 16 * MIB)
    check_moved(t, guest, source)
    check_offline(t, guest, source)
    rebind_storage(t, guest, source)
    guest.vm.command("nic-remove 0", r"^lab-command: nic-remove 0.*: done")
    guest.wait_for("! [ -e /sys/class/net/eth0 ]", "the card goes")
    guest.vm.command("nic-add 0", r"^lab-command: nic-add 0.*: done")
    guest.wait_for("[ -e /sys/class/net/eth0 ]", "the card comes back")
    guest.wait_for(f"[ $(ls {NETWORK}/channels | wc -l) = {CPUS} ]", "and its channels")
    guest.dhcp()
    network.check_http(t, guest, 4 * MIB)
    guest.check_log()
    guest.power_off()


@case(limit_s=120)
def linux_channels_of_old_hosts(t):
    """The oldest versions that have sub-channels, with monitor pages: two processors, a channel for each."""
    source = t.random_disk("source.img", 8)
    guest = Guest(t, cpus=2, disks=[Disk(source)], lab={"vmbus.version": "2.4", "vmbus.monitor": "1",
                                                        "storvsp.version": "5.1", "netvsp.version": "5.0"})
    check_bound(t, guest, channels=2)
    for cpu in range(2):
        read_on(guest, cpu)
    storage.check_parallel(t, guest, "/dev/sda", source)
    guest.dhcp()
    network.check_http(t, guest, 8 * MIB)
    used = interrupts(guest, STORAGE) + interrupts(guest, NETWORK)
    t.check(all(n > 0 for n in used), f"interrupts of each channel: {used}")
    guest.check_log()
    guest.power_off()
    counters = guest.vm.counters()
    t.check(counters["host_monitor_signals"] > 100, f"signals by monitor page: {counters['host_monitor_signals']}")
