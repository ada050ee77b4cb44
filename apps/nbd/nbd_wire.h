/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NBD protocol's numbers, after the protocol document of the NetworkBlockDevice project (doc/proto.md). Everything
 * on the wire is big endian and unaligned, so there are no structs: get_beN, put_beN and the lengths below.
 */
#pragma once
#include <stdint.h>

/* ---- negotiation ---- */
#define NBD_INIT_MAGIC           0x4e42444d41474943ull   /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC         0x49484156454f5054ull   /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC   0x0003e889045565a9ull
#define NBD_GREETING_BYTES       18
#define NBD_OPTION_HEADER_BYTES  16                      /* magic 8, option 4, length 4 */
#define NBD_OPTION_REPLY_BYTES   20                      /* magic 8, option 4, type 4, length 4 */
#define NBD_NAME_MAX             4096

enum nbd_handshake_flag { NBD_FLAG_FIXED_NEWSTYLE = 1, NBD_FLAG_NO_ZEROES = 2 };   /* the client's have the same bits */

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1, NBD_OPT_ABORT = 2, NBD_OPT_LIST = 3, NBD_OPT_STARTTLS = 5, NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7, NBD_OPT_STRUCTURED_REPLY = 8,
};
#define NBD_REP_ERROR(n) (0x80000000u + (n))
enum nbd_option_reply {
    NBD_REP_ACK = 1, NBD_REP_SERVER = 2, NBD_REP_INFO = 3,
};
#define NBD_REP_ERR_UNSUP    NBD_REP_ERROR(1)
#define NBD_REP_ERR_INVALID  NBD_REP_ERROR(3)
#define NBD_REP_ERR_UNKNOWN  NBD_REP_ERROR(6)
#define NBD_REP_ERR_TOO_BIG  NBD_REP_ERROR(9)

enum nbd_info { NBD_INFO_EXPORT = 0, NBD_INFO_NAME = 1, NBD_INFO_DESCRIPTION = 2, NBD_INFO_BLOCK_SIZE = 3 };
#define NBD_INFO_EXPORT_BYTES      12                    /* type 2, size 8, flags 2 */
#define NBD_INFO_BLOCK_SIZE_BYTES  14                    /* type 2, minimum 4, preferred 4, maximum 4 */
#define NBD_EXPORT_NAME_REPLY_BYTES 10                   /* size 8, flags 2 */
#define NBD_EXPORT_NAME_ZEROES     124

enum nbd_transmission_flag {
    NBD_FLAG_HAS_FLAGS = 1 << 0, NBD_FLAG_READ_ONLY = 1 << 1, NBD_FLAG_SEND_FLUSH = 1 << 2, NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_ROTATIONAL = 1 << 4, NBD_FLAG_SEND_TRIM = 1 << 5, NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7, NBD_FLAG_CAN_MULTI_CONN = 1 << 8, NBD_FLAG_SEND_RESIZE = 1 << 9,
    NBD_FLAG_SEND_CACHE = 1 << 10, NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

/* ---- transmission ---- */
#define NBD_REQUEST_MAGIC           0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC      0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC  0x668e33efu
#define NBD_REQUEST_BYTES           28                   /* magic 4, flags 2, type 2, cookie 8, offset 8, length 4 */
#define NBD_SIMPLE_REPLY_BYTES      16                   /* magic 4, error 4, cookie 8 */
#define NBD_CHUNK_BYTES             20                   /* magic 4, flags 2, type 2, cookie 8, length 4 */
#define NBD_OFFSET_DATA_BYTES       8                    /* offset 8, before the data */
#define NBD_ERROR_BYTES             6                    /* error 4, length of the message 2 */
#define NBD_ERROR_OFFSET_BYTES      14                   /* the same and offset 8 */

enum nbd_command {
    NBD_CMD_READ = 0, NBD_CMD_WRITE = 1, NBD_CMD_DISC = 2, NBD_CMD_FLUSH = 3, NBD_CMD_TRIM = 4, NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6, NBD_CMD_BLOCK_STATUS = 7,
};
enum nbd_command_flag {
    NBD_CMD_FLAG_FUA = 1 << 0, NBD_CMD_FLAG_NO_HOLE = 1 << 1, NBD_CMD_FLAG_DF = 1 << 2, NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};
#define NBD_CHUNK_FLAG_DONE 1
enum nbd_chunk {
    NBD_CHUNK_NONE = 0, NBD_CHUNK_OFFSET_DATA = 1, NBD_CHUNK_ERROR = 0x8001, NBD_CHUNK_ERROR_OFFSET = 0x8002,
};

enum nbd_errno {
    NBD_EPERM = 1, NBD_EIO = 5, NBD_ENOMEM = 12, NBD_EINVAL = 22, NBD_ENOSPC = 28, NBD_EOVERFLOW = 75, NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

/* ---- bytes ---- */
static inline uint16_t get_be16(const uint8_t *p)
{
    uint16_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return __builtin_bswap16(v);
}
static inline uint32_t get_be32(const uint8_t *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return __builtin_bswap32(v);
}
static inline uint64_t get_be64(const uint8_t *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return __builtin_bswap64(v);
}

/* Each writes and returns what follows. */
static inline uint8_t *put_be16(uint8_t *p, uint16_t v)
{
    v = __builtin_bswap16(v);
    __builtin_memcpy(p, &v, sizeof(v));
    return p + sizeof(v);
}
static inline uint8_t *put_be32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    __builtin_memcpy(p, &v, sizeof(v));
    return p + sizeof(v);
}
static inline uint8_t *put_be64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    __builtin_memcpy(p, &v, sizeof(v));
    return p + sizeof(v);
}
