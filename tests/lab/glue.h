/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the lab and the model of the host: the one model, and the duty to poll it. */
#pragma once
#include "tests/host/host.h"
#include "tests/lab/lab.h"

extern struct host *lab_host;
extern bool glue_xmm_hypercalls;         /* the model announces vector registers as hypercall input */
/* Was called, so host_poll is due before the guest goes on. */
void glue_model_called(void);

/* ---- back ends: what vblk.c, ramdisk.c and vnet.c give ---- */
struct lab_disk {
    struct host_blk_info info;
    const struct host_blk_ops *ops;
    void *backend;
    bool attached;
};
struct lab_nic {
    uint8_t mac[6];
    uint16_t mtu;                        /* 0: not told */
    const struct host_net_ops *ops;
    void *backend;
    struct host_nic *host;               /* NULL while unplugged */
    bool link;
};
#define LAB_MAX_DISKS 16
#define LAB_MAX_NICS  8
extern struct lab_disk lab_disks[LAB_MAX_DISKS];
extern unsigned lab_disk_count;
extern struct lab_nic lab_nics[LAB_MAX_NICS];
extern unsigned lab_nic_count;

bool vblk_poll(void);                    /* completions; true when there were any */
void vblk_kick(void);                    /* tells the devices about what submit queued */
bool vnet_poll(void);
void vnet_kick(void);
bool ramdisk_create(uint64_t bytes);
bool ramdisk_poll(void);                 /* completes what is due; true when there was any */
uint64_t ramdisk_deadline_100ns(void);   /* when the next request is due; UINT64_MAX: none waits */
