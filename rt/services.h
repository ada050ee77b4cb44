/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the runtime and the services that a host offers its guests (drivers/ic*.c): what they bring, the runtime
 * keeps; what they are asked, the runtime answers. Applications see the same things from the other side: candela.h.
 *
 *   shutdown.c   the host wants the machine to end           -> shutdown_request (candela.h)
 *   wall.c       the host tells the time of day              -> wall_sample
 *   keys.c       the host writes and reads key-value pairs   -> keys_*
 *   facts.c      what the machine says of itself             -> machine_fact, machine_network, application_health
 *
 * Everything here may be called in event context and never blocks. Text is UTF-8.
 * May look at: mm/, arch/, lib/.
 */
#pragma once
#include "rt/rt.h"

/* ---- the wall clock ---- */

struct wall_sample {
    uint64_t unix_ns;             /* since 1970-01-01 UTC */
    uint64_t at_100ns;            /* rt_now_100ns() at which it was so */
    bool set;                     /* an order, not a hint */
    const char *source;           /* "host"; a literal */
};
/* Later times are nobody's: the difference of two times has its sign, and the clock has years left to count on. */
#define WALL_UNIX_NS_MAX 8000000000000000000ull         /* 2223 */
/* 0: taken; -E_RANGE: from the future, too old or later than WALL_UNIX_NS_MAX, ignored; -E_AGAIN: far from our clock,
 * taken when the next agrees. */
int wall_sample(const struct wall_sample *sample);
/* The time as firmware had it at boot: better than nothing, until the host tells. */
void wall_seed(uint64_t unix_s, uint64_t at_100ns);
void wall_init(void);

/* ---- key-value pairs ---- */

enum key_pool {                   /* numbered as the protocol of the host's numbers them */
    KEYS_EXTERNAL,                /* written by the host's administrator for the guest */
    KEYS_GUEST,                   /* written by the guest's applications for the host */
    KEYS_AUTO,                    /* machine_fact; nothing is kept here */
    KEYS_AUTO_EXTERNAL,           /* written by the host about itself */
    KEYS_AUTO_INTERNAL,
    KEY_POOLS
};
/* The protocol's fields for key and value: both must fit there with a zero, or a host that enumerates would get no
 * further than this pair. */
#define KEYS_NAME_UTF16_BYTES  512u
#define KEYS_VALUE_UTF16_BYTES 2048u
#define KEYS_NAME_BYTES  768u     /* room for the same as UTF-8 */
#define KEYS_VALUE_BYTES 3072u
#define KEYS_MAX         256u     /* of all pools together; */
#define KEYS_BYTES_MAX   65536u   /* and their text */

struct key_pair { const char *key, *value; };
/* Adds or replaces. 0; -E_INVAL: empty key, or one of them too long or not UTF-8; -E_NOSPC: over a limit; -E_NOMEM. */
int keys_set(enum key_pool pool, const char *key, const char *value);
int keys_delete(enum key_pool pool, const char *key);                 /* 0; -E_NOENT */
/* Of the n-th pair in order of arrival. False: there are fewer. Valid until the next set or delete. */
bool keys_at(enum key_pool pool, unsigned n, struct key_pair *pair);
const char *keys_get(enum key_pool pool, const char *key);            /* its value, or NULL */
unsigned keys_count(enum key_pool pool);
void keys_init(void);

/* ---- what the machine says of itself ---- */

/* The facts a host asks for, in the protocol's order. */
enum machine_fact {
    FACT_FQDN, FACT_SERVICES_VERSION, FACT_IPV4, FACT_IPV6, FACT_OS_BUILD, FACT_OS_NAME, FACT_OS_MAJOR, FACT_OS_MINOR,
    FACT_OS_VERSION, FACT_ARCHITECTURE, FACT_COUNT
};
/* Lists are separated by ';'. A fact that isn't known (no address yet) is the empty text. */
void machine_fact(enum machine_fact fact, char *text, size_t bytes);

#define NETWORK_ADDRESS_TEXT 48
#define NETWORK_ADDRESSES    5
#define NETWORK_DNS          3
struct network_address {
    bool v6;
    uint8_t bytes[16];            /* in network order; 4 of them count for IPv4 */
    uint8_t prefix_bits;          /* 0 where it makes no sense */
    char text[NETWORK_ADDRESS_TEXT];
};
struct machine_network {
    uint8_t mac[6];
    bool by_dhcp;
    const char *hostname;
    unsigned address_count, gateway_count, dns_count;
    struct network_address addresses[NETWORK_ADDRESSES], gateways[1], dns[NETWORK_DNS];
};
/* False: there is no network. */
bool machine_network(struct machine_network *network);
/* The network stack, when there is one, fills in what it knows. */
void machine_set_network(void (*describe)(struct machine_network *network));

/* ---- how the application is: what a heartbeat tells; numbered as the protocol of the host's numbers it ---- */
enum application_health { APPLICATION_HEALTHY = 1, APPLICATION_CRITICAL = 2 };
enum application_health application_health(void);
