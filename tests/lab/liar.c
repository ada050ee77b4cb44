/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Words that make the host of the lab lie (tests/host/malice.c):
 *
 *   malice=CLASS+CLASS,SEED,RATE   from the first contact on; also the command `malice CLASS+CLASS,SEED,RATE`, and
 *                                  `malice off`. RATE: of so many occasions, one is used
 *   malice.luns=1,2  malice.nics=1 the disks and NICs of the liar, by their numbers; these disks have a controller of
 *                                  their own. About the other disks and NICs the host is honest, about services and
 *                                  the bus never. Without either word it is honest about nothing
 *
 * The classes are those of enum host_malice_class: ring frame id swap early length status handshake offer rescind
 * silence message refuse rndis storm visibility connect gpadl wiring service, and all (but for early and offer). The
 * command `malice renew` takes the liar's devices away and offers new ones; `malice` prints the line `lab-malice:`.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "lib/lib.h"
#include "tests/lab/glue.h"
#include "tests/lab/liar.h"
#include "tests/lab/settings.h"

/* Success that was none can't be told from success, and 2500 offers fill a log. */
#define ALL_CLASSES (HOST_MALICE_ALL & ~(uint32_t)(HOST_MALICE_EARLY | HOST_MALICE_OFFER))

static uint32_t class_named(const char *name, size_t bytes)
{
    for (unsigned bit = 0; host_malice_name(bit); bit++)
        if (strlen(host_malice_name(bit)) == bytes && !strncmp(host_malice_name(bit), name, bytes))
            return 1u << bit;
    return bytes == 3 && !strncmp(name, "all", 3) ? ALL_CLASSES : 0;
}

bool liar_parse(struct host_malice *m, const char *text)
{
    struct host_malice made = {.rate = 1};
    uint64_t rate = 1;

    if (!strcmp(text, "off")) {
        *m = made;
        return true;
    }
    for (size_t n = 0;; text += n + 1) {
        n = 0;
        while (text[n] != '\0' && text[n] != '+' && text[n] != ',')
            n++;
        uint32_t class = class_named(text, n);
        if (!class)
            return false;
        made.classes |= class;
        if (text[n] == '+')
            continue;
        text += n;
        break;
    }
    if (*text++ != ',' || !settings_number(&text, &made.seed) || *text++ != ',' || !settings_number(&text, &rate) ||
        *text != '\0' || rate == 0 || rate > UINT32_MAX)
        return false;
    made.rate = (uint32_t)rate;
    *m = made;
    return true;
}

bool liar_setting(struct lab_liar_settings *s, const char *key, const char *text)
{
    if (!strcmp(key, ".luns"))
        return settings_bit_list(text, &s->luns);
    if (!strcmp(key, ".nics"))
        return settings_bit_list(text, &s->nics);
    return *key == '\0' && liar_parse(&s->malice, text);
}

void liar_start(const struct host_malice *m, const void *const *honest, unsigned count)
{
    struct host_malice mine = *m;

    if (mine.classes == 0) {
        host_set_malice(lab_host, NULL);
        return;
    }
    /* The virtio devices have the addresses of the guest's buffers. */
    mine.idle_rescind = true;
    for (unsigned i = 0; i < count && i < HOST_MALICE_HONEST; i++)
        mine.honest[i] = honest[i];
    host_set_malice(lab_host, &mine);
}

void liar_report(void)
{
    struct host_malice_counters c;

    host_get_malice(lab_host, &c);
    kprintf("lab-malice: occasions=%llu lies=%llu excused=%llu\n", (unsigned long long)c.occasions,
            (unsigned long long)c.lies, (unsigned long long)c.excused);
}
