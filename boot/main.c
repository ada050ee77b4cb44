/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The story of bring-up, and the only file that knows its order. Each phase says what is available after it; each is
 * stamped, so that the boot budget can be read on the status page.
 *
 *    1 console      log lines reach the serial port              9 random     numbers for protocols, or a warning
 *    2 config       key=value words; loglevel=                  10 crash      panics are reported to the hypervisor
 *    3 memory       pages, mapper, heap; frame buffer console   11 tlb        flushes by hypercall
 *    4 runtime      tasks, events, timers                       12 synic      messages and events from the host
 *    5 acpi         power-off, restart, PM timer                13 bus        VMBus; disks and NICs of drivers appear
 *    6 hypervisor   hypercalls                                  14 network    lwIP on the first NIC
 *    7 interrupts   local interrupt controller                  15 application
 *    8 time         clock and one-shot timer                    16 services   shutdown, time, keys from the host
 *
 * Without Hyper-V underneath the phases that need it are passed over, and the application starts all the same.
 */
#define LOG_ROOM "boot"
#include <string.h>
#include "boot/acpi.h"
#include "boot/figures.h"
#include "boot/boot_info.h"
#include "boot/selftest.h"
#include "drivers/drivers.h"
#include "hv/hv.h"
#include "rt/candela.h"
#include "rt/net/net.h"
#include "rt/services.h"
#include "vmbus/vmbus.h"

#define APP_STACK_BYTES  65536
#define APP_ARGS_MAX     32
#define APP_ARGS_BYTES   1024
#define SERVICES_WAIT_US 500000ull

static void phase(const char *name)
{
    boot_phase_mark(name);
    log_debug("phase %s", name);
}

/* ---- the ends ---- */

static void leave_host(void *arg)
{
    (void)arg;
    vmbus_disconnect(false);
    hv_shutdown();
}

static void end_by_reboot(void)
{
    vmbus_disconnect(true);
    arch_reboot();
}

static void end_by_power_off(void)
{
    vmbus_disconnect(true);
    arch_power_off();
}

/* panic=halt (the default: the text stays on the screen), reboot or off; and -1, with which loaders that expect Linux
 * ask for a restart. */
static void choose_panic_end(void)
{
    const char *how = config_string("panic", "halt");
    if (strcmp(how, "reboot") == 0 || strcmp(how, "-1") == 0)
        panic_set_end(end_by_reboot);
    else if (strcmp(how, "off") == 0)
        panic_set_end(end_by_power_off);
    else if (strcmp(how, "halt") != 0)
        log_warn("panic=%s: expected halt, reboot or off", how);
}

static void note_fault(vaddr_t address, char *text, size_t bytes)
{
    const struct task *task = task_of_stack(address);
    if (task != NULL && mm_is_guard(address))
        ksnprintf(text, bytes, "stack overflow in task %s", task_name(task));
    else if (mm_is_guard(address))
        ksnprintf(text, bytes, "a guard page");
}

/* ---- single phases that need more than a line ---- */

static void configure(const struct boot_info *boot)
{
    enum log_level level;
    const char *word;
    config_parse(boot->cmdline);
    word = config_string("loglevel", "info");
    if (log_parse_level(word, &level))
        log_set_level(level);
    else
        log_warn("loglevel=%s: expected err, warn, info, debug or trace", word);
    choose_panic_end();
}

static void seed_random(const struct boot_info *boot)
{
    uint8_t bytes[64];
    size_t n = acpi_random_bytes(bytes, sizeof bytes);
    if (boot->random_seed_bytes != 0)
        rt_random_seed(boot->random_seed, MIN((size_t)boot->random_seed_bytes, sizeof boot->random_seed), "firmware");
    if (n != 0)
        rt_random_seed(bytes, n, "the host's OEM0 table");
    memset(bytes, 0, sizeof bytes);
    if (!rt_random_ready())
        log_warn("no source of random numbers: neither the processor, the firmware nor the host offers one");
}

/* Message and event pages, crash report, TLB, then the bus with its drivers. */
static void connect_host(void)
{
    static struct shutdown_hook leave = {.fn = leave_host}, flush = {.fn = shutdown_flush_disks};
    int error;
    shutdown_add_hook(&leave);
    shutdown_add_hook(&flush);       /* the newer runs first: disks, then the bus they are on */
    figures_register();
    storvsc_register();
    netvsc_register();
    balloon_register();
    hv_crash_init();
    task_dump_on_panic();        /* before the report, which may be the last thing this machine does */
    phase("crash");
    hv_tlb_init();
    phase("tlb");
    if (!hv_can_vmbus())
        return;
    error = hv_synic_init();
    if (error != 0) {
        log_err("no synthetic interrupts: %s; no VMBus devices", error_name(error));
        return;
    }
    phase("synic");
    error = vmbus_connect();
    if (error != 0)
        log_err("no VMBus: %s; no disks, no network", error_name(error));
    phase("bus");
}

/* The host's services for its guests. Nobody waits for them, so what the application waits for comes first: an address,
 * or the moment in which there would have been one. */
static void open_services(void)
{
    net_wait_ready(SERVICES_WAIT_US);
    ic_register();
    phase("services");
}

/* ---- the application ---- */

static void run_app(void *arg)
{
    static char words[APP_ARGS_BYTES];
    static char *argv[APP_ARGS_MAX + 1];
    int argc = 0, code;
    char *p = words;
    (void)arg;
    if (ksnprintf(words, sizeof words, "%s %s", app_name, config_string("args", "")) >= (int)sizeof words)
        log_warn("args= is cut at %zu bytes", sizeof words - 1);
    while (argc < APP_ARGS_MAX) {
        while (*p == ' ')
            *p++ = '\0';
        if (*p == '\0')
            break;
        argv[argc++] = p;
        while (*p != ' ' && *p != '\0')
            p++;
    }
    phase("application");
    code = app_main(argc, argv);
    log_info("%s returned %d", app_name, code);
    machine_shutdown(code);
}

void kernel_main(struct boot_info *boot)
{
    const char *selftest;
    int error;
    console_uart_init();             /* first: what the processor lacks must be said somewhere */
    arch_cpu_init();
    boot_phases_begin(boot->entry_counter);
    phase("console");

    log_info("Candela %s (%s) on %s, started by %s; %s", candela_version(), app_name, ARCH_NAME, boot->loader,
             arch_cpu_model());
    if (boot->note[0] != '\0')
        log_warn("%s", boot->note);
    candela_set_loader(boot->loader);
    configure(boot);
    phase("config");

    mm_init(boot->regions, boot->region_count);
    console_framebuffer_init(&boot->framebuffer);
    phase("memory");

    rt_init();
    arch_set_fault_note(note_fault);
    phase("runtime");

    if (!acpi_init(boot->acpi_rsdp))
        arch_platform_set(&boot->platform);
    console_uart_init();             /* where the tables alone know a port */
    phase("acpi");
    hv_init();
    phase("hypervisor");
    error = arch_irq_init();
    if (error != 0)
        log_err("no interrupt controller: %s", error_name(error));
    phase("interrupts");
    hv_clock_init();
    log_set_clock(rt_now_us);
    arch_irq_enable();
    if (boot->firmware_unix_s != 0)
        wall_seed(boot->firmware_unix_s, rt_now_100ns());
    phase("time");
    seed_random(boot);
    phase("random");
    if (hv_present())
        connect_host();
    else
        task_dump_on_panic();

    selftest = config_string("selftest", "");
    if (selftest[0] != '\0')
        selftest_run(selftest);

    net_init();
    phase("network");
    if (task_spawn(app_name, run_app, NULL, APP_STACK_BYTES) == NULL)
        panic("no memory for the application's stack");
    task_yield();
    config_report_unknown();
    if (hv_present())
        open_services();
    machine_attend();
}
