# SPDX-License-Identifier: BSD-2-Clause
"""What the other side must have seen of a guest: checks over QEMU's and KVM's traces that several cases share."""
import errno
import re
import time

from harness import Failure

# Messages of the VMBus that QEMU traces by number.
REQUEST_OFFERS, INITIATE_CONTACT, UNLOAD, UNLOAD_RESPONSE = 3, 14, 16, 17
HV_STATUS_INVALID_CONNECTION_ID = 18
HELLO_WAITS_S = 5                                     # for a network, when there is none
START_S = 90
END_S = 60
CLOCK_ERROR = 1.1                                     # a guest that measures its counter on a busy machine errs
PANIC = r"^(?:\[ *[\d.]+\] )?panic: "


class Unseen(Failure):
    """What should have been seen, and was not."""


def wait_and_end(t, vm, loader="PVH"):
    """The application runs, waits 5 s by the guest's clock, returns, and the machine powers itself off. How late a busy
    machine is with any of that says nothing: the wait is not shorter, and the guest's clock never ahead of ours."""
    vm.expect(r"boot: phase application", START_S * (3 if loader == "UEFI" else 1))
    vm.expect(r"Hello from \S+, loaded by " + re.escape(loader), END_S)
    vm.expect(r"boot: hello returned 0", END_S)
    ours = time.monotonic() - vm.began
    guests = vm.guest_time("boot: hello returned")
    waited = guests - vm.guest_time("boot: phase application")
    t.check(waited >= HELLO_WAITS_S, f"a wait of 5 s takes {waited:.3f} s of the guest's clock")
    t.check(guests < ours * CLOCK_ERROR, f"{guests:.3f} s of the guest's clock, {ours:.3f} s of ours at most")
    t.note(f"{waited:.1f} s of its clock, all {guests:.1f} s of at most {ours:.1f} s")
    power_off(t, vm)


def power_off(t, vm):
    reason = vm.qmp.event("SHUTDOWN", END_S)["reason"]
    t.equal(reason, "guest-shutdown", "why QEMU ends")
    t.equal(vm.wait(END_S), 0, "QEMU's exit code")
    t.check(not re.search(PANIC, vm.console, re.M), "no panic")


def contacts(vm):
    return re.findall(r"^vmbus_initiate_contact version (\d+\.\d+) ", vm.trace, re.M)


def received(vm):
    """Types of the messages the guest sent, in order."""
    return [int(n) for n in re.findall(r"^vmbus_recv_message type (\d+) ", vm.trace, re.M)]


def negotiated(t, vm, version, asked):
    """By connection 1, after the versions `asked` in this order; the last is what the guest works with."""
    t.equal(contacts(vm), asked, "versions asked of QEMU")
    t.check(re.search(rf"vmbus: version {re.escape(version)}, message connection 1$", vm.console, re.M),
            f"the guest works with version {version} by connection 1")


def empty_bus(t, vm):
    """The list of offers was asked for, was empty, and that is no trouble."""
    t.equal(received(vm).count(REQUEST_OFFERS), 1, "requests for offers")
    t.check("vmbus_terminate_offers" in vm.trace and "vmbus_send_offer" not in vm.trace, "QEMU sent an empty list")
    t.check("vmbus: 0 offers, 0 of them served" in vm.console, "the guest says that nothing is offered")


def unloaded(t, vm):
    """The guest's last message is UNLOAD, and it waited for the answer, which it took from its slot."""
    t.equal(received(vm)[-1:], [UNLOAD], "the guest's last message")
    last = vm.trace.rindex(f"vmbus_recv_message type {UNLOAD} ")
    t.check(re.search(rf"vmbus_post_msg type {UNLOAD_RESPONSE} (?s:.*)vmbus_msg_cb message status 0", vm.trace[last:]),
            "the answer to UNLOAD reached the guest")


def messages_taken(t, vm):
    """Every message reached its slot. QEMU tells -EAGAIN when the last one is still there, and tries again after the
    guest's EOM: one that forgets it would stay there."""
    posted = len(re.findall(r"^vmbus_post_msg ", vm.trace, re.M))
    states = [int(n) for n in re.findall(r"vmbus_msg_cb message status (-?\d+)", vm.trace)]
    t.check(len(states) == posted and set(states) <= {0, -errno.EAGAIN} and states[-1:] == [0],
            f"{posted} messages were posted, with statuses {states}")


class Kvm:
    """KVM's trace, taken apart."""

    def __init__(self, text):
        self.msrs = [(way == "write", int(number, 16), int(value, 16), bool(fault)) for way, number, value, fault in
                     re.findall(r"kvm_msr: msr_(read|write) ([0-9a-f]+) = (?:0x)?([0-9a-f]+)( \(#GP\))?", text)]
        self.hypercalls = [int(code, 16) for code in re.findall(r"kvm_hv_hypercall: code 0x([0-9a-f]+) ", text)]
        self.results = [int(result, 16) & 0xFFFF for result in
                        re.findall(r"kvm_hv_hypercall_done: result 0x([0-9a-f]+)", text)]
        self.expirations = [(int(direct), int(result)) for direct, result in
                            re.findall(r"kvm_hv_stimer_expiration: .*direct (\d+) .*result (-?\d+)", text)]

    def written(self, number):
        return [value for write, msr, value, _ in self.msrs if write and msr == number]

    def reads(self, number):
        return sum(not write and msr == number for write, msr, _, _ in self.msrs)

    def refused(self):
        """Synthetic registers that KVM did not let the guest read or write."""
        return sorted({f"{'write' if write else 'read'} {msr:#x}" for write, msr, _, fault in self.msrs
                       if fault and msr >> 16 == 0x4000})


def nothing_refused(t, vm):
    """With hv-enforce-cpuid KVM refuses what its CPUID leaves do not grant: a guest that asks is never refused."""
    if vm.kernel_trace:
        vm.kernel_seen = Kvm(vm.kernel_text())
        t.equal(vm.kernel_seen.refused(), [], "accesses to synthetic registers that KVM refused")
