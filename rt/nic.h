/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network interface class: frames between a driver (netvsc) and the one network stack (rt/net).
 *
 * Frames are Ethernet without FCS. Sending is by reference: up to NIC_MAX_PIECES pieces of any memory that stay put
 * until done; a driver may copy small frames and then call done before nic_send returns. Receiving is by reference too:
 * the driver hands out memory in its receive buffer and the stack gives it back with nic_rx_release, soon.
 */
#pragma once
#include "rt/rt.h"

#define NIC_MAX_PIECES 18

enum nic_tx_flag {
    NIC_TX_CSUM_IP4 = 1,      /* device fills the IPv4 header checksum */
    NIC_TX_CSUM_TCP = 2,      /* TCP/UDP checksum field holds the pseudo-header sum; transport_offset is valid */
    NIC_TX_CSUM_UDP = 4,
    NIC_TX_IP6      = 8,
    NIC_TX_LSO      = 16,     /* TCP segmentation, mss valid; with NIC_TX_CSUM_TCP; the first piece holds all headers */
};
enum nic_rx_flag { NIC_RX_CSUM_IP4_OK = 1, NIC_RX_CSUM_L4_OK = 2, NIC_RX_CSUM_BAD = 4 };

struct nic_piece { const void *addr; uint32_t bytes; };
struct nic_tx {
    struct nic_piece pieces[NIC_MAX_PIECES];
    uint16_t piece_count;
    uint16_t transport_offset, mss;
    uint32_t flags;
    uint32_t total_bytes;
    void (*done)(struct nic_tx *tx);       /* in the event loop; the pieces may be reused */
    void *arg;
    struct list node;                      /* driver's queue */
    void *driver_data;
};
struct nic_rx {
    void *frame;
    uint32_t bytes;
    uint32_t flags;
    uint16_t vlan;                         /* 0 none */
    void *token;                           /* the driver's, for nic_rx_release */
};

struct nic;
struct nic_ops {
    /* 0: taken (done will be called); -E_AGAIN: no room, nothing taken, nic_tx_ready will be called; -E_REMOVED. */
    int (*send)(struct nic *n, struct nic_tx *tx);
    void (*kick)(struct nic *n);           /* one signal for all that was sent since the last */
    void (*rx_release)(struct nic *n, void *token);
};
struct nic {
    char name[16];                         /* "nic0" */
    uint8_t mac[6];
    uint16_t mtu;                          /* without the Ethernet header */
    uint32_t link_speed_mbps;
    bool link_up;
    uint32_t tx_offloads;                  /* nic_tx_flag that the device honours */
    uint32_t rx_offloads;                  /* nic_rx_flag that may be set */
    uint32_t lso_max_bytes;
    const struct nic_ops *ops;
    void *driver;
    /* the class's own */
    struct nic_user *user;
    bool removed;
    unsigned number;                       /* the one in the name */
    struct list node;
    struct {
        uint64_t tx_frames, tx_bytes, rx_frames, rx_bytes, tx_errors, rx_dropped, tx_copied, tx_referenced;
    } stats;
};
/* The network stack. One may attach; callbacks run in the event loop. */
struct nic_user {
    void (*added)(struct nic *n);
    void (*removed)(struct nic *n);        /* after it no send; tokens still held must be released before it returns */
    void (*link)(struct nic *n, bool up);
    void (*receive)(struct nic *n, struct nic_rx *frames, unsigned count);  /* ownership passes; release each token */
    void (*tx_ready)(struct nic *n);
};
/* for drivers */
int nic_register(struct nic *n);
void nic_unregister(struct nic *n);
void nic_link_changed(struct nic *n, bool up);
void nic_receive(struct nic *n, struct nic_rx *frames, unsigned count);
void nic_tx_ready(struct nic *n);
/* for the stack and the status page */
void nic_set_user(struct nic_user *user);      /* added() is called for the NICs present */
struct nic *nic_get_index(unsigned index);
