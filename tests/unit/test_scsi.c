/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib drivers */
/* SCSI command blocks byte by byte, and sense data in both formats, cut short at every length. */
#include "drivers/scsi.h"
#include "tests/unit/test.h"

#define CHECK_CDB(call, ...)                                                                \
    do {                                                                                    \
        static const uint8_t want_[] = {__VA_ARGS__};                                       \
        uint8_t cdb[SCSI_CDB_BYTES] = {0};                                                  \
        CHECK_EQ(call, sizeof(want_));                                                      \
        CHECK(!memcmp(cdb, want_, sizeof(want_)));                                          \
    } while (0)

TEST(short_and_long_transfers)
{
    CHECK_CDB(scsi_cdb_transfer(cdb, false, 0x12345678, 0x9ABC, false), 0x28, 0, 0x12, 0x34, 0x56, 0x78, 0, 0x9A,
              0xBC, 0);
    CHECK_CDB(scsi_cdb_transfer(cdb, true, 0xFFFFFFFF, 1, true), 0x2A, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 1, 0);
    CHECK_CDB(scsi_cdb_transfer(cdb, false, 0x100000000, 1, false), 0x88, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0);
    CHECK_CDB(scsi_cdb_transfer(cdb, true, 2, 0x10000, true), 0x8A, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0);
}

TEST(other_commands)
{
    CHECK_CDB(scsi_cdb_synchronize_cache(cdb), 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    CHECK_CDB(scsi_cdb_unmap(cdb, 24), 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0);
    CHECK_CDB(scsi_cdb_write_same(cdb, 1, 2, true), 0x93, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0);
    CHECK_CDB(scsi_cdb_inquiry(cdb, false, 0, 36), 0x12, 0, 0, 0, 36, 0);
    CHECK_CDB(scsi_cdb_inquiry(cdb, true, 0xB2, 0x108), 0x12, 1, 0xB2, 1, 8, 0);
    CHECK_CDB(scsi_cdb_report_luns(cdb, 2056), 0xA0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 0, 0);
    CHECK_CDB(scsi_cdb_read_capacity_10(cdb), 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    CHECK_CDB(scsi_cdb_read_capacity_16(cdb, 32), 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    CHECK_CDB(scsi_cdb_mode_sense_6(cdb, 8, 64), 0x1A, 8, 8, 0, 64, 0);
    CHECK_CDB(scsi_cdb_mode_sense_10(cdb, 0x3F, 0x140), 0x5A, 8, 0x3F, 0, 0, 0, 0, 1, 0x40, 0);
}

TEST(unmap_list_of_one)
{
    static const uint8_t want[24] = {0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0x0A, 0x0B, 0x0C, 0x0D};
    uint8_t list[SCSI_UNMAP_ONE_BYTES];

    memset(list, 0xEE, sizeof(list));
    scsi_unmap_one(list, 0x102030405, 0x0A0B0C0D);
    CHECK_EQ(sizeof(list), 24);
    CHECK(!memcmp(list, want, sizeof(want)));
}

TEST(sense_in_both_formats)
{
    static const uint8_t fixed[18] = {0xF0, 0, 0x63, 1, 2, 3, 4, 10, 0, 0, 0, 0, 0x11, 0x04};
    static const uint8_t descriptor[8] = {0x72, 0x06, 0x2A, 0x09};
    struct scsi_sense_info info;
    char text[96];

    for (unsigned n = 0; n <= sizeof(fixed); n++) {
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, fixed, n);
        info = scsi_sense_decode(cut, n);
        CHECK_EQ(info.valid, n >= 14);
        free(cut);
    }
    info = scsi_sense_decode(fixed, sizeof(fixed));
    CHECK_EQ(info.key, 3);
    CHECK_EQ(info.code, 0x1104);
    scsi_sense_text(&info, text, sizeof(text));
    CHECK(!strcmp(text, "medium error: unrecovered read error, reallocation failed (3/11/04)"));
    info = scsi_sense_decode(descriptor, sizeof(descriptor));
    CHECK(info.valid && info.key == 6 && info.code == SCSI_ASC_CAPACITY_CHANGED);
    for (unsigned format = 0x70; format <= 0x73; format++) {
        uint8_t sense[18] = {(uint8_t)format};
        info = scsi_sense_decode(sense, sizeof(sense));
        CHECK(info.valid && info.deferred == (format == 0x71 || format == 0x73));
    }
    info = scsi_sense_decode(descriptor, 3);
    CHECK(!info.valid);
    scsi_sense_text(&info, text, sizeof(text));
    CHECK(!strcmp(text, "no sense data"));
    info = (struct scsi_sense_info){true, false, 5, 0x9999};
    scsi_sense_text(&info, text, sizeof(text));
    CHECK(!strcmp(text, "illegal request (5/99/99)"));
    scsi_sense_text(&info, text, 8);
    CHECK(!strcmp(text, "illegal"));
}

TEST(fields_become_text)
{
    static const uint8_t field[8] = {'M', 's', 'f', 't', ' ', 0x1B, ' ', 0};
    char text[9];

    scsi_field_text(text, sizeof(text), field, 8);
    CHECK(!strcmp(text, "Msft ?"));
}

TEST_MAIN()
