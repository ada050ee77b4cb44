/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * storvsp.h: a SCSI controller and its disks, shared by storvsp.c (the vstor protocol) and vscsi_*.c (the
 * target).
 */
#pragma once
#include "drivers/scsi_wire.h"
#include "drivers/storvsc_wire.h"
#include "tests/host/host_internal.h"

#define SCSI_LUNS 64u

struct scsi_lun {
    bool present;
    struct host_blk_info info;
    const struct host_blk_ops *ops;
    void *backend;
    uint16_t attention;                   /* SCSI_ASC_* to be reported once, 0 none */
    struct scsi_sense last;               /* for REQUEST SENSE */
};

enum storvsp_state { STORVSP_NEW, STORVSP_BEGUN, STORVSP_VERSION, STORVSP_PROPERTIES, STORVSP_READY };

struct host_scsi {
    struct list node;
    struct host *h;
    struct host_scsi_config cfg;
    struct host_chan *primary;            /* NULL: the offer is gone */
    bool subs_created;                    /* since the primary was opened */
    enum storvsp_state state;
    uint16_t version;
    uint32_t in_flight;                   /* commands of all channels */
    struct list commands;
    struct scsi_lun luns[SCSI_LUNS];
};

/* One command, from its packet until its completion. */
struct scsi_cmd {
    struct host_blk_req req;              /* first: the backend gives it back */
    struct list node;
    struct host_scsi *s;
    struct scsi_lun *lun;
    struct host_chan *ch;
    uint64_t id;
    uint32_t reply_bytes;
    struct vstor_srb srb;                 /* the copy of the request */
    struct host_seg *segs;                /* the guest's buffer, data_bytes long */
    uint32_t seg_count;
    uint8_t *ranges;                      /* the packet's page list: mapped until range_count is 0 */
    uint32_t range_count;
    enum host_use use;
    /* the result */
    uint8_t srb_status, scsi_status, sense_bytes;
    struct scsi_sense sense;
    uint32_t transferred;
    /* UNMAP and WRITE SAME go to the backend piece by piece */
    uint8_t *list;
    uint32_t list_next, list_count;
    bool submitting, completed;
    uint8_t blk_status;
};

/* storvsp.c: a request that is under way names one of the pages */
bool storvsp_uses(const struct host *h, uint64_t first, uint64_t pages);
/* sends the completion, frees the command */
void storvsp_finish(struct scsi_cmd *cmd);
/* malice_packet.c: changes the answer, and what was read where the answer says that it was not */
void malice_srb(struct scsi_cmd *cmd, struct vstor_packet *v);
/* vscsi_disk.c: ends in storvsp_finish, now or later */
void vscsi_execute(struct scsi_cmd *cmd);
/* CHECK CONDITION, finished */
void vscsi_fail(struct scsi_cmd *cmd, uint8_t srb_status, uint8_t key, uint16_t asc);
void vscsi_good(struct scsi_cmd *cmd, uint32_t transferred);
void vscsi_data_in(struct scsi_cmd *cmd, const void *data, uint32_t bytes, uint32_t allocation);
void vscsi_inquiry(struct scsi_cmd *cmd);                  /* vscsi_inquiry.c; lun NULL: absent */
void vscsi_report_luns(struct scsi_cmd *cmd);
void vscsi_read_capacity_10(struct scsi_cmd *cmd);
void vscsi_read_capacity_16(struct scsi_cmd *cmd);
void vscsi_mode_sense(struct scsi_cmd *cmd);
void vscsi_read_write(struct scsi_cmd *cmd);               /* vscsi_rw.c */
void vscsi_verify(struct scsi_cmd *cmd);
void vscsi_synchronize(struct scsi_cmd *cmd);
void vscsi_unmap(struct scsi_cmd *cmd);
void vscsi_write_same(struct scsi_cmd *cmd);
