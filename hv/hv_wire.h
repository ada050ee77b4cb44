/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hv_wire.h: what the Hyper-V hypervisor defines, in numbers and layouts.
 *
 * Source: the Hypervisor Top Level Functional Specification (TLFS); the section is named at each group.
 * Assumes a little-endian machine. Holds nothing of our own: constants, packed structs, size and offset
 * assertions, and helpers that only pack or unpack one word. Used by the guest and by the model of the host.
 *
 * Units: a "tick" is 100 ns. A GPN is a guest physical address shifted right by 12; the hypervisor's page is
 * always 4096 bytes, whatever the guest's page size.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define HV_PAGE_SIZE   4096u
#define HV_PAGE_SHIFT  12
#define HV_PAGE_MASK   4095u
#define HV_TICKS_PER_SECOND 10000000ull

/* Hypercall blocks and shared pages are aligned to 8; saying so lets the compiler use whole, single accesses. */
#define HV_WIRE_ALIGNED __attribute__((packed, aligned(8)))
#define HV_WIRE_SIZE(type, bytes)          _Static_assert(sizeof(type) == (bytes), #type " has a fixed size")
#define HV_WIRE_OFFSET(type, field, bytes) \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field " has a fixed offset")

/* ---- CPUID (TLFS: feature discovery) ------------------------------------------------------------------ */

#define HV_CPUID_FEATURES_ECX_PRESENT     (1u << 31)     /* leaf 1, ECX: a hypervisor is present */

#define HV_CPUID_VENDOR                   0x40000000u    /* EAX: highest leaf; EBX, ECX, EDX: vendor */
#define HV_CPUID_INTERFACE                0x40000001u    /* EAX: interface signature */
#define HV_CPUID_VERSION                  0x40000002u
#define HV_CPUID_FEATURES                 0x40000003u    /* EAX, EBX: privileges; ECX, EDX: features */
#define HV_CPUID_RECOMMENDATIONS          0x40000004u
#define HV_CPUID_LIMITS                   0x40000005u
#define HV_CPUID_HARDWARE                 0x40000006u
#define HV_CPUID_CPU_MANAGEMENT           0x40000007u
#define HV_CPUID_NESTED                   0x4000000Au
#define HV_CPUID_ISOLATION                0x4000000Cu
#define HV_CPUID_VS_VENDOR                0x40000080u
#define HV_CPUID_VS_INTERFACE             0x40000081u
#define HV_CPUID_VS_PROPERTIES            0x40000082u

#define HV_CPUID_VENDOR_EBX               0x7263694Du    /* "Micr" */
#define HV_CPUID_VENDOR_ECX               0x666F736Fu    /* "osof" */
#define HV_CPUID_VENDOR_EDX               0x76482074u    /* "t Hv" */
#define HV_CPUID_INTERFACE_HV1            0x31237648u    /* "Hv#1" */
#define HV_CPUID_VS_INTERFACE_VS1         0x31235356u    /* "VS#1" */
#define HV_CPUID_MIN_LEAF                 0x40000005u    /* a conforming hypervisor has at least these */

/* Leaf 3, EAX: access to synthetic registers. The same bits are word 0 of the arm64 privilege register. */
#define HV_ACCESS_VP_RUNTIME              (1u << 0)
#define HV_ACCESS_REFERENCE_COUNTER       (1u << 1)
#define HV_ACCESS_SYNIC                   (1u << 2)
#define HV_ACCESS_STIMER                  (1u << 3)
#define HV_ACCESS_INTR_CTRL               (1u << 4)
#define HV_ACCESS_HYPERCALL               (1u << 5)
#define HV_ACCESS_VP_INDEX                (1u << 6)
#define HV_ACCESS_RESET                   (1u << 7)
#define HV_ACCESS_STATS                   (1u << 8)
#define HV_ACCESS_REFERENCE_TSC           (1u << 9)
#define HV_ACCESS_GUEST_IDLE              (1u << 10)
#define HV_ACCESS_FREQUENCY               (1u << 11)
#define HV_ACCESS_DEBUG                   (1u << 12)
#define HV_ACCESS_REENLIGHTENMENT         (1u << 13)
#define HV_ACCESS_TSC_INVARIANT           (1u << 15)

/* Leaf 3, EBX: hypercall privileges. */
#define HV_PRIV_CREATE_PARTITIONS         (1u << 0)
#define HV_PRIV_ACCESS_PARTITION_ID       (1u << 1)
#define HV_PRIV_POST_MESSAGES             (1u << 4)
#define HV_PRIV_SIGNAL_EVENTS             (1u << 5)
#define HV_PRIV_CPU_MANAGEMENT            (1u << 12)     /* only the root partition has it */
#define HV_PRIV_EXT_GVA_RANGES_FLUSH      (1u << 15)
#define HV_PRIV_ACCESS_VSM                (1u << 16)
#define HV_PRIV_ACCESS_VP_REGISTERS       (1u << 17)
#define HV_PRIV_FAST_HYPERCALL_OUTPUT     (1u << 19)
#define HV_PRIV_EXTENDED_HYPERCALLS       (1u << 20)
#define HV_PRIV_START_VP                  (1u << 21)
#define HV_PRIV_ISOLATION                 (1u << 22)     /* leaf HV_CPUID_ISOLATION is valid */

/* Leaf 3, EDX: features. */
#define HV_FEATURE_XMM_INPUT              (1u << 4)
#define HV_FEATURE_GUEST_IDLE             (1u << 5)
#define HV_FEATURE_FREQUENCY_MSRS         (1u << 8)
#define HV_FEATURE_CRASH_MSRS             (1u << 10)
#define HV_FEATURE_EXT_GVA_RANGES_FLUSH   (1u << 14)
#define HV_FEATURE_XMM_OUTPUT             (1u << 15)
#define HV_FEATURE_SINT_POLLING           (1u << 17)
#define HV_FEATURE_STIMER_DIRECT          (1u << 19)

/* arm64, word 2 of the privilege register: the same facilities sit at other bits. */
#define HV_ARM64_FEATURE_FREQUENCY        (1u << 6)
#define HV_ARM64_FEATURE_CRASH            (1u << 8)
#define HV_ARM64_FEATURE_SINT_POLLING     (1u << 12)
#define HV_ARM64_FEATURE_STIMER_DIRECT    (1u << 13)

/* Leaf 4, EAX: recommendations; EBX: spin retries before HVCALL_NOTIFY_LONG_SPIN_WAIT (all ones: never). */
#define HV_RECOMMEND_AS_SWITCH            (1u << 0)
#define HV_RECOMMEND_LOCAL_FLUSH          (1u << 1)
#define HV_RECOMMEND_REMOTE_FLUSH         (1u << 2)
#define HV_RECOMMEND_APIC_MSRS            (1u << 3)
#define HV_RECOMMEND_RESET_MSR            (1u << 4)
#define HV_RECOMMEND_RELAXED_TIMING       (1u << 5)
#define HV_RECOMMEND_NO_AUTO_EOI          (1u << 9)      /* AutoEOI is deprecated: do not use it */
#define HV_RECOMMEND_CLUSTER_IPI          (1u << 10)
#define HV_RECOMMEND_EX_PROCESSOR_MASKS   (1u << 11)
#define HV_RECOMMEND_NESTED               (1u << 12)
#define HV_SPIN_RETRY_NEVER               0xFFFFFFFFu

/* arm64, word 0 of HV_REGISTER_FEATURES; bit 0, restart by register, is never set there. */
#define HV_ARM64_RECOMMEND_RELAXED_TIMING (1u << 1)
#define HV_ARM64_RECOMMEND_CLUSTER_IPI    (1u << 2)
#define HV_ARM64_RECOMMEND_EX_PROCESSOR_MASKS (1u << 3)
#define HV_ARM64_RECOMMEND_NESTED         (1u << 4)

/* Leaf HV_CPUID_ISOLATION (arm64: register HV_REGISTER_ISOLATION_CONFIG). */
#define HV_ISOLATION_EAX_PARAVISOR        (1u << 0)
#define HV_ISOLATION_EBX_TYPE_MASK        0xFu
#define HV_ISOLATION_EBX_BOUNDARY_ACTIVE  (1u << 5)
#define HV_ISOLATION_EBX_BOUNDARY_SHIFT   6              /* 6 bits: number of the shared GPA boundary bit */
#define HV_ISOLATION_EBX_BOUNDARY_MASK    0x3Fu
enum hv_isolation_type {
    HV_ISOLATION_NONE = 0,
    HV_ISOLATION_VBS = 1,
    HV_ISOLATION_SNP = 2,
    HV_ISOLATION_TDX = 3,
    HV_ISOLATION_CCA = 4,
};

/* ---- Synthetic MSRs of x86_64 (TLFS: the section of each facility) ------------------------------------ */

#define HV_X64_MSR_GUEST_OS_ID            0x40000000u
#define HV_X64_MSR_HYPERCALL              0x40000001u
#define HV_X64_MSR_VP_INDEX               0x40000002u
#define HV_X64_MSR_RESET                  0x40000003u
#define HV_X64_MSR_VP_RUNTIME             0x40000010u
#define HV_X64_MSR_TIME_REF_COUNT         0x40000020u
#define HV_X64_MSR_REFERENCE_TSC          0x40000021u
#define HV_X64_MSR_TSC_FREQUENCY          0x40000022u
#define HV_X64_MSR_APIC_FREQUENCY         0x40000023u
#define HV_X64_MSR_EOI                    0x40000070u
#define HV_X64_MSR_ICR                    0x40000071u
#define HV_X64_MSR_TPR                    0x40000072u
#define HV_X64_MSR_VP_ASSIST_PAGE         0x40000073u
#define HV_X64_MSR_SCONTROL               0x40000080u
#define HV_X64_MSR_SVERSION               0x40000081u
#define HV_X64_MSR_SIEFP                  0x40000082u
#define HV_X64_MSR_SIMP                   0x40000083u
#define HV_X64_MSR_EOM                    0x40000084u
#define HV_X64_MSR_SIRBP                  0x40000085u
#define HV_X64_MSR_SINT0                  0x40000090u    /* sixteen in succession */
#define HV_X64_MSR_SINT15                 0x4000009Fu
#define HV_X64_MSR_STIMER0_CONFIG         0x400000B0u    /* timer n: CONFIG at + 2n, COUNT at + 2n + 1 */
#define HV_X64_MSR_STIMER0_COUNT          0x400000B1u
#define HV_X64_MSR_STIMER3_COUNT          0x400000B7u
#define HV_X64_MSR_GUEST_IDLE             0x400000F0u
#define HV_X64_MSR_CRASH_P0               0x40000100u    /* five in succession */
#define HV_X64_MSR_CRASH_P4               0x40000104u
#define HV_X64_MSR_CRASH_CTL              0x40000105u
#define HV_X64_MSR_REENLIGHTENMENT_CTL    0x40000106u
#define HV_X64_MSR_TSC_EMULATION_CTL      0x40000107u
#define HV_X64_MSR_TSC_EMULATION_STATUS   0x40000108u
#define HV_X64_MSR_TSC_INVARIANT_CTL      0x40000118u
#define HV_X64_MSR_SINT(n)                (HV_X64_MSR_SINT0 + (uint32_t)(n))
#define HV_X64_MSR_STIMER_CONFIG(n)       (HV_X64_MSR_STIMER0_CONFIG + 2u * (uint32_t)(n))
#define HV_X64_MSR_STIMER_COUNT(n)        (HV_X64_MSR_STIMER0_COUNT + 2u * (uint32_t)(n))
#define HV_X64_MSR_GHCB                   0xC0010130u    /* AMD: where a paravisor shows the GHCB page */

/* Registers that hold a page: bit 0 enables, bits 63:12 are the GPN (HYPERCALL, REFERENCE_TSC, SIEFP, SIMP,
 * VP_ASSIST_PAGE). Bits 11:1 are to be preserved by the writer. */
#define HV_MSR_PAGE_ENABLE                (1ull << 0)
#define HV_MSR_PAGE_PRESERVE_MASK         0xFFEull
#define HV_MSR_PAGE_GPA_MASK              (~0xFFFull)
#define HV_MSR_HYPERCALL_LOCKED           (1ull << 1)    /* HYPERCALL only: no more writes until reset */
#define HV_SCONTROL_ENABLE                (1ull << 0)
#define HV_SYNIC_VERSION_1                1ull
#define HV_RESET_NOW                      (1ull << 0)

/* Guest OS id, open source encoding (TLFS: reporting the guest OS identity). */
#define HV_GUEST_OS_OPEN_SOURCE           (1ull << 63)
#define HV_GUEST_OS_TYPE_SHIFT            56             /* 7 bits: HV_GUEST_OS_TYPE_* */
#define HV_GUEST_OS_TYPE_UNDEFINED        0ull
#define HV_GUEST_OS_TYPE_LINUX            1ull
#define HV_GUEST_OS_TYPE_FREEBSD          2ull
#define HV_GUEST_OS_VENDOR_ID_SHIFT       48             /* 8 bits: the vendor's own */
#define HV_GUEST_OS_VERSION_SHIFT         16             /* 32 bits */
#define HV_GUEST_OS_BUILD_SHIFT           0              /* 16 bits */

static inline uint64_t hv_guest_os_id(uint8_t type, uint8_t os, uint32_t version, uint16_t build)
{
    return HV_GUEST_OS_OPEN_SOURCE | ((uint64_t)(type & 0x7F) << HV_GUEST_OS_TYPE_SHIFT) |
           ((uint64_t)os << HV_GUEST_OS_VENDOR_ID_SHIFT) |
           ((uint64_t)version << HV_GUEST_OS_VERSION_SHIFT) | build;
}

/* CRASH_CTL. Read: what the host can do. Write: notify, perhaps with a text (P3: its GPA, P4: its bytes). */
#define HV_CRASH_CTL_PRE_OS_SHIFT         58
#define HV_CRASH_CTL_PRE_OS_MASK          (7ull << 58)
#define HV_CRASH_CTL_NO_DUMP              (1ull << 61)
#define HV_CRASH_CTL_MESSAGE              (1ull << 62)
#define HV_CRASH_CTL_NOTIFY               (1ull << 63)
#define HV_CRASH_PARAMETERS               5
#define HV_CRASH_MESSAGE_MAX              4096u

/* ---- Virtual processor registers (TLFS: HV_REGISTER_NAME); same numbers on both architectures --------- */

#define HV_REGISTER_HYPERVISOR_VERSION    0x00000100u
#define HV_REGISTER_PRIVILEGES            0x00000200u    /* 128 bits: EAX, EBX, ECX, EDX of leaf 3 */
#define HV_REGISTER_FEATURES              0x00000201u    /* recommendations, leaf 4 */
#define HV_REGISTER_LIMITS                0x00000202u
#define HV_REGISTER_HARDWARE              0x00000203u
#define HV_REGISTER_ISOLATION_CONFIG      0x00000209u
#define HV_REGISTER_CRASH_P0              0x00000210u    /* five in succession */
#define HV_REGISTER_CRASH_P4              0x00000214u
#define HV_REGISTER_CRASH_CTL             0x00000215u
#define HV_REGISTER_PROCESSOR_FREQUENCY   0x00000240u
#define HV_REGISTER_INTERRUPT_FREQUENCY   0x00000241u
#define HV_REGISTER_GUEST_IDLE            0x00000250u
#define HV_REGISTER_VP_RUNTIME            0x00090000u
#define HV_REGISTER_GUEST_OS_ID           0x00090002u
#define HV_REGISTER_VP_INDEX              0x00090003u
#define HV_REGISTER_TIME_REF_COUNT        0x00090004u
#define HV_REGISTER_VP_ASSIST_PAGE        0x00090013u
#define HV_REGISTER_REFERENCE_TSC         0x00090017u
#define HV_REGISTER_SINT0                 0x000A0000u    /* sixteen in succession */
#define HV_REGISTER_SINT15                0x000A000Fu
#define HV_REGISTER_SCONTROL              0x000A0010u
#define HV_REGISTER_SVERSION              0x000A0011u
#define HV_REGISTER_SIEFP                 0x000A0012u
#define HV_REGISTER_SIMP                  0x000A0013u
#define HV_REGISTER_EOM                   0x000A0014u
#define HV_REGISTER_STIMER0_CONFIG        0x000B0000u    /* timer n: CONFIG at + 2n, COUNT at + 2n + 1 */
#define HV_REGISTER_STIMER0_COUNT         0x000B0001u
#define HV_REGISTER_STIMER3_COUNT         0x000B0007u
#define HV_REGISTER_VSM_CODE_PAGE_OFFSETS 0x000D0002u
#define HV_REGISTER_VSM_VP_STATUS         0x000D0003u    /* bits 3:0: active virtual trust level */
#define HV_REGISTER_VSM_PARTITION_STATUS  0x000D0004u
#define HV_VSM_VP_STATUS_VTL_MASK         0xFull

/* ---- Hypercalls (TLFS: hypercall interface) ----------------------------------------------------------- */

#define HVCALL_FLUSH_ADDRESS_SPACE        0x0002u
#define HVCALL_FLUSH_ADDRESS_LIST         0x0003u
#define HVCALL_NOTIFY_LONG_SPIN_WAIT      0x0008u
#define HVCALL_SEND_CLUSTER_IPI           0x000Bu
#define HVCALL_ENABLE_VP_VTL              0x000Fu
#define HVCALL_FLUSH_ADDRESS_SPACE_EX     0x0013u
#define HVCALL_FLUSH_ADDRESS_LIST_EX      0x0014u
#define HVCALL_SEND_CLUSTER_IPI_EX        0x0015u
#define HVCALL_GET_PARTITION_ID           0x0046u
#define HVCALL_GET_VP_REGISTERS           0x0050u
#define HVCALL_SET_VP_REGISTERS           0x0051u
#define HVCALL_POST_MESSAGE               0x005Cu
#define HVCALL_SIGNAL_EVENT               0x005Du
#define HVCALL_RETARGET_DEVICE_INTERRUPT  0x007Eu
#define HVCALL_START_VP                   0x0099u
#define HVCALL_GET_VP_INDEX_FROM_APIC_ID  0x009Au
#define HVCALL_ACCEPT_GPA_PAGES           0x00D9u
#define HVCALL_MODIFY_HOST_VISIBILITY     0x00DBu
#define HVCALL_QUERY_HOST_VISIBILITY      0x011Cu
#define HVCALL_QUERY_CAPABILITIES         0x8001u

/* Control word: the input value of every hypercall. */
#define HV_CONTROL_CODE_MASK              0xFFFFull
#define HV_CONTROL_FAST                   (1ull << 16)
#define HV_CONTROL_VARHEAD_SHIFT          17             /* 10 bits: variable header, in units of 8 bytes */
#define HV_CONTROL_VARHEAD_MASK           0x3FFull
#define HV_CONTROL_NESTED                 (1ull << 31)
#define HV_CONTROL_REP_COUNT_SHIFT        32             /* 12 bits */
#define HV_CONTROL_REP_START_SHIFT        48             /* 12 bits */
#define HV_CONTROL_REP_MASK               0xFFFull
#define HV_CONTROL_RESERVED_MASK          0xF000F00078000000ull  /* bits 30:27, 47:44, 63:60 */

static inline uint64_t hv_control(uint16_t code, uint16_t varhead_qwords, uint16_t rep_count,
                                  uint16_t rep_start)
{
    return code | (((uint64_t)varhead_qwords & HV_CONTROL_VARHEAD_MASK) << HV_CONTROL_VARHEAD_SHIFT) |
           (((uint64_t)rep_count & HV_CONTROL_REP_MASK) << HV_CONTROL_REP_COUNT_SHIFT) |
           (((uint64_t)rep_start & HV_CONTROL_REP_MASK) << HV_CONTROL_REP_START_SHIFT);
}

static inline uint16_t hv_control_code(uint64_t control)
{
    return (uint16_t)(control & HV_CONTROL_CODE_MASK);
}

static inline uint16_t hv_control_varhead(uint64_t control)
{
    return (uint16_t)((control >> HV_CONTROL_VARHEAD_SHIFT) & HV_CONTROL_VARHEAD_MASK);
}

static inline uint16_t hv_control_rep_count(uint64_t control)
{
    return (uint16_t)((control >> HV_CONTROL_REP_COUNT_SHIFT) & HV_CONTROL_REP_MASK);
}

static inline uint16_t hv_control_rep_start(uint64_t control)
{
    return (uint16_t)((control >> HV_CONTROL_REP_START_SHIFT) & HV_CONTROL_REP_MASK);
}

/* Result word: status in bits 15:0, repetitions completed (counted from 0, not from rep start) in 43:32. */
#define HV_RESULT_STATUS_MASK             0xFFFFull
#define HV_RESULT_REPS_SHIFT              32

static inline uint16_t hv_result_status(uint64_t result)
{
    return (uint16_t)(result & HV_RESULT_STATUS_MASK);
}

static inline uint16_t hv_result_reps(uint64_t result)
{
    return (uint16_t)((result >> HV_RESULT_REPS_SHIFT) & HV_CONTROL_REP_MASK);
}

static inline uint64_t hv_result(uint16_t status, uint16_t reps)
{
    return status | (((uint64_t)reps & HV_CONTROL_REP_MASK) << HV_RESULT_REPS_SHIFT);
}

#define HV_STATUS_SUCCESS                 0x0000u
#define HV_STATUS_INVALID_HYPERCALL_CODE  0x0002u
#define HV_STATUS_INVALID_HYPERCALL_INPUT 0x0003u
#define HV_STATUS_INVALID_ALIGNMENT       0x0004u
#define HV_STATUS_INVALID_PARAMETER       0x0005u
#define HV_STATUS_ACCESS_DENIED           0x0006u
#define HV_STATUS_INVALID_PARTITION_STATE 0x0007u
#define HV_STATUS_OPERATION_DENIED        0x0008u
#define HV_STATUS_UNKNOWN_PROPERTY        0x0009u
#define HV_STATUS_INSUFFICIENT_MEMORY     0x000Bu
#define HV_STATUS_INVALID_PARTITION_ID    0x000Du
#define HV_STATUS_INVALID_VP_INDEX        0x000Eu
#define HV_STATUS_NOT_FOUND               0x0010u
#define HV_STATUS_INVALID_PORT_ID         0x0011u
#define HV_STATUS_INVALID_CONNECTION_ID   0x0012u
#define HV_STATUS_INSUFFICIENT_BUFFERS    0x0013u
#define HV_STATUS_INVALID_VP_STATE        0x0015u
#define HV_STATUS_INVALID_SYNIC_STATE     0x0018u
#define HV_STATUS_OBJECT_IN_USE           0x0019u
#define HV_STATUS_NO_RESOURCES            0x001Du
#define HV_STATUS_FEATURE_UNAVAILABLE     0x001Eu
#define HV_STATUS_INVALID_REGISTER_VALUE  0x0050u
#define HV_STATUS_INVALID_VTL_STATE       0x0051u
#define HV_STATUS_OPERATION_FAILED        0x0071u
#define HV_STATUS_TIMEOUT                 0x0078u
#define HV_STATUS_UNKNOWN_REGISTER_NAME   0x0087u

#define HV_PARTITION_ID_SELF              0xFFFFFFFFFFFFFFFFull
#define HV_VP_INDEX_SELF                  0xFFFFFFFEu
#define HV_ANY_VP                         0xFFFFFFFFu

/* Byte naming the target VTL in several inputs: 3:0 the level, 4 use it, 7:5 zero; 0 = the current one. */
#define HV_INPUT_VTL_MASK                 0x0Fu
#define HV_INPUT_VTL_USE                  0x10u

/* HVCALL_POST_MESSAGE: simple, always in memory. */
#define HV_MESSAGE_PAYLOAD_MAX            240u
struct hv_post_message {
    uint32_t connection_id;      /* 24 bits are used */
    uint32_t reserved;           /* 0 */
    uint32_t message_type;       /* nonzero, bit 31 clear */
    uint32_t payload_size;       /* bytes of payload that count, at most 240 */
    uint8_t payload[HV_MESSAGE_PAYLOAD_MAX];
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_post_message, 256);
HV_WIRE_OFFSET(struct hv_post_message, payload, 16);

/* HVCALL_SIGNAL_EVENT: simple; the eight bytes may also travel in the first register (fast form). */
struct hv_signal_event {
    uint32_t connection_id;
    uint16_t flag_number;        /* relative to the port's base flag; VMBus uses 0 */
    uint16_t reserved;           /* 0 */
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_signal_event, 8);

/* HVCALL_FLUSH_ADDRESS_SPACE and _LIST: for the list, the GVA ranges follow. */
#define HV_FLUSH_ALL_PROCESSORS           (1ull << 0)
#define HV_FLUSH_ALL_ADDRESS_SPACES       (1ull << 1)
#define HV_FLUSH_NON_GLOBAL_ONLY          (1ull << 2)    /* not allowed with a list */
#define HV_FLUSH_EXTENDED_RANGES          (1ull << 3)
struct hv_flush {
    uint64_t address_space;      /* CR3 of the space; ignored with HV_FLUSH_ALL_ADDRESS_SPACES */
    uint64_t flags;
    uint64_t processor_mask;     /* bit n: VP index n, 0 to 63 */
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_flush, 24);

/* One GVA range: bits 63:12 the page of the address, bits 11:0 how many pages more than one. */
#define HV_GVA_RANGE_PAGES_MAX            4096u

/* A sparse set of virtual processors: the banks follow, one word per bit of the mask, ascending. */
enum hv_vp_set_format {
    HV_VP_SET_SPARSE_4K = 0,
    HV_VP_SET_ALL = 1,
};
#define HV_VP_SET_BANK_BITS               64u
struct hv_vp_set {
    uint64_t format;             /* enum hv_vp_set_format */
    uint64_t valid_bank_mask;    /* bit b: a word for VPs 64b to 64b+63 follows */
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_vp_set, 16);

/* HVCALL_FLUSH_ADDRESS_SPACE_EX and _LIST_EX: banks follow (counted as variable header), then GVA ranges. */
struct hv_flush_ex {
    uint64_t address_space;
    uint64_t flags;
    struct hv_vp_set processors;
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_flush_ex, 32);
HV_WIRE_OFFSET(struct hv_flush_ex, processors, 16);

/* HVCALL_SEND_CLUSTER_IPI: fixed, edge interrupts only. */
struct hv_cluster_ipi {
    uint32_t vector;             /* 0x10 to 0xFF */
    uint8_t target_vtl;
    uint8_t reserved[3];
    uint64_t processor_mask;
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_cluster_ipi, 16);

struct hv_cluster_ipi_ex {
    uint32_t vector;
    uint8_t target_vtl;
    uint8_t reserved[3];
    struct hv_vp_set processors; /* banks follow, counted as variable header */
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_cluster_ipi_ex, 24);

/* HVCALL_GET_VP_REGISTERS: a list of uint32_t names follows; output: one hv_register_value per name.
 * HVCALL_SET_VP_REGISTERS: a list of hv_register_assignment follows. */
struct hv_vp_registers {
    uint64_t partition_id;       /* HV_PARTITION_ID_SELF */
    uint32_t vp_index;           /* or HV_VP_INDEX_SELF */
    uint8_t target_vtl;
    uint8_t reserved[3];
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_vp_registers, 16);

struct hv_register_value {
    uint64_t low;
    uint64_t high;
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_register_value, 16);

struct hv_register_assignment {
    uint32_t name;
    uint8_t reserved[12];
    struct hv_register_value value;
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_register_assignment, 32);
HV_WIRE_OFFSET(struct hv_register_assignment, value, 16);

/* HVCALL_MODIFY_HOST_VISIBILITY: a list of uint64_t GPNs follows, at most 510. */
enum hv_visibility {
    HV_VISIBILITY_PRIVATE = 0,
    HV_VISIBILITY_READ_ONLY = 1,
    HV_VISIBILITY_READ_WRITE = 3,
};
struct hv_modify_visibility {
    uint64_t partition_id;       /* HV_PARTITION_ID_SELF */
    uint32_t visibility;         /* bits 1:0: enum hv_visibility; others 0 */
    uint32_t reserved;
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_modify_visibility, 16);
#define HV_MODIFY_VISIBILITY_MAX          ((HV_PAGE_SIZE - sizeof(struct hv_modify_visibility)) / 8u)

/* HVCALL_GET_VP_INDEX_FROM_APIC_ID: the APIC ids follow; sources disagree about padding beyond the first. */
struct hv_vp_index_from_apic_id {
    uint64_t partition_id;
    uint8_t target_vtl;
    uint8_t reserved[7];
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_vp_index_from_apic_id, 16);

/* ---- SynIC (TLFS: virtual interrupts, inter-partition communication) ---------------------------------- */

#define HV_SYNIC_SINT_COUNT               16u
#define HV_SYNIC_SINT_VMBUS               2u             /* VMBus messages and events arrive here */

/* SINT register */
#define HV_SINT_VECTOR_MASK               0xFFull
#define HV_SINT_VECTOR_MASK_ARM64         0x3FFull
#define HV_SINT_PRESERVE_MASK             0xFFFFFFFFFFE0FF00ull
#define HV_SINT_MASKED                    (1ull << 16)   /* the reset value of every SINT */
#define HV_SINT_AUTO_EOI                  (1ull << 17)
#define HV_SINT_POLLING                   (1ull << 18)
#define HV_SINT_PROXY                     (1ull << 20)
#define HV_SINT_VECTOR_MIN                16u            /* lower vectors are refused unless masked */

/* One slot of the message page (SIM page). */
#define HV_MESSAGE_NONE                   0u             /* the slot is empty */
#define HV_MESSAGE_VMBUS                  1u             /* a VMBus channel message */
#define HV_MESSAGE_TIMER_EXPIRED          0x80000010u
#define HV_MESSAGE_FLAG_PENDING           0x01u          /* another waits: clear the type, then write EOM */
struct hv_message {
    uint32_t message_type;       /* written last by the host, cleared by the guest */
    uint8_t payload_size;        /* bytes, at most 240 */
    uint8_t message_flags;
    uint8_t reserved[2];
    uint64_t sender;             /* partition id, or port id in the low 24 bits */
    uint8_t payload[HV_MESSAGE_PAYLOAD_MAX];
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_message, 256);
HV_WIRE_OFFSET(struct hv_message, message_flags, 5);
HV_WIRE_OFFSET(struct hv_message, payload, 16);

struct hv_message_page {
    struct hv_message sint[HV_SYNIC_SINT_COUNT];
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_message_page, 4096);

/* Event flag page (SIEF page): 2048 flags per SINT; flag n is bit n % 64 of word n / 64. */
#define HV_EVENT_FLAGS_COUNT              2048u
#define HV_EVENT_FLAGS_WORDS              (HV_EVENT_FLAGS_COUNT / 64u)
struct hv_event_flags {
    uint64_t words[HV_EVENT_FLAGS_WORDS];
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_event_flags, 256);

struct hv_event_flags_page {
    struct hv_event_flags sint[HV_SYNIC_SINT_COUNT];
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_event_flags_page, 4096);

/* ---- Time (TLFS: timers) ------------------------------------------------------------------------------ */

#define HV_STIMER_COUNT                   4u
#define HV_STIMER_ENABLE                  (1ull << 0)
#define HV_STIMER_PERIODIC                (1ull << 1)
#define HV_STIMER_LAZY                    (1ull << 2)
#define HV_STIMER_AUTO_ENABLE             (1ull << 3)    /* writing a nonzero COUNT enables the timer */
#define HV_STIMER_VECTOR_SHIFT            4              /* 8 bits, direct mode only */
#define HV_STIMER_VECTOR_MASK             (0xFFull << 4)
#define HV_STIMER_DIRECT                  (1ull << 12)   /* raise the vector instead of sending a message */
#define HV_STIMER_SINT_SHIFT              16             /* 4 bits, message mode only */
#define HV_STIMER_SINT_MASK               (0xFull << 16)
#define HV_STIMER_RESERVED_MASK           0xFFFFFFFFFFF0E000ull

/* Payload of HV_MESSAGE_TIMER_EXPIRED. */
struct hv_timer_payload {
    uint32_t timer_index;
    uint32_t reserved;
    uint64_t expiration_time;    /* ticks: when it was due */
    uint64_t delivery_time;      /* ticks: when the message was written */
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_timer_payload, 24);

/* Reference TSC page: time in ticks = ((tsc * scale) >> 64) + offset, with a 128-bit product. */
#define HV_REFERENCE_TSC_INVALID          0u             /* sequence: use the counter register instead */
struct hv_reference_tsc_page {
    uint32_t sequence;           /* read before and after; changed by the host when scale or offset change */
    uint32_t reserved;
    uint64_t scale;
    int64_t offset;              /* ticks */
    uint64_t host_private[2];
    uint8_t unused[4056];
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct hv_reference_tsc_page, 4096);
HV_WIRE_OFFSET(struct hv_reference_tsc_page, offset, 16);
