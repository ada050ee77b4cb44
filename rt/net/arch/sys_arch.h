/* SPDX-License-Identifier: BSD-2-Clause */
/* Types of lwIP's system layer; sys_arch.c holds the functions and the reasons. */
#pragma once

typedef struct net_semaphore *sys_sem_t;
typedef struct net_mutex *sys_mutex_t;
typedef struct net_mailbox *sys_mbox_t;
typedef struct task *sys_thread_t;

#define sys_sem_valid(s)          (*(s) != NULL)
#define sys_sem_set_invalid(s)    (*(s) = NULL)
#define sys_mutex_valid(m)        (*(m) != NULL)
#define sys_mutex_set_invalid(m)  (*(m) = NULL)
#define sys_mbox_valid(m)         (*(m) != NULL)
#define sys_mbox_set_invalid(m)   (*(m) = NULL)
