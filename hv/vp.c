/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtual processors: their index, their registers by hypercall, and the trust level we run at.
 * Source: TLFS, HvCallGetVpRegisters, HvCallSetVpRegisters, VSM.
 *
 * Both calls take any number of registers and go in batches: a Get is bounded by its output (16 bytes a register), a
 * Set by its input (32 bytes a register).
 */
#define LOG_ROOM "hv"
#include "hv/hv_internal.h"
#include <string.h>

#define GET_BATCH MIN_CONST(HV_CALL_ELEMENTS(sizeof(struct hv_vp_registers), sizeof(uint32_t)), \
                            HV_CALL_ELEMENTS(0, sizeof(struct hv_register_value)))
#define SET_BATCH HV_CALL_ELEMENTS(sizeof(struct hv_vp_registers), sizeof(struct hv_register_assignment))
#define MIN_CONST(a, b) ((a) < (b) ? (a) : (b))

_Static_assert(GET_BATCH == 128 && GET_BATCH * sizeof(struct hv_register_value) <= HV_CALL_HALF, "output fits");
_Static_assert(SET_BATCH == 63 && sizeof(struct hv_vp_registers) + SET_BATCH * sizeof(struct hv_register_assignment) <=
               HV_CALL_HALF, "input fits its half");

uint32_t hv_vp_index(void)
{
    static uint32_t cached[ARCH_MAX_CPUS];
    static bool known[ARCH_MAX_CPUS];
    unsigned cpu = arch_cpu_index();

    if (!known[cpu]) {
        uint64_t v;
        bool told = hv_access(HV_ACCESS_VP_INDEX) && arch_hv_reg_read(HV_X64_MSR_VP_INDEX, &v) && v < UINT32_MAX;
        cached[cpu] = told ? (uint32_t)v : cpu;
        known[cpu] = hv_state.present;
    }
    return cached[cpu];
}

void hv_vp_online(uint32_t vp)
{
    if (vp >= HV_VP_BANKS * HV_VP_SET_BANK_BITS) {
        log_warn("VP %u is beyond what a processor set can name", vp);
        return;
    }
    if (!(hv_state.online[vp / 64] & BIT(vp % 64)))
        hv_state.online_count++;
    hv_state.online[vp / 64] |= BIT(vp % 64);
}

/* Header of both calls, in the input half. */
static void *begin(uint32_t vp, uint8_t vtl)
{
    struct hv_vp_registers *in = hv_call_input();

    *in = (struct hv_vp_registers){.partition_id = HV_PARTITION_ID_SELF, .vp_index = vp, .target_vtl = vtl};
    return in + 1;
}

static int finish(uint16_t status, const char *what, uint32_t name)
{
    if (status == HV_STATUS_SUCCESS)
        return 0;
    log_debug("%s VP register 0x%08x: %s", what, name, hv_status_name(status));
    return status == HV_STATUS_ACCESS_DENIED || status == HV_STATUS_INVALID_HYPERCALL_CODE ? -E_NOTSUP : -E_REFUSED;
}

/* vp: an index or HV_VP_INDEX_SELF. vtl: HV_INPUT_VTL_USE | level, or 0 for the current one. */
int hv_get_vp_registers(uint32_t vp, uint8_t vtl, const uint32_t *names, struct hv_register_value *values,
                        unsigned count)
{
    while (count) {
        unsigned n = count < GET_BATCH ? count : GET_BATCH, done;
        void *list = begin(vp, vtl);

        memcpy(list, names, n * sizeof(*names));
        uint16_t status = hv_call_rep(HVCALL_GET_VP_REGISTERS, 0, n, true, &done);
        memcpy(values, hv_call_output(), done * sizeof(*values));
        if (status != HV_STATUS_SUCCESS)
            return finish(status, "reading", names[done < n ? done : n - 1]);
        names += n;
        values += n;
        count -= n;
    }
    return 0;
}

int hv_set_vp_registers(uint32_t vp, uint8_t vtl, const uint32_t *names, const struct hv_register_value *values,
                        unsigned count)
{
    while (count) {
        unsigned n = count < SET_BATCH ? count : SET_BATCH, done;
        struct hv_register_assignment *list = begin(vp, vtl);

        for (unsigned i = 0; i < n; i++)
            list[i] = (struct hv_register_assignment){.name = names[i], .value = values[i]};
        uint16_t status = hv_call_rep(HVCALL_SET_VP_REGISTERS, 0, n, false, &done);
        if (status != HV_STATUS_SUCCESS)
            return finish(status, "writing", names[done < n ? done : n - 1]);
        names += n;
        values += n;
        count -= n;
    }
    return 0;
}

/* The level is 0 for every guest that is not part of the virtualization stack, and for hosts without the call. */
int hv_current_vtl(uint8_t *vtl)
{
    static const uint32_t name = HV_REGISTER_VSM_VP_STATUS;
    struct hv_register_value value;

    *vtl = 0;
    if (!hv_state.hypercalls || !hv_privilege(HV_PRIV_ACCESS_VSM) || !hv_privilege(HV_PRIV_ACCESS_VP_REGISTERS))
        return -E_NOTSUP;
    int rc = hv_get_vp_registers(HV_VP_INDEX_SELF, 0, &name, &value, 1);
    if (rc == 0)
        *vtl = value.low & HV_VSM_VP_STATUS_VTL_MASK;
    return rc;
}
