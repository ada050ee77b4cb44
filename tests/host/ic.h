/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic.h: what the files of the integration components share. ic.c is the framework: channels, negotiation,
 * one transaction at a time, the checks that every answer must pass. A component only says what it asks next
 * and what it thinks of the answer's body.
 */
#pragma once
#include "drivers/ic_wire.h"
#include "tests/host/host_internal.h"

#define IC_BODY_MAX IC_KVP_IP_BODY_BYTES
#define IC_RETRY_100NS 10000000ull                /* after the ring was full */

struct host_ic;

struct ic_kind {
    struct host_dev_ops dev;
    struct guid interface_type;
    uint16_t type;                                /* enum ic_message_type of its requests */
    /* Versions are negotiated: what was known of the guest before is not true any more. */
    void (*ready)(struct host_ic *ic);
    /* The next request: writes its body (zeroed, IC_BODY_MAX), returns its length. 0: nothing to ask before
     * ic->due. May clear ic->flags: then it is no request, and no answer is due. */
    uint32_t (*next)(struct host_ic *ic, uint8_t *body);
    /* An answer whose frame is right; sent is what was asked. false: it answers something else. */
    bool (*answer)(struct host_ic *ic, uint32_t status, const uint8_t *body, uint32_t bytes, const uint8_t *sent);
    /* There will be no answer to the request. closed: nor to those that wait behind it. */
    void (*lost)(struct host_ic *ic, bool closed);
    uint64_t (*limit_100ns)(const struct host_ic *ic);
};

enum ic_stage {
    IC_CLOSED,
    IC_NEW,                                       /* the host is to begin */
    IC_NEGOTIATING,
    IC_READY,
    IC_REFUSED,                                   /* no version in common */
};

struct host_ic {
    struct host *h;
    const struct ic_kind *kind;
    enum host_ic_kind which;
    struct host_chan *ch;                         /* NULL: the offer is gone */
    enum ic_stage stage;
    bool renegotiate;
    struct host_alarm alarm;
    uint64_t due;                                 /* the component's own next time, HOST_NEVER */
    uint8_t flags;                                /* of the request that is being made */

    /* the request that waits for its answer */
    bool waiting;
    bool spoiled;                                 /* by a fault: its answer may be anything */
    bool bent;                                    /* by malice: the guest may even have taken it for a negotiation */
    struct ic_message asked;
    uint32_t asked_bytes;                         /* of the packet's payload, padded */
    uint8_t body[IC_BODY_MAX];
    uint64_t deadline;
    bool silent;                                  /* no answer came in time, and none since: said once */
    uint8_t last_transaction;
    uint16_t late[256];                           /* per transaction: given up, the answer may still come */
    uint16_t strays;                              /* bent ones that were: their answers may say anything */

    struct host_ic_state seen;                    /* counters, versions, results */

    /* the components' own */
    bool wanted;                                  /* shutdown, timesync, VSS: asked for by a call */
    struct ic_shutdown shutdown;
    uint64_t sequence;                            /* heartbeat */
    uint32_t vss_operation;
};

struct kvp_request {
    struct list node;
    struct host_kvp_result about;                 /* number, operation, pool, key, value */
};

struct host_ics {
    struct host_ic_config cfg;
    uint64_t time_base;                           /* time of day at reference time 0 */
    struct host_ic ic[HOST_ICS];
    struct list kvp_requests, kvp_results;        /* the first request is the one being asked */
    uint32_t kvp_request_count, kvp_result_count, kvp_last;
    /* Scratch, see struct host: what is being sent, text from an answer. */
    uint8_t message[IC_MESSAGE_MAX];
    char text[3 * 1024];
};

/* One per component: ic_shutdown.c, ic_heartbeat.c, ic_timesync.c, ic_kvp.c, ic_vss.c */
extern const struct ic_kind ic_shutdown, ic_heartbeat, ic_timesync, ic_kvp, ic_vss;

/* ---- ic.c ------------------------------------------------------------------------------------------- */

/* NULL: it is not there, or not ready for requests. */
struct host_ic *ic_ready(struct host *h, enum host_ic_kind which);
void ic_wake(struct host_ic *ic);                 /* it may have something to ask */
void ic_lost(struct host_ic *ic);                 /* the request has no answer, or none that says anything */
uint64_t ic_limit(const struct host_ic *ic);      /* answer_limit_ms */
bool ic_open(struct host_chan *ch);
void ic_close(struct host_chan *ch);
enum host_take ic_packet(struct host_chan *ch, const struct host_packet *packet);
void ic_output(struct host_chan *ch);
uint32_t ic_in_flight(struct host_chan *ch);
void ic_freed(struct host_chan *ch);

/* The channel's side is the same for all. */
#define IC_DEV(id, instance_guid)                                                                      \
    {                                                                                                  \
        .name = "ic " id, .instance = (instance_guid), .offer_flags = VMBUS_OFFER_NAMED_PIPE_MODE,     \
        .open = ic_open, .close = ic_close, .packet = ic_packet, .output = ic_output,                  \
        .in_flight = ic_in_flight, .freed = ic_freed                                                   \
    }

/* malice_service.c: a message as it is sent; IC_MESSAGE_MAX bytes are there. True: it was bent, the answer may be
 * anything. */
bool malice_component(struct host_ic *ic, uint8_t *message, uint32_t *bytes);

/* ---- ic_kvp.c, ic_kvp_ip.c, ic_text.c --------------------------------------------------------------- */

void kvp_init(struct host_ics *ics);
/* An item of the transaction r describes. */
void kvp_item(struct host *h, const struct host_kvp_result *r, const char *key, const char *value);
uint32_t kvp_ip_request(struct host_ic *ic, const char *adapter, uint8_t *body);
void kvp_ip_answer(struct host_ic *ic, const struct host_kvp_result *r, const uint8_t *body);
/* UTF-8 to UTF-16 with a zero at the end. Returns the bytes written; 0: malformed, or longer than max. */
uint32_t ic_to_utf16(const char *text, uint8_t *to, uint32_t max);
/* bytes of UTF-16 that end in a zero, and have none before. false: they are not that, or too long for to. */
bool ic_from_utf16(const uint8_t *from, uint32_t bytes, char *to, uint32_t size);
/* The same in a field of max bytes whose zero is somewhere. */
bool ic_from_utf16_field(const uint8_t *from, uint32_t max, char *to, uint32_t size);
