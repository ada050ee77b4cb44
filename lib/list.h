/* SPDX-License-Identifier: BSD-2-Clause */
/* Intrusive doubly linked lists: a head and its nodes are the same struct, an empty head points at itself. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list { struct list *next, *prev; };

#define LIST_INIT(head) {&(head), &(head)}
static inline void list_init(struct list *head) { head->next = head->prev = head; }
static inline bool list_empty(const struct list *head) { return head->next == head; }
static inline void list_insert_between(struct list *node, struct list *prev, struct list *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}
static inline void list_push_back(struct list *head, struct list *node) { list_insert_between(node, head->prev, head); }
static inline void list_push_front(struct list *head, struct list *node)
{
    list_insert_between(node, head, head->next);
}
/* Leaves the node pointing at itself, so that removing it twice is harmless. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
static inline struct list *list_pop_front(struct list *head)
{
    struct list *node = head->next;
    if (node == head)
        return NULL;
    list_remove(node);
    return node;
}
#define list_entry(node, type, member) ((type *)((char *)(node) - offsetof(type, member)))
#define list_for_each(pos, head) for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
/* Safe against removal of pos itself. */
#define list_for_each_safe(pos, head)                                             \
    for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head); \
         pos = pos##_next, pos##_next = pos->next)
