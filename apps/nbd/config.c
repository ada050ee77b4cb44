/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may do what.
 *
 *   nbd.write=disk1,disk2     disks that may be written to; every other export is read-only
 *   nbd.allow=10.0.2.0/24,fd00::/8,192.0.2.7
 *                             clients that may connect; without it everyone who can reach the port
 *
 * A word of nbd.allow= that can't be read lets nobody in, and when no word can be read, nobody gets in at all: a typing
 * error must not open the door.
 */
#define LOG_ROOM "nbd"
#include "apps/nbd/config.h"
#include <string.h>

#define NETS_MAX 16

struct net { ip_addr_t address; unsigned bits; };

static struct net nets[NETS_MAX];
static unsigned net_count;
static bool restricted;
static const char *write_text = "", *allow_text = "";

/* Calls fn for each word between commas. */
static void each_word(const char *text, void (*fn)(const char *word))
{
    while (*text) {
        char word[64];
        const char *comma = strchr(text, ',');
        size_t n = comma ? (size_t)(comma - text) : strlen(text);
        memcpy(word, text, MIN(n, sizeof(word) - 1));
        word[MIN(n, sizeof(word) - 1)] = 0;
        if (n)
            fn(word);
        text += n + (comma != NULL);
    }
}

static bool parse_net(char *word, struct net *net)
{
    char *slash = strchr(word, '/');
    unsigned bits = 0;
    if (slash)
        *slash = 0;
    if (!ipaddr_aton(word, &net->address))
        return false;
    unsigned most = IP_IS_V6_VAL(net->address) ? 128 : 32;
    if (!slash) {
        net->bits = most;
        return true;
    }
    if (!slash[1] || strlen(slash + 1) > 3)
        return false;
    for (const char *p = slash + 1; *p; p++) {
        if (*p < '0' || *p > '9')
            return false;
        bits = bits * 10 + (unsigned)(*p - '0');
    }
    net->bits = bits;
    return bits <= most;
}

static void add_net(const char *word)
{
    char copy[64];
    ksnprintf(copy, sizeof(copy), "%s", word);
    if (net_count == NETS_MAX)
        log_err("nbd.allow=: more than %u entries, %s is left out", NETS_MAX, word);
    else if (parse_net(copy, &nets[net_count]))
        net_count++;
    else
        log_err("nbd.allow=: %s is not an address or network; it lets nobody in", word);
}

static void check_disk(const char *word)
{
    struct blk_device *disk = blk_get(word);
    if (!disk) {
        log_warn("nbd.write=: there is no %s now; it will be writable if it comes", word);
        return;
    }
    if (disk->read_only)
        log_warn("nbd.write=: %s is itself read-only", word);
    blk_put(disk);
}

void nbd_config_read(void)
{
    write_text = config_string("nbd.write", "");
    allow_text = config_string("nbd.allow", "");
    each_word(write_text, check_disk);
    restricted = *allow_text;
    net_count = 0;
    each_word(allow_text, add_net);
    if (restricted && !net_count)
        log_err("nbd.allow= names no usable network: nobody can connect");
}

const char *nbd_write_text(void) { return write_text; }
const char *nbd_allow_text(void) { return allow_text; }

static bool may_write(const char *disk)
{
    size_t n = strlen(disk);
    const char *p = write_text;
    while (*p) {
        const char *comma = strchr(p, ',');
        size_t word = comma ? (size_t)(comma - p) : strlen(p);
        if (word == n && memcmp(p, disk, n) == 0)
            return true;
        p += word + (comma != NULL);
    }
    return false;
}
const struct nbd_policy nbd_policy = {may_write};

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8))
        return false;
    unsigned rest = bits % 8;
    return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

bool nbd_client_allowed(const ip_addr_t *client)
{
    if (!restricted)
        return true;
    for (unsigned i = 0; i < net_count; i++) {
        const struct net *net = &nets[i];
        if (IP_GET_TYPE(client) != IP_GET_TYPE(&net->address))
            continue;
        bool same = IP_IS_V6(client) ? same_bits((const uint8_t *)ip_2_ip6(client)->addr,
                                                 (const uint8_t *)ip_2_ip6(&net->address)->addr, net->bits)
                                     : same_bits((const uint8_t *)&ip_2_ip4(client)->addr,
                                                 (const uint8_t *)&ip_2_ip4(&net->address)->addr, net->bits);
        if (same)
            return true;
    }
    return false;
}
