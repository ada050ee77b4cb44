/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic_wire.h: the integration components: shutdown, heartbeat, time synchronisation, key-value pairs, snapshots.
 *
 * Each component is a VMBus channel of its own in pipe message mode. Every message is one in-band packet
 * without completion flag: struct ic_message, then a body that the message type decides. The host speaks
 * first (IC_NEGOTIATE) and asks; the guest answers a request by sending the same packet back, of the same
 * length, with IC_FLAGS_RESPONSE, the status and whatever the request asked for. One request is outstanding
 * at a time. The host may negotiate again whenever it likes (it does after the VM was restored).
 *
 * Source: the protocol as hosts from Windows Server 2008 on speak it; there is no published specification.
 * Little-endian, packed. Strings are UTF-16 and their sizes count bytes with the terminating zero.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define IC_WIRE_SIZE(type, bytes) \
    _Static_assert(sizeof(type) == (bytes), #type " has a fixed size")
#define IC_WIRE_OFFSET(type, field, bytes) \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field " has a fixed offset")

/* Longest message with its pipe header that a host takes or sends. */
#define IC_MESSAGE_MAX          16384u

/* ---- Framework ---------------------------------------------------------------------------------------- */

enum ic_pipe_type {
    IC_PIPE_DATA = 1,
    IC_PIPE_PARTIAL = 2,         /* not used by these components */
};

struct ic_pipe_header {
    uint32_t type;               /* enum ic_pipe_type */
    uint32_t bytes;              /* that follow this header; the packet's padding is not counted */
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_pipe_header, 8);

struct ic_version {
    uint16_t major;
    uint16_t minor;
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_version, 4);

/* The framework is 1.0 (Windows Server 2008) or 3.0. */
#define IC_FRAMEWORK_1          { 1, 0 }
#define IC_FRAMEWORK_3          { 3, 0 }

enum ic_message_type {
    IC_NEGOTIATE = 0,            /* on every channel */
    IC_HEARTBEAT = 1,
    IC_KVP = 2,
    IC_SHUTDOWN = 3,
    IC_TIMESYNC = 4,
    IC_VSS = 5,
    IC_RDV = 6,
    IC_FILE_COPY = 7,
    IC_VM_SESSION = 8,
};

#define IC_FLAG_TRANSACTION     0x01u
#define IC_FLAG_REQUEST         0x02u
#define IC_FLAG_RESPONSE        0x04u
#define IC_FLAGS_REQUEST        (IC_FLAG_TRANSACTION | IC_FLAG_REQUEST)
#define IC_FLAGS_RESPONSE       (IC_FLAG_TRANSACTION | IC_FLAG_RESPONSE)

/* HRESULTs */
#define IC_STATUS_OK                 0x00000000u
#define IC_STATUS_FAIL               0x80004005u
#define IC_STATUS_GUID_NOT_FOUND     0x80041002u
#define IC_STATUS_NOT_SUPPORTED      0x80070032u
#define IC_STATUS_EXISTS             0x80070050u
#define IC_STATUS_INVALID_ARGUMENT   0x80070057u
#define IC_STATUS_DISK_FULL          0x80070070u
#define IC_STATUS_NO_MORE_ITEMS      0x80070103u
#define IC_STATUS_NOT_CONNECTED      0x8007048Fu
#define IC_STATUS_LOCKED             0x800704F7u

struct ic_header {
    struct ic_version framework;     /* as negotiated; hosts leave both versions zero in IC_NEGOTIATE */
    uint16_t type;                   /* enum ic_message_type */
    struct ic_version message;
    uint16_t body_bytes;             /* that follow this header */
    uint32_t status;                 /* IC_STATUS_*: the guest's answer */
    uint8_t transaction;             /* chosen by the host, echoed; hosts exist that always send 0 */
    uint8_t flags;                   /* IC_FLAG_*; hosts exist that send samples of time with no flag at all */
    uint8_t reserved[2];
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_header, 20);
IC_WIRE_OFFSET(struct ic_header, type, 4);
IC_WIRE_OFFSET(struct ic_header, body_bytes, 10);
IC_WIRE_OFFSET(struct ic_header, transaction, 16);

/* The beginning of every packet; the body follows. */
struct ic_message {
    struct ic_pipe_header pipe;
    struct ic_header header;
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_message, 28);
IC_WIRE_OFFSET(struct ic_message, header, 8);

/*
 * IC_NEGOTIATE: first the framework versions, then the message versions that the host knows. The guest
 * answers with counts 1 and 1, versions[0] the framework and versions[1] the messages it has chosen, and
 * body_bytes IC_NEGOTIATED_BYTES, the packet keeping its length; or with counts 0 and 0: nothing fits.
 */
struct ic_negotiate {
    uint16_t framework_count;
    uint16_t message_count;
    uint32_t reserved;
    struct ic_version versions[];
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_negotiate, 8);
#define IC_NEGOTIATED_BYTES     16u
_Static_assert(sizeof(struct ic_negotiate) + 2 * sizeof(struct ic_version) == IC_NEGOTIATED_BYTES,
               "the answer holds two versions");
#define IC_VERSIONS_MAX         100u         /* of both lists together; a host that lists more is refused */

/* ---- Shutdown: versions 1.0, 3.0, 3.1, 3.2 ------------------------------------------------------------ */

#define IC_SHUTDOWN_FORCE       0x1u         /* do not wait for applications */
#define IC_SHUTDOWN_RESTART     0x2u
#define IC_SHUTDOWN_HIBERNATE   0x4u
#define IC_SHUTDOWN_PLANNED     0x80000000u  /* bit of the reason: SHTDN_REASON_FLAG_PLANNED */
#define IC_SHUTDOWN_TEXT_BYTES  2048u

/* The guest answers first, then acts. */
struct ic_shutdown {
    uint32_t reason;                 /* IC_SHUTDOWN_PLANNED and a code */
    uint32_t timeout_s;
    uint32_t flags;                  /* IC_SHUTDOWN_* */
    uint8_t text[IC_SHUTDOWN_TEXT_BYTES]; /* for people, in bytes; may be empty */
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_shutdown, 2060);
IC_WIRE_OFFSET(struct ic_shutdown, text, 12);

/* ---- Heartbeat: versions 1.0, 3.0 --------------------------------------------------------------------- */

enum ic_application_state {
    IC_APPLICATION_UNKNOWN = 0,
    IC_APPLICATION_HEALTHY = 1,
    IC_APPLICATION_CRITICAL = 2,
    IC_APPLICATION_STOPPED = 3,
};

/* Every two seconds. The answer carries sequence + 1. */
struct ic_heartbeat {
    uint64_t sequence;
    uint32_t application_state;      /* enum ic_application_state: the guest may fill it */
    uint32_t reserved;
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_heartbeat, 16);

/* ---- Time synchronisation: versions 1.0, 3.0, 4.0 ----------------------------------------------------- */

/* Times of day are 100 ns since 1601-01-01 UTC. */
#define IC_TIME_UNIX_EPOCH      116444736000000000ull

enum ic_timesync_flags {
    IC_TIMESYNC_PROBE = 0,
    IC_TIMESYNC_SYNC = 1,            /* set the clock now */
    IC_TIMESYNC_SAMPLE = 2,          /* for a clock that is disciplined slowly */
};

/* Versions 1.0 and 3.0 */
struct ic_timesync {
    uint64_t host_time;
    uint64_t child_time;             /* of the last answer; not used */
    uint64_t round_trip_100ns;
    uint8_t flags;                   /* enum ic_timesync_flags */
    uint8_t reserved[3];
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_timesync, 28);
IC_WIRE_OFFSET(struct ic_timesync, flags, 24);

/* Version 4.0 */
struct ic_timesync_4 {
    uint64_t host_time;
    uint64_t reference_100ns;        /* the VM's reference time when host_time was taken */
    uint8_t flags;                   /* enum ic_timesync_flags */
    int8_t leap_indicator;
    uint8_t stratum;
    uint8_t reserved[5];             /* a receiver does better not to insist on it */
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_timesync_4, 24);
IC_WIRE_OFFSET(struct ic_timesync_4, flags, 16);

/* ---- Key-value pairs: versions 1.0, 3.0, 4.0, 5.0 ----------------------------------------------------- */

enum ic_kvp_operation {
    IC_KVP_GET = 0,
    IC_KVP_SET = 1,
    IC_KVP_DELETE = 2,
    IC_KVP_ENUMERATE = 3,
    IC_KVP_GET_IP = 4,
    IC_KVP_SET_IP = 5,
};

enum ic_kvp_pool {
    IC_KVP_POOL_EXTERNAL = 0,        /* written by the host, read by the guest's applications */
    IC_KVP_POOL_GUEST = 1,           /* written by the guest's applications */
    IC_KVP_POOL_AUTO = 2,            /* what the guest says of itself: enum ic_kvp_auto */
    IC_KVP_POOL_AUTO_EXTERNAL = 3,   /* what the host says of itself */
    IC_KVP_POOL_AUTO_INTERNAL = 4,
    IC_KVP_POOLS
};

/* Indices of the auto pool, and the keys' names. Beyond: IC_STATUS_NO_MORE_ITEMS. */
enum ic_kvp_auto {
    IC_KVP_AUTO_FQDN = 0,            /* FullyQualifiedDomainName */
    IC_KVP_AUTO_IC_VERSION = 1,      /* IntegrationServicesVersion */
    IC_KVP_AUTO_IPV4 = 2,            /* NetworkAddressIPv4: addresses separated by ';' */
    IC_KVP_AUTO_IPV6 = 3,            /* NetworkAddressIPv6 */
    IC_KVP_AUTO_OS_BUILD = 4,        /* OSBuildNumber */
    IC_KVP_AUTO_OS_NAME = 5,         /* OSName */
    IC_KVP_AUTO_OS_MAJOR = 6,        /* OSMajorVersion */
    IC_KVP_AUTO_OS_MINOR = 7,        /* OSMinorVersion */
    IC_KVP_AUTO_OS_VERSION = 8,      /* OSVersion */
    IC_KVP_AUTO_ARCHITECTURE = 9,    /* ProcessorArchitecture */
    IC_KVP_AUTO_COUNT
};

#define IC_KVP_TYPE_STRING      1u
#define IC_KVP_TYPE_EXPAND      2u           /* a string too */
#define IC_KVP_TYPE_U32         4u
#define IC_KVP_TYPE_U64         11u          /* REG_QWORD; Linux calls it 8 */
#define IC_KVP_TYPE_U64_LINUX   8u
#define IC_KVP_KEY_BYTES        512u
#define IC_KVP_VALUE_BYTES      2048u

/*
 * Begins the body; the operation's own part follows. Whatever the operation, hosts send the body in one of two
 * lengths: IC_KVP_BODY_BYTES, and IC_KVP_IP_BODY_BYTES for the two IP operations.
 */
#define IC_KVP_BODY_BYTES       2580u
#define IC_KVP_IP_BODY_BYTES    7428u
struct ic_kvp_header {
    uint8_t operation;               /* enum ic_kvp_operation */
    uint8_t pool;                    /* enum ic_kvp_pool */
    uint16_t reserved;               /* not there in struct ic_kvp_ip */
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_kvp_header, 4);

struct ic_kvp_value {
    uint32_t type;                   /* IC_KVP_TYPE_* */
    uint32_t key_bytes;
    uint32_t value_bytes;
    uint8_t key[IC_KVP_KEY_BYTES];
    uint8_t value[IC_KVP_VALUE_BYTES]; /* UTF-16, or a number of the type's size */
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_kvp_value, 2572);
IC_WIRE_OFFSET(struct ic_kvp_value, value, 524);

/* IC_KVP_GET (the guest fills the value), IC_KVP_SET */
struct ic_kvp_get_set {
    struct ic_kvp_header kvp;
    struct ic_kvp_value value;
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_kvp_get_set, 2576);

struct ic_kvp_delete {
    struct ic_kvp_header kvp;
    uint32_t key_bytes;
    uint8_t key[IC_KVP_KEY_BYTES];
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_kvp_delete, 520);

struct ic_kvp_enumerate {
    struct ic_kvp_header kvp;
    uint32_t index;                  /* the host counts up from 0 until IC_STATUS_NO_MORE_ITEMS */
    struct ic_kvp_value value;
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_kvp_enumerate, IC_KVP_BODY_BYTES);

#define IC_KVP_FAMILY_NONE      0u
#define IC_KVP_FAMILY_IPV4      1u
#define IC_KVP_FAMILY_IPV6      2u
#define IC_KVP_FAMILY_BOTH      3u

/*
 * How a request names the NIC: Linux expects its MAC address ("00:15:5D:01:02:03") in IC_KVP_GET_IP and its VMBus
 * instance GUID in IC_KVP_SET_IP, FreeBSD the GUID ("{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}", small letters) in both.
 * So a guest does well to understand either, in capital letters and small ones.
 */
/* IC_KVP_GET_IP and IC_KVP_SET_IP before 5.0: zero-terminated UTF-16, lists separated by ';'. Two bytes of
 * header, not four. */
struct ic_kvp_ip {
    uint8_t operation;               /* enum ic_kvp_operation */
    uint8_t pool;                    /* enum ic_kvp_pool; hosts say IC_KVP_POOL_GUEST */
    uint16_t adapter[128];           /* which NIC: see above */
    uint8_t family;                  /* IC_KVP_FAMILY_* */
    uint8_t dhcp;
    uint16_t addresses[1024];
    uint16_t subnets[1024];
    uint16_t gateways[512];
    uint16_t dns[1024];
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_kvp_ip, IC_KVP_IP_BODY_BYTES);
IC_WIRE_OFFSET(struct ic_kvp_ip, family, 258);
IC_WIRE_OFFSET(struct ic_kvp_ip, addresses, 260);
IC_WIRE_OFFSET(struct ic_kvp_ip, dns, 5380);

/* The same in 5.0: binary. The body keeps IC_KVP_IP_BODY_BYTES; the rest is zero. */
struct ic_kvp_ip_binary {
    struct ic_kvp_header kvp;
    uint32_t ipv4_count, ipv6_count; /* addresses; as many subnets */
    uint32_t ipv4_gateway_count, ipv6_gateway_count;
    uint32_t ipv4_dns_count, ipv6_dns_count;
    uint16_t adapter[128];
    uint8_t family;                  /* IC_KVP_FAMILY_* */
    uint8_t dhcp;
    uint16_t reserved;
    uint8_t ipv4[64][4];             /* in network byte order, as all that follow */
    uint8_t ipv6[64][16];
    uint8_t ipv4_subnets[64][4];
    uint8_t ipv6_subnets[64][16];
    uint8_t ipv4_gateways[5][4];
    uint8_t ipv6_gateways[5][16];
    uint8_t ipv4_dns[64][4];
    uint8_t ipv6_dns[64][16];
    uint32_t origins[128];           /* IC_KVP_ORIGIN_*: of the IPv4 addresses, then at once of the IPv6 ones */
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_kvp_ip_binary, 4740);
IC_WIRE_OFFSET(struct ic_kvp_ip_binary, family, 284);
IC_WIRE_OFFSET(struct ic_kvp_ip_binary, ipv4, 288);
IC_WIRE_OFFSET(struct ic_kvp_ip_binary, origins, 4228);
#define IC_KVP_ORIGIN_UNKNOWN   0u
#define IC_KVP_ORIGIN_DYNAMIC   1u
#define IC_KVP_ORIGIN_STATIC    2u

/* ---- Snapshots (VSS): versions 5.0 to 7.0 ------------------------------------------------------------- */

enum ic_vss_operation {
    IC_VSS_CREATE = 0,
    IC_VSS_DELETE = 1,
    IC_VSS_HOT_BACKUP = 2,           /* can the guest be frozen? answered with flags */
    IC_VSS_GET_DM_INFO = 3,
    IC_VSS_BACKUP_COMPLETE = 4,
    IC_VSS_FREEZE = 5,
    IC_VSS_THAW = 6,
    IC_VSS_AUTO_RECOVER = 7,
};

#define IC_VSS_NO_AUTO_RECOVERY 0x1u
#define IC_VSS_BACKUP_SUPPORTED 0x4u

struct ic_vss {
    uint8_t operation;               /* enum ic_vss_operation */
    uint8_t reserved[7];
    uint32_t flags;                  /* IC_VSS_HOT_BACKUP, IC_VSS_GET_DM_INFO: the guest's answer */
} __attribute__((packed));
IC_WIRE_SIZE(struct ic_vss, 12);
#define IC_VSS_MESSAGE_MAX      6260u
