/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The crash report to the hypervisor: five registers and the panic's text. Source: TLFS, guest crash enlightenment.
 *
 * Runs inside panic(): no allocation, no lock, no page-table walk; the text's address was computed beforehand. One
 * write of CRASH_CTL per crash: in its message form P3 and P4 name the text instead of carrying detail and stack
 * pointer. An isolated machine keeps the text to itself, which may quote private memory, unless hv.crash_text=yes.
 */
#define LOG_ROOM "hv"
#include "hv/hv_internal.h"
#include <string.h>

static paddr_t text_page;              /* none: registers only */

static void report_crash(struct panic_report *report)
{
    uint64_t control = HV_CRASH_CTL_NOTIFY;

    if (!hv_state.present)
        return;                        /* hv_shutdown was here already */
    report->params[1] = hv_state.guest_os_id;
    if (!pa_is_none(text_page) && report->text && report->text_bytes) {
        size_t n = MIN(report->text_bytes, (size_t)HV_CRASH_MESSAGE_MAX);
        memcpy(arch_phys_to_virt(text_page), report->text, n);
        report->params[3] = hv_gpa(text_page).v;
        report->params[4] = n;
        control |= HV_CRASH_CTL_MESSAGE;
    }
    for (unsigned i = 0; i < HV_CRASH_PARAMETERS; i++)
        arch_hv_reg_write(HV_X64_MSR_CRASH_P0 + i, report->params[i]);
    arch_hv_reg_write(HV_X64_MSR_CRASH_CTL, control);
}

void hv_crash_init(void)
{
    static struct panic_reporter reporter = {.report = report_crash};
    static bool registered;
    bool give_text = config_bool("hv.crash_text", !hv_isolated());
    uint64_t capabilities;

    if (!hv_state.present)
        return;
    if (!hv_feature(HV_FEATURE_CRASH_MSRS)) {
        log_info("the host takes no crash reports");
        return;
    }
    if (!arch_hv_reg_read(HV_X64_MSR_CRASH_CTL, &capabilities)) {
        log_info("crash registers are announced but not readable: no crash report to the host");
        return;
    }
    if ((capabilities & HV_CRASH_CTL_MESSAGE) && give_text && pa_is_none(text_page))
        text_page = page_alloc_zeroed(0);
    if (!registered)
        panic_add_reporter(&reporter);
    registered = true;
}
