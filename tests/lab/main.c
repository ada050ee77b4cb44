/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lab's kernel_main: brings up what it borrows from the kernel (memory, exceptions, log), then the hypervisor, the
 * clock, the model, the guest.
 *
 * The lab's own exceptions are still caught by the kernel's handlers, which end in panic() and so in exit code
 * LAB_END_FAULT.
 */
#define LOG_ROOM "lab"
#include "tests/lab/direct.h"
#include "tests/lab/fwcfg.h"

#define FIRMWARE_OPTIONS "opt/lab/options"

static bool port_ready;

static void console_write(struct log_sink *sink, const char *text, size_t bytes)
{
    (void)sink;
    arch_console_write(text, bytes);
}

/* The guest's console, for what would else be said to nobody. */
static void use_console(void)
{
    static struct log_sink console = {.write = console_write};
    if (arch_console_init())
        log_add_sink(&console);
}

static void end_after_panic(void)
{
    if (!port_ready)
        use_console();
    lab_end(LAB_END_FAULT, "panic in the lab");
}

/* The allocator gets the lab's part of the machine only; the rest is the guest's and is never touched without need. */
static void start_memory(const struct boot_info *boot)
{
    static struct mm_region own[BOOT_MAX_REGIONS];
    uint64_t own_end = machine_layout.ram + LAB_DIRECT_BYTES;
    unsigned n = 0;
    for (unsigned i = 0; i < boot->region_count; i++) {
        struct mm_region r = boot->regions[i];
        if (!lab_firmware && r.start.v >= own_end)
            continue;
        if (!lab_firmware)
            r.bytes = MIN(r.bytes, own_end - r.start.v);
        own[n++] = r;
    }
    mm_init(own, n);
}

/* Where the port needs memory to be reached; what was logged before comes out now. */
static void start_serial(const struct boot_info *boot)
{
    port_ready = machine_serial_init(boot);
    if (port_ready) {
        serial_init();
        return;
    }
    use_console();
    lab_end(LAB_END_FAULT, "no serial port of the lab's own: QEMU needs -device pci-serial");
}

static void must(int error, const char *what)
{
    if (error) {
        log_err("%s: %s", what, error_name(error));
        lab_end(LAB_END_FAULT, "the lab could not start");
    }
}

NORETURN void kernel_main(struct boot_info *boot)
{
    port_ready = machine_serial_init(boot);
    if (port_ready)
        serial_init();
    panic_set_end(end_after_panic);
    log_info("Candela lab, started by %s", boot->loader);
    if (boot->note[0])
        log_warn("%s", boot->note);
    firmware_handoff(boot);
    arch_cpu_init();
    start_memory(boot);
    if (!port_ready)
        start_serial(boot);
    if (lab_firmware)
        fwcfg_read_text(FIRMWARE_OPTIONS, boot->cmdline, sizeof(boot->cmdline));
    options_parse(boot->cmdline);
    must(machine_init(boot), "hypervisor");
    must(clock_init(), "clock");
    log_set_clock(clock_now_us);
    must(nested_init(), "second-stage tables");

    lab_lock();                         /* processors that start wait until the machine is there */
    must(machine_vcpus(lab_options.cpus), "vcpu");
    if (lab_firmware)
        firmware_memory();
    else
        direct_memory(boot);
    must(glue_init(), "host model");
    if (lab_firmware)
        firmware_start(vcpu_at(0));
    else
        direct_load(boot);
    log_info("counter %llu Hz; the guest starts", (unsigned long long)clock_counter_hz());
    lab_unlock();
    vcpu_run(vcpu_at(0));
}
