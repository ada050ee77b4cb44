/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the machine says of itself when the host asks: name, addresses, system, version, and how the application is.
 *
 * The network stack describes its interface through one function that it hands in; without it there is simply nothing
 * to say about addresses.
 */
#include <string.h>
#include "arch/arch.h"
#include "lib/utf16.h"
#include "rt/candela.h"
#include "rt/services.h"

#define SYSTEM_NAME "Candela"

static void (*describe_network)(struct machine_network *network);
static bool critical;

void machine_set_network(void (*describe)(struct machine_network *network)) { describe_network = describe; }

bool machine_network(struct machine_network *network)
{
    memset(network, 0, sizeof(*network));
    if (!describe_network)
        return false;
    describe_network(network);
    KASSERT(network->address_count <= NETWORK_ADDRESSES && network->gateway_count <= ARRAY_SIZE(network->gateways) &&
            network->dns_count <= NETWORK_DNS);
    return true;
}

/* Addresses of one family, separated by ';'. */
static void list_addresses(bool v6, char *text, size_t bytes)
{
    struct machine_network network;
    size_t used = 0;
    if (!machine_network(&network))
        return;
    for (unsigned i = 0; i < network.address_count; i++) {
        const struct network_address *a = &network.addresses[i];
        if (a->v6 == v6 && used + strlen(a->text) + 2 <= bytes)
            used += (size_t)ksnprintf(text + used, bytes - used, "%s%s", used ? ";" : "", a->text);
    }
}

/* The n-th of the numbers of "0.1.0-g1234567"; n = 3 stands for all of them. */
static void version_part(unsigned n, char *text, size_t bytes)
{
    const char *from = candela_version();
    for (unsigned i = 0; i < n && n < 3; i++)
        while (*from && *from++ != '.')
            ;
    size_t length = 0;
    while ((from[length] >= '0' && from[length] <= '9') || (n == 3 && from[length] == '.'))
        length++;
    ksnprintf(text, bytes, "%.*s", (int)length, from);
}

void machine_fact(enum machine_fact fact, char *text, size_t bytes)
{
    struct machine_network network;
    KASSERT(bytes > 0);
    text[0] = '\0';
    switch (fact) {
    case FACT_FQDN:
        /* A setting, so it may be anything; what can't be told would end the list that the host asks for. */
        if (machine_network(&network) && network.hostname &&
            (unsigned)utf16_bytes(network.hostname) <= KEYS_VALUE_UTF16_BYTES)       /* an error is none, either */
            ksnprintf(text, bytes, "%s", network.hostname);
        break;
    case FACT_IPV4:
        list_addresses(false, text, bytes);
        break;
    case FACT_IPV6:
        list_addresses(true, text, bytes);
        break;
    case FACT_OS_BUILD:
        ksnprintf(text, bytes, "%s", candela_version());
        break;
    case FACT_OS_NAME:
        ksnprintf(text, bytes, SYSTEM_NAME);
        break;
    case FACT_OS_MAJOR:
        version_part(0, text, bytes);
        break;
    case FACT_OS_MINOR:
        version_part(1, text, bytes);
        break;
    case FACT_SERVICES_VERSION:
    case FACT_OS_VERSION:
        version_part(3, text, bytes);
        break;
    case FACT_ARCHITECTURE:
        ksnprintf(text, bytes, ARCH_NAME);
        break;
    case FACT_COUNT:
        break;
    }
}

void application_set_healthy(bool healthy) { critical = !healthy; }

enum application_health application_health(void)
{
    return critical ? APPLICATION_CRITICAL : APPLICATION_HEALTHY;
}
