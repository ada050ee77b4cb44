/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine around the processor: the lab's serial port (a pci-serial, so that the PL011 stays the guest's), fw_cfg,
 * the clock, and how QEMU is ended.
 *
 * QEMU's machine has nothing that ends QEMU with a code but semihosting, and that would be the guest's, too: HLT can't
 * be trapped, and its calls read, write and run what they like on the machine that QEMU runs on. So QEMU is started
 * without it and ends with 0; the code is in the lab's last line. Source: QEMU's docs/specs/fw_cfg.txt, pci-serial.txt.
 */
#define LOG_ROOM "lab"
#include "arch/arm64/arm64.h"
#include "arch/arm64/smccc.h"
#include "boot/arm64/fdt.h"
#include "tests/lab/arm64/board.h"
#include "tests/lab/arm64/firmware.h"
#include "tests/lab/arm64/vcpu.h"

#define PCI_ID          0x00
#define PCI_COMMAND     0x04
#define PCI_BAR0        0x10
#define PCI_COMMAND_IO  1u
#define PCI_FUNCTION_BYTES 4096u
#define SERIAL_ID       0x00021B36u   /* Red Hat, one 16550 */
#define SERIAL_PORT     0x1000u       /* where nobody has given it one */
#define BAR_IO_MASK     0xFFFCu

#define FW_CFG_DATA     0x00          /* a byte each time */
#define FW_CFG_SELECT   0x08          /* big endian, as the address is */
#define FW_CFG_DMA      0x10
#define FW_CFG_BYTES    0x18

const struct machine_layout machine_layout = {.ram = BOARD_RAM, .low_end = UINT64_MAX};

static uint64_t ecam, ecam_bytes;
static unsigned serial_device, serial_port;
static volatile uint8_t *ports, *serial, *fw_cfg;

/* ---- PCI, as far as the lab needs it ---- */
static void find_ecam(const struct boot_info *boot)
{
    struct fdt fdt;
    struct fdt_walk w;
    if (pa_is_none(boot->device_tree)) {
        firmware_ecam(boot, &ecam, &ecam_bytes);
        return;
    }
    const void *blob = arch_phys_to_virt(boot->device_tree);
    if (!fdt_open(&fdt, blob, fdt_claimed_bytes(blob)))
        return;
    for (fdt_walk_begin(&w, &fdt); fdt_walk_next(&w);)
        if (fdt_compatible(&w, "pci-host-ecam-generic") && fdt_reg(&w, 0, &ecam, &ecam_bytes))
            return;
}

/* Function 0 of a device on bus 0, mapped. */
static volatile uint8_t *map_function(unsigned device)
{
    uint64_t offset = (uint64_t)device << 15;
    if (offset + PCI_FUNCTION_BYTES > ecam_bytes)
        return NULL;
    return mm_map_phys(pa(ecam + offset), PCI_FUNCTION_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
}

unsigned board_serial_device(void) { return serial_device; }
unsigned board_serial_port(void) { return serial_port; }
volatile uint8_t *board_ports(void) { return ports; }

bool machine_serial_init(const struct boot_info *boot)
{
    static bool called;
    if (!called) {
        called = true;
        find_ecam(boot);               /* later the device tree is no longer in reach, and soon overwritten */
        return false;
    }
    for (unsigned device = 0; device < 32; device++) {
        volatile uint8_t *f = map_function(device);
        if (!f)
            return false;
        if (arm64_read32(f + PCI_ID) != SERIAL_ID) {
            mm_unmap_phys((void *)(uintptr_t)f, PCI_FUNCTION_BYTES);
            continue;
        }
        uint32_t port = arm64_read32(f + PCI_BAR0) & BAR_IO_MASK;
        if (port == 0) {
            port = SERIAL_PORT;
            arm64_write32(f + PCI_BAR0, port);
        }
        arm64_write32(f + PCI_COMMAND, (arm64_read32(f + PCI_COMMAND) & 0xFFFFu) | PCI_COMMAND_IO);
        ports = mm_map_phys(pa(BOARD_PIO), BOARD_PIO_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
        serial = ports ? ports + port : NULL;
        serial_device = device;
        serial_port = port;
        return serial != NULL;
    }
    return false;
}

uint8_t machine_serial_read(unsigned reg) { return serial ? arm64_read8(serial + reg) : 0; }

void machine_serial_write(unsigned reg, uint8_t value)
{
    if (serial)
        arm64_write8(serial + reg, value);
}

/* ---- fw_cfg ---- */
static volatile uint8_t *fw_cfg_registers(void)
{
    if (!fw_cfg)
        fw_cfg = mm_map_phys(pa(BOARD_FW_CFG), FW_CFG_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (!fw_cfg)
        panic("no memory to map fw_cfg");
    return fw_cfg;
}

void machine_fwcfg_select(uint16_t key)
{
    *(volatile uint16_t *)(fw_cfg_registers() + FW_CFG_SELECT) = __builtin_bswap16(key);
}

uint8_t machine_fwcfg_byte(void) { return arm64_read8(fw_cfg_registers() + FW_CFG_DATA); }

void machine_fwcfg_dma(uint64_t descriptor_hpa)
{
    arm64_dsb_ish();
    arm64_write64(fw_cfg_registers() + FW_CFG_DMA, __builtin_bswap64(descriptor_hpa));
    arm64_dsb_ish();
}

/* ---- time of day: the PL031 counts seconds since 1970 ---- */
uint64_t machine_unix_time(void)
{
    volatile uint8_t *rtc = mm_map_phys(pa(BOARD_RTC), PAGE_BYTES, MAP_READ | MAP_DEVICE);
    if (!rtc)
        return 0;
    uint64_t now = arm64_read32(rtc);
    mm_unmap_phys((void *)(uintptr_t)rtc, PAGE_BYTES);
    return now;
}

/* ---- the end ---- */
NORETURN void machine_exit(unsigned value)
{
    struct arm64_call off = {.x = {PSCI_SYSTEM_OFF}};
    (void)value;                       /* lab_end has said it */
    arm64_smc(&off);
    for (;;)
        arm64_wfi();
}

/* ---- what the guest has of it in direct mode ---- */
void machine_prepare_direct(void)
{
    int error = nested_map(BOARD_UART, BOARD_UART, PAGE_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (error)
        panic("the guest's console: %s", error_name(error));
    vgic_pass(BOARD_UART_IRQ);
}

bool board_access(uint64_t gpa, bool write, unsigned bytes, uint64_t *value)
{
    if (gpa != BOARD_MARK)
        return lab_firmware && firmware_access(gpa, write, bytes, value);
    if (write) {
        char name[16];
        ksnprintf(name, sizeof(name), "port-%u", (unsigned)(*value & 0xFF));
        report_mark(name);
    } else {
        *value = 0;
    }
    return true;
}
