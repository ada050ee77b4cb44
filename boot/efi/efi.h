/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The part of UEFI that a boot program uses: tables, protocols, status codes, as the UEFI Specification 2.10 lays
 * them out (chapters 4, 7, 9, 12, 13, 37). Names are the specification's, in this project's spelling.
 *
 * Firmware is called by the Microsoft convention on x86_64 (section 2.3.4.1) and by the platform's own on arm64;
 * EFIAPI says so on every pointer into firmware and on our entry point.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __x86_64__
#define EFIAPI __attribute__((ms_abi))
#else
#define EFIAPI
#endif

typedef uint64_t efi_status_t;
typedef void *efi_handle_t;
typedef uint16_t efi_char16_t;

#define EFI_ERROR_BIT          (1ull << 63)
#define EFI_SUCCESS            0ull
#define EFI_LOAD_ERROR         (EFI_ERROR_BIT | 1)
#define EFI_INVALID_PARAMETER  (EFI_ERROR_BIT | 2)
#define EFI_UNSUPPORTED        (EFI_ERROR_BIT | 3)
#define EFI_BAD_BUFFER_SIZE    (EFI_ERROR_BIT | 4)
#define EFI_BUFFER_TOO_SMALL   (EFI_ERROR_BIT | 5)
#define EFI_OUT_OF_RESOURCES   (EFI_ERROR_BIT | 9)
#define EFI_NOT_FOUND          (EFI_ERROR_BIT | 14)

struct efi_guid { uint32_t a; uint16_t b, c; uint8_t d[8]; };
#define EFI_LOADED_IMAGE_GUID     {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}}
#define EFI_SIMPLE_FS_GUID        {0x964e5b22, 0x6459, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}}
#define EFI_GRAPHICS_OUTPUT_GUID  {0x9042a9de, 0x23dc, 0x4a38, {0x96, 0xfb, 0x7a, 0xde, 0xd0, 0x80, 0x51, 0x6a}}
#define EFI_RNG_GUID              {0x3152bca5, 0xeade, 0x433d, {0x86, 0x2e, 0xc0, 0x1c, 0xdc, 0x29, 0x1f, 0x44}}
#define EFI_MEMORY_ATTRIBUTE_GUID {0xf4560cf6, 0x40ec, 0x4b4a, {0xa1, 0x92, 0xbf, 0x1d, 0x57, 0xd0, 0xb1, 0x89}}
#define EFI_ACPI_20_TABLE_GUID    {0x8868e871, 0xe4f1, 0x11d3, {0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81}}
#define EFI_DTB_TABLE_GUID        {0xb1b621d5, 0xf19c, 0x41a5, {0x83, 0x0b, 0xd9, 0x15, 0x2c, 0x69, 0xaa, 0xe0}}

/* ---- memory (7.2) ---- */
enum efi_allocate_type { EFI_ALLOCATE_ANY_PAGES, EFI_ALLOCATE_MAX_ADDRESS, EFI_ALLOCATE_ADDRESS };
enum efi_memory_type {
    EFI_RESERVED_MEMORY, EFI_LOADER_CODE, EFI_LOADER_DATA, EFI_BOOT_SERVICES_CODE, EFI_BOOT_SERVICES_DATA,
    EFI_RUNTIME_SERVICES_CODE, EFI_RUNTIME_SERVICES_DATA, EFI_CONVENTIONAL_MEMORY, EFI_UNUSABLE_MEMORY,
    EFI_ACPI_RECLAIM_MEMORY, EFI_ACPI_NVS, EFI_MMIO, EFI_MMIO_PORT_SPACE, EFI_PAL_CODE, EFI_PERSISTENT_MEMORY,
    EFI_UNACCEPTED_MEMORY,
};
#define EFI_MEMORY_WB 0x8ull
#define EFI_MEMORY_XP 0x4000ull          /* not executable */
#define EFI_MEMORY_RO 0x20000ull
#define EFI_MEMORY_SP 0x40000ull         /* kept for a special purpose, not for general use */
struct efi_memory_descriptor {
    uint32_t type, pad;
    uint64_t physical_start, virtual_start, number_of_pages, attribute;
};

/* ---- tables (4.2 to 4.6) ---- */
struct efi_table_header { uint64_t signature; uint32_t revision, header_size, crc32, reserved; };

struct efi_simple_text_output {
    void *reset;
    efi_status_t (EFIAPI *output_string)(struct efi_simple_text_output *self, efi_char16_t *text);
    void *test_string, *query_mode, *set_mode, *set_attribute, *clear_screen, *set_cursor_position, *enable_cursor;
    void *mode;
};

struct efi_boot_services {
    struct efi_table_header header;
    void *raise_tpl, *restore_tpl;
    efi_status_t (EFIAPI *allocate_pages)(enum efi_allocate_type how, enum efi_memory_type type, size_t pages,
                                          uint64_t *physical);
    efi_status_t (EFIAPI *free_pages)(uint64_t physical, size_t pages);
    efi_status_t (EFIAPI *get_memory_map)(size_t *bytes, struct efi_memory_descriptor *map, size_t *key,
                                          size_t *descriptor_bytes, uint32_t *descriptor_version);
    efi_status_t (EFIAPI *allocate_pool)(enum efi_memory_type type, size_t bytes, void **buffer);
    efi_status_t (EFIAPI *free_pool)(void *buffer);
    void *create_event, *set_timer, *wait_for_event, *signal_event, *close_event, *check_event;
    void *install_protocol_interface, *reinstall_protocol_interface, *uninstall_protocol_interface;
    efi_status_t (EFIAPI *handle_protocol)(efi_handle_t handle, const struct efi_guid *protocol, void **interface);
    void *reserved, *register_protocol_notify;
    efi_status_t (EFIAPI *locate_handle)(uint32_t search, const struct efi_guid *protocol, void *key, size_t *bytes,
                                         efi_handle_t *handles);
    void *locate_device_path, *install_configuration_table;
    efi_status_t (EFIAPI *load_image)(bool boot_policy, efi_handle_t parent, void *device_path, void *source,
                                      size_t source_bytes, efi_handle_t *image);
    efi_status_t (EFIAPI *start_image)(efi_handle_t image, size_t *exit_data_bytes, efi_char16_t **exit_data);
    efi_status_t (EFIAPI *exit)(efi_handle_t image, efi_status_t status, size_t exit_data_bytes, efi_char16_t *data);
    efi_status_t (EFIAPI *unload_image)(efi_handle_t image);
    efi_status_t (EFIAPI *exit_boot_services)(efi_handle_t image, size_t map_key);
    void *get_next_monotonic_count;
    efi_status_t (EFIAPI *stall)(size_t microseconds);
    efi_status_t (EFIAPI *set_watchdog_timer)(size_t seconds, uint64_t code, size_t bytes, efi_char16_t *text);
    void *connect_controller, *disconnect_controller, *open_protocol, *close_protocol, *open_protocol_information;
    void *protocols_per_handle, *locate_handle_buffer;
    efi_status_t (EFIAPI *locate_protocol)(const struct efi_guid *protocol, void *registration, void **interface);
};
_Static_assert(offsetof(struct efi_boot_services, handle_protocol) == 152, "UEFI 4.4");
_Static_assert(offsetof(struct efi_boot_services, exit_boot_services) == 232, "UEFI 4.4");
_Static_assert(offsetof(struct efi_boot_services, locate_protocol) == 320, "UEFI 4.4");

/* 8.3 */
struct efi_time {
    uint16_t year;                       /* 1900 to 9999 */
    uint8_t month, day, hour, minute, second, pad1;
    uint32_t nanosecond;
    int16_t time_zone;                   /* minutes: UTC = local time + this; EFI_UNSPECIFIED_TIMEZONE: local time */
    uint8_t daylight, pad2;
};
_Static_assert(sizeof(struct efi_time) == 16, "UEFI 8.3");
#define EFI_UNSPECIFIED_TIMEZONE 0x7FF

struct efi_runtime_services {
    struct efi_table_header header;
    efi_status_t (EFIAPI *get_time)(struct efi_time *time, void *capabilities);
};
_Static_assert(offsetof(struct efi_runtime_services, get_time) == 24, "UEFI 4.5");

struct efi_configuration_table { struct efi_guid guid; void *table; };
struct efi_system_table {
    struct efi_table_header header;
    efi_char16_t *firmware_vendor;
    uint32_t firmware_revision;
    efi_handle_t console_in_handle;
    void *con_in;
    efi_handle_t console_out_handle;
    struct efi_simple_text_output *con_out;
    efi_handle_t standard_error_handle;
    struct efi_simple_text_output *std_err;
    struct efi_runtime_services *runtime_services;
    struct efi_boot_services *boot_services;
    size_t number_of_table_entries;
    struct efi_configuration_table *configuration_table;
};
_Static_assert(offsetof(struct efi_system_table, boot_services) == 96, "UEFI 4.3");

/* ---- protocols ---- */
struct efi_loaded_image {                                     /* 9.1 */
    uint32_t revision;
    efi_handle_t parent_handle;
    struct efi_system_table *system_table;
    efi_handle_t device_handle;
    void *file_path, *reserved;
    uint32_t load_options_bytes;
    void *load_options;
    void *image_base;
    uint64_t image_bytes;
    enum efi_memory_type image_code_type, image_data_type;
    void *unload;
};

#define EFI_FILE_MODE_READ 1ull
struct efi_file {                                             /* 13.5 */
    uint64_t revision;
    efi_status_t (EFIAPI *open)(struct efi_file *self, struct efi_file **opened, const efi_char16_t *name,
                                uint64_t mode, uint64_t attributes);
    efi_status_t (EFIAPI *close)(struct efi_file *self);
    void *delete;
    efi_status_t (EFIAPI *read)(struct efi_file *self, size_t *bytes, void *buffer);
    void *write, *get_position, *set_position, *get_info, *set_info, *flush;
};
struct efi_simple_file_system {                               /* 13.4 */
    uint64_t revision;
    efi_status_t (EFIAPI *open_volume)(struct efi_simple_file_system *self, struct efi_file **root);
};

enum efi_pixel_format { EFI_PIXEL_RGB8, EFI_PIXEL_BGR8, EFI_PIXEL_BIT_MASK, EFI_PIXEL_BLT_ONLY };
struct efi_graphics_mode_info {                               /* 12.9 */
    uint32_t version, width, height;
    enum efi_pixel_format format;
    uint32_t red_mask, green_mask, blue_mask, reserved_mask;
    uint32_t pixels_per_scan_line;
};
struct efi_graphics_mode {
    uint32_t max_mode, mode;
    struct efi_graphics_mode_info *info;
    size_t info_bytes;
    uint64_t framebuffer_base;
    size_t framebuffer_bytes;
};
struct efi_graphics_output { void *query_mode, *set_mode, *blt; struct efi_graphics_mode *mode; };

struct efi_rng {                                              /* 37.5 */
    void *get_info;
    efi_status_t (EFIAPI *get_rng)(struct efi_rng *self, const struct efi_guid *algorithm, size_t bytes, uint8_t *out);
};
struct efi_memory_attribute {                                 /* 37.7 */
    void *get;
    void *set;
    efi_status_t (EFIAPI *clear)(struct efi_memory_attribute *self, uint64_t base, uint64_t bytes, uint64_t attributes);
};
