/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's view of its memory: its page tables, and the one instruction at its RIP that touched a device address.
 *
 * Reads guest memory only. Rights are not checked: the processor did that before it left the guest. The decoder knows
 * what compilers use for device registers: MOV in its memory forms, MOVZX, MOVSX, and MOV of an immediate.
 */
#define LOG_ROOM "lab"
#include "tests/lab/x86_64/vcpu.h"

#define CR0_PG   (1ull << 31)
#define CR4_PSE  (1ull << 4)
#define CR4_PAE  (1ull << 5)
#define PTE_P    1ull
#define PTE_PS   (1ull << 7)
#define PTE_ADDRESS 0x000FFFFFFFFFF000ull

static bool read_entry(uint64_t gpa, unsigned bytes, uint64_t *entry)
{
    const void *p = guest_ptr(gpa, bytes);
    if (!p)
        return false;
    *entry = bytes == 8 ? *(const volatile uint64_t *)p : *(const volatile uint32_t *)p;
    return true;
}

static bool walk32(const struct svm_save *s, uint32_t address, uint64_t *gpa)
{
    uint64_t e;
    if (!read_entry((s->cr3 & 0xFFFFF000) + (address >> 22) * 4, 4, &e) || !(e & PTE_P))
        return false;
    if ((e & PTE_PS) && (s->cr4 & CR4_PSE)) {
        *gpa = (e & 0xFFC00000) | (address & 0x3FFFFF);
        return true;
    }
    if (!read_entry((e & 0xFFFFF000) + (address >> 12 & 0x3FF) * 4, 4, &e) || !(e & PTE_P))
        return false;
    *gpa = (e & 0xFFFFF000) | (address & PAGE_MASK);
    return true;
}

bool guest_translate(const struct vcpu *v, uint64_t address, uint64_t *gpa)
{
    const struct svm_save *s = &v->vmcb->save;
    bool long_mode = (s->efer & EFER_LMA) != 0;
    if (!(s->cr0 & CR0_PG)) {
        *gpa = address;
        return true;
    }
    if (!long_mode && !(s->cr4 & CR4_PAE))
        return walk32(s, (uint32_t)address, gpa);
    int level = long_mode ? s->cr4 & CR4_LA57 ? 4 : 3 : 2;
    uint64_t table = level == 2 ? s->cr3 & 0xFFFFFFE0 : s->cr3 & PTE_ADDRESS;
    for (;; level--) {
        unsigned shift = PAGE_SHIFT + 9 * (unsigned)level;
        uint64_t e, index = address >> shift & (!long_mode && level == 2 ? 3 : 511);
        if (!read_entry(table + index * 8, 8, &e) || !(e & PTE_P))
            return false;
        if (level == 0 || ((e & PTE_PS) && level <= 2 && (long_mode || level == 1))) {
            uint64_t offset_mask = (1ull << shift) - 1;
            *gpa = (e & PTE_ADDRESS & ~offset_mask) | (address & offset_mask);
            return true;
        }
        table = e & PTE_ADDRESS;
    }
}

/* Of 64-bit tables alone. */
unsigned guest_walk(const struct vcpu *v, uint64_t address, struct walk *w)
{
    const struct svm_save *s = &v->vmcb->save;
    unsigned n = 0;
    w->address = address;
    if (!(s->cr0 & CR0_PG) || !(s->efer & EFER_LMA))
        return 0;
    uint64_t table = s->cr3 & PTE_ADDRESS;
    for (int level = s->cr4 & CR4_LA57 ? 4 : 3; level >= 0; level--) {
        w->gpa[n] = table + (address >> (PAGE_SHIFT + 9 * (unsigned)level) & 511) * 8;
        if (!read_entry(w->gpa[n], 8, &w->entry[n]))
            break;
        uint64_t e = w->entry[n++];
        if (!(e & PTE_P) || ((e & PTE_PS) && level > 0 && level <= 2))
            break;
        table = e & PTE_ADDRESS;
    }
    return n;
}

size_t guest_fetch(const struct vcpu *v, uint64_t address, void *to, size_t n)
{
    uint8_t *out = to;
    size_t done = 0;
    while (done < n) {
        uint64_t gpa;
        const uint8_t *p;
        if (!guest_translate(v, address + done, &gpa) || !(p = guest_ptr(gpa, 1)))
            break;
        out[done++] = *p;
    }
    return done;
}

/* ---- one instruction ---- */
static uint64_t *gpr(struct vcpu *v, unsigned reg)
{
    return reg == GPR_RAX ? &v->vmcb->save.rax : reg == GPR_RSP ? &v->vmcb->save.rsp : &v->gprs[reg];
}

/* Bytes of ModRM, SIB and displacement; 0 when they do not fit. */
static unsigned modrm_length(const uint8_t *p, size_t n, bool addr16)
{
    if (n < 2)
        return 0;
    unsigned mod = p[0] >> 6, rm = p[0] & 7, length = 1;
    if (mod == 3)
        return 0;
    if (addr16)
        return 1 + (mod == 1 ? 1u : mod == 2 || rm == 6 ? 2u : 0u);
    if (rm == 4) {
        if (mod == 0 && (p[1] & 7) == 5)
            return 6;
        length++;
    }
    if (mod == 0 && rm == 5)
        return 5;
    return length + (mod == 1 ? 1u : mod == 2 ? 4u : 0u);
}

bool mmio_decode(struct vcpu *v, struct mmio_op *op)
{
    const struct svm_save *s = &v->vmcb->save;
    bool wide = (s->efer & EFER_LMA) && (s->cs.attributes & 1u << 9), code32 = s->cs.attributes & 1u << 10;
    uint8_t b[15];
    size_t n = guest_fetch(v, (wide ? 0 : s->cs.base) + s->rip, b, sizeof(b)), i = 0;
    bool size16 = !wide && !code32, addr16 = size16;
    uint8_t rex = 0;

    *op = (struct mmio_op){0};
    for (; i < n; i++) {
        if (b[i] == 0x66)
            size16 = !size16;
        else if (b[i] == 0x67)
            addr16 = !wide && !addr16;
        else if (b[i] != 0x2E && b[i] != 0x3E && b[i] != 0x26 && b[i] != 0x36 && b[i] != 0x64 && b[i] != 0x65 &&
                 b[i] != 0xF0)
            break;
    }
    if (wide && i < n && (b[i] & 0xF0) == 0x40)
        rex = b[i++];
    unsigned size = rex & 8 ? 8 : size16 ? 2 : 4;
    if (i >= n)
        return false;
    uint8_t opcode = b[i++];
    bool immediate = false;
    op->reg_bytes = size;
    op->bytes = size;
    switch (opcode) {
    case 0x88:
    case 0x8A:
        op->bytes = op->reg_bytes = 1;
        op->write = opcode == 0x88;
        break;
    case 0x89:
    case 0x8B:
        op->write = opcode == 0x89;
        break;
    case 0xC6:
    case 0xC7:
        op->bytes = opcode == 0xC6 ? 1 : size;
        op->write = immediate = true;
        break;
    case 0xA0:
    case 0xA1:
    case 0xA2:
    case 0xA3:
        op->bytes = op->reg_bytes = opcode & 1 ? size : 1;
        op->write = opcode >= 0xA2;
        op->reg = GPR_RAX;
        op->length = (unsigned)i + (wide ? 8 : addr16 ? 2 : 4);
        break;
    case 0x0F:
        if (i >= n)
            return false;
        opcode = b[i++];
        if (opcode != 0xB6 && opcode != 0xB7 && opcode != 0xBE && opcode != 0xBF)
            return false;
        op->bytes = opcode & 1 ? 2 : 1;
        op->sign = opcode >= 0xBE;
        break;
    default:
        return false;
    }
    if (op->length == 0) {
        if (i >= n)
            return false;
        unsigned m = modrm_length(b + i, n - i, addr16);
        op->reg = (b[i] >> 3 & 7) | (rex & 4 ? 8u : 0);
        if (op->reg_bytes == 1 && !immediate && !rex && op->reg >= 4) {
            op->high_byte = true;
            op->reg -= 4;
        }
        if (m == 0 || m > n - i)
            return false;
        i += m;
        if (immediate) {
            unsigned imm = MIN(op->bytes, 4u);
            if (imm > n - i)
                return false;
            for (unsigned k = 0; k < imm; k++)
                op->value |= (uint64_t)b[i + k] << 8 * k;
            if (op->bytes == 8)
                op->value = (uint64_t)(int64_t)(int32_t)op->value;
            i += imm;
        }
        op->length = (unsigned)i;
    }
    if (op->write && !immediate)
        op->value = *gpr(v, op->reg) >> (op->high_byte ? 8 : 0);
    if (op->bytes < 8)
        op->value &= (1ull << 8 * op->bytes) - 1;
    return true;
}

void mmio_finish(struct vcpu *v, const struct mmio_op *op, uint64_t value)
{
    if (!op->write) {
        uint64_t *r = gpr(v, op->reg);
        unsigned shift = op->high_byte ? 8 : 0;
        if (op->bytes < 8) {
            value &= (1ull << 8 * op->bytes) - 1;
            if (op->sign && (value >> (8 * op->bytes - 1) & 1))
                value |= ~0ull << 8 * op->bytes;
        }
        if (op->reg_bytes >= 8)
            *r = value;
        else if (op->reg_bytes == 4)
            *r = (uint32_t)value;
        else {
            uint64_t mask = ((1ull << 8 * op->reg_bytes) - 1) << shift;
            *r = (*r & ~mask) | (value << shift & mask);
        }
    }
    vcpu_advance(v, v->vmcb->save.rip + op->length);
}
