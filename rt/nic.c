/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network interface class: which NICs there are, and the one stack that uses them.
 *
 * Frames do not pass through here one by one: the stack calls the driver's ops, the driver hands batches to
 * nic_receive. A stack that comes late is told of the NICs present; until there is one, what is received goes
 * straight back.
 */
#define LOG_ROOM "nic"
#include "rt/nic.h"

static struct list nics = LIST_INIT(nics);              /* in order of their numbers */
static struct nic_user *stack;

/* The smallest number that is free, and its place. */
static void take_number(struct nic *n)
{
    struct list *before = &nics;

    n->number = 0;
    list_for_each(pos, &nics) {
        if (list_entry(pos, struct nic, node)->number != n->number) {
            before = pos;
            break;
        }
        n->number++;
    }
    list_insert_between(&n->node, before->prev, before);
    ksnprintf(n->name, sizeof(n->name), "nic%u", n->number);
}

int nic_register(struct nic *n)
{
    KASSERT(n->ops && n->mtu >= 576);
    n->removed = false;
    n->user = stack;
    take_number(n);
    log_info_some("%s: %02x:%02x:%02x:%02x:%02x:%02x, MTU %u, %u Mbit/s, link %s, offloads send 0x%x receive 0x%x",
                  n->name,
                  n->mac[0], n->mac[1], n->mac[2], n->mac[3], n->mac[4], n->mac[5], n->mtu, n->link_speed_mbps,
                  n->link_up ? "up" : "down", n->tx_offloads, n->rx_offloads);
    if (n->user)
        n->user->added(n);
    return 0;
}

void nic_unregister(struct nic *n)
{
    KASSERT(!n->removed);
    n->removed = true;
    list_remove(&n->node);
    log_info_some("%s: removed", n->name);
    if (n->user)
        n->user->removed(n);
    n->user = NULL;
}

void nic_link_changed(struct nic *n, bool up)
{
    if (n->link_up == up)
        return;
    n->link_up = up;
    log_info_some("%s: link %s", n->name, up ? "up" : "down");
    if (n->user)
        n->user->link(n, up);
}

void nic_receive(struct nic *n, struct nic_rx *frames, unsigned count)
{
    n->stats.rx_frames += count;
    for (unsigned i = 0; i < count; i++)
        n->stats.rx_bytes += frames[i].bytes;
    if (n->user) {
        n->user->receive(n, frames, count);
        return;
    }
    n->stats.rx_dropped += count;
    for (unsigned i = 0; i < count; i++)
        n->ops->rx_release(n, frames[i].token);
}

void nic_tx_ready(struct nic *n)
{
    if (n->user && !n->removed)
        n->user->tx_ready(n);
}

void nic_set_user(struct nic_user *user)
{
    KASSERT(!stack || !user);
    stack = user;
    list_for_each_safe(pos, &nics) {
        struct nic *n = list_entry(pos, struct nic, node);
        n->user = user;
        if (user)
            user->added(n);
    }
}

struct nic *nic_get_index(unsigned index)
{
    list_for_each(pos, &nics) {
        if (index-- == 0)
            return list_entry(pos, struct nic, node);
    }
    return NULL;
}
