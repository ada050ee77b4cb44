/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch net apps/nbd */
/*
 * lwIP on the runtime, between two machines: a fork of the test is the other one, and their NICs are the two ends of a
 * socket pair. Every received frame has its own allocation, freed at its release, and every sent one may be completed
 * late, refused for want of room, or lost: what the zero-copy paths get wrong, the sanitizer sees.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "apps/nbd/config.h"
#include "apps/nbd/http.h"
#include "apps/nbd/server.h"
#include "rt/candela.h"
#include "rt/net/net.h"
#include "rt/nic.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"
#include "lwip/inet.h"
#include "lwip/sockets.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/stats.h"

/* The host's own: lwIP's header takes their names, and the host's does not agree with it. */
#undef poll
#undef send
#undef recv
#undef close
int socketpair(int domain, int type, int protocol, int fds[2]);
ssize_t send(int fd, const void *data, size_t bytes, int flags);
ssize_t recv(int fd, void *data, size_t bytes, int flags);
int ioctl(int fd, unsigned long request, ...);
#define HOST_SIOCOUTQ       0x5411ul
#define HOST_AF_UNIX        1
#define HOST_SOCK_SEQPACKET 5
#define HOST_MSG_DONTWAIT   0x40
#define HOST_MSG_NOSIGNAL   0x4000

#define MIB       (1u << 20)
#define FRAME_MAX 9100

/* ---- the NIC ---- */
struct trouble { unsigned loss_percent, refuse_percent, offloads; bool late, verifies; };
static struct trouble trouble;
static struct nic nic;
static int wire;
static unsigned tokens, in_nic, kicks, checksummed, large_frames;
static struct list late_frames = LIST_INIT(late_frames);
static bool refused, peer_gone;
static uint64_t seed = 88172645463325252ull;

static uint32_t rnd(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 11) % below;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* What a device with checksum offload does: the field holds the pseudo-header's sum. */
static void finish_checksum(uint8_t *frame, size_t bytes, const struct nic_tx *tx)
{
    size_t at = tx->transport_offset, field = at + (tx->flags & NIC_TX_CSUM_TCP ? 16 : 6);
    uint32_t sum = 0;
    KASSERT(field + 2 <= bytes);
    for (size_t i = at; i < bytes; i++)
        sum += (uint32_t)frame[i] << ((i - at) % 2 ? 0 : 8);
    uint16_t value = (uint16_t)~fold(fold(sum));
    frame[field] = (uint8_t)(value >> 8);
    frame[field + 1] = (uint8_t)value;
    checksummed++;
}

static void put_on_wire(const uint8_t *frame, size_t bytes)
{
    if (rnd(100) >= trouble.loss_percent)
        send(wire, frame, bytes, HOST_MSG_DONTWAIT | HOST_MSG_NOSIGNAL);
}

/* What a device with large send offload does: headers again before each mss of data, lengths, numbers, checksums. */
static void cut_large(const uint8_t *frame, size_t bytes, const struct nic_tx *tx)
{
    bool six = tx->flags & NIC_TX_IP6;
    size_t tcp = tx->transport_offset, head = tcp + (frame[tcp + 12] >> 4) * 4u;
    KASSERT((tx->flags & NIC_TX_CSUM_TCP) && tcp == (six ? 54 : 34) && tx->mss == nic.mtu - tcp + 14 - 20 && bytes <= 62780);
    for (size_t at = head; at < bytes; at += tx->mss) {
        uint8_t out[FRAME_MAX];
        size_t n = MIN(bytes - at, (size_t)tx->mss);
        uint32_t sequence = get_be32(frame + tcp + 4) + (uint32_t)(at - head), sum = 0;
        memcpy(out, frame, head);
        memcpy(out + head, frame + at, n);
        put_be32(out + tcp + 4, sequence);
        if (at + n < bytes)
            out[tcp + 13] &= (uint8_t)~9u;      /* FIN and PSH belong to the last */
        put_be16(out + (six ? 18 : 16), (uint16_t)(head + n - (six ? 54 : 14)));
        if (!six) {
            put_be16(out + 24, 0);
            for (unsigned i = 14; i < 34; i += 2)
                sum += get_be16(out + i);
            put_be16(out + 24, (uint16_t)~fold(sum));
        }
        sum = 6 + (uint32_t)(head - tcp + n);
        for (size_t i = six ? 22 : 26; i < tcp; i += 2)
            sum += get_be16(out + i);
        put_be16(out + tcp + 16, fold(sum));
        struct nic_tx one = *tx;
        finish_checksum(out, head + n, &one);
        put_on_wire(out, head + n);
        large_frames++;
    }
}

static int nic_send(struct nic *n, struct nic_tx *tx)
{
    static uint8_t frame[65536];
    size_t bytes = 0;
    if (rnd(100) < trouble.refuse_percent || in_nic > 64) {
        refused = true;
        return -E_AGAIN;
    }
    KASSERT(tx->piece_count > 0 && tx->piece_count <= NIC_MAX_PIECES);
    for (unsigned i = 0; i < tx->piece_count; i++) {
        KASSERT(bytes + tx->pieces[i].bytes <= sizeof(frame));
        memcpy(frame + bytes, tx->pieces[i].addr, tx->pieces[i].bytes);
        bytes += tx->pieces[i].bytes;
    }
    KASSERT(bytes == tx->total_bytes && (bytes <= n->mtu + 14u || (tx->flags & NIC_TX_LSO)));
    if (tx->flags & NIC_TX_LSO) {
        cut_large(frame, bytes, tx);
    } else {
        if (tx->flags & (NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP))
            finish_checksum(frame, bytes, tx);
        put_on_wire(frame, bytes);
    }
    n->stats.tx_frames++;
    if (trouble.late) {
        in_nic++;
        list_push_back(&late_frames, &tx->node);
    } else {
        tx->done(tx);
    }
    return 0;
}

static void complete_late(void)
{
    struct list *node;
    while ((node = list_pop_front(&late_frames))) {
        in_nic--;
        struct nic_tx *tx = list_entry(node, struct nic_tx, node);
        tx->done(tx);
    }
    if (refused) {
        refused = false;
        nic_tx_ready(&nic);
    }
}

static void nic_kick(struct nic *n) { (void)n; kicks++; }
static void nic_release(struct nic *n, void *token)
{
    (void)n;
    KASSERT(tokens > 0);
    tokens--;
    free(token);
}
static const struct nic_ops nic_ops = {nic_send, nic_kick, nic_release};

static void drain_wire(void *arg)
{
    uint8_t buffer[FRAME_MAX];
    struct nic_rx frames[16];
    unsigned n = 0;
    (void)arg;
    complete_late();
    for (;;) {
        ssize_t bytes = recv(wire, buffer, sizeof(buffer), HOST_MSG_DONTWAIT);
        if (bytes > 0) {
            void *frame = malloc((size_t)bytes);
            memcpy(frame, buffer, (size_t)bytes);
            frames[n++] = (struct nic_rx){.frame = frame, .bytes = (uint32_t)bytes, .token = frame,
                                          .flags = trouble.verifies ? NIC_RX_CSUM_L4_OK | NIC_RX_CSUM_IP4_OK : 0};
            tokens++;
        }
        if (n == ARRAY_SIZE(frames) || (bytes <= 0 && n)) {
            if (nic.removed)
                for (unsigned i = 0; i < n; i++)
                    nic_release(&nic, frames[i].token);
            else
                nic_receive(&nic, frames, n);
            n = 0;
        }
        if (bytes <= 0) {
            peer_gone = bytes == 0;
            return;
        }
    }
}
static struct rt_event wire_event = RT_EVENT_INIT(drain_wire, NULL);

static void wire_interrupt(void *arg) { (void)arg; event_raise(&wire_event); }

/*
 * Two machines, two virtual clocks. One may jump to its next timer only when the other has nothing to do either; else a
 * machine that the build machine does not let run for a while would look dead to its peer, whose retransmissions would
 * all be over in no time. So each says here when it is idle: shared between the processes, NULL with a single machine.
 */
static bool *idle_machines;
static unsigned own_number;

/* The other one is idle, and has read all that was sent to it: what it sent before is in our queue. */
static bool other_is_idle(void)
{
    int unread = 0;
    return __atomic_load_n(&idle_machines[3 - own_number], __ATOMIC_SEQ_CST) &&
           ioctl(wire, HOST_SIOCOUTQ, &unread) == 0 && unread == 0;
}

/* Something came from the other machine: 1. Nothing will until time passes: 0. */
static bool wait_for_wire(void)
{
    struct pollfd p = {.fd = wire, .events = POLLIN};
    if (!idle_machines)
        return poll(&p, 1, 5) > 0;
    __atomic_store_n(&idle_machines[own_number], true, __ATOMIC_SEQ_CST);
    bool came;
    do
        came = poll(&p, 1, 1) > 0;
    while (!came && !other_is_idle());
    came = came || poll(&p, 1, 0) > 0;
    __atomic_store_n(&idle_machines[own_number], false, __ATOMIC_SEQ_CST);
    return came;
}

/* The machine has nothing to do: the other one may have sent something, or will. */
static bool idle_hook(void)
{
    bool work = !list_empty(&late_frames) || refused;
    if (!work && (peer_gone || !wait_for_wire()))
        return false;
    fake_irq_raise(ARCH_IRQ_TEST);
    return true;
}

static uint32_t plugged_mtu = 1500;
static void plug_nic(uint8_t number)
{
    nic = (struct nic){.mac = {0x52, 0x54, 0, 0, 0, number}, .mtu = plugged_mtu, .link_speed_mbps = 1000, .link_up = true,
                       .tx_offloads = trouble.offloads, .lso_max_bytes = 62780, .ops = &nic_ops};
    KASSERT(nic_register(&nic) == 0);
}

static void machine(int fd, unsigned number, const struct trouble *t, const char *settings)
{
    char text[256];
    wire = fd;
    own_number = number;
    trouble = *t;
    seed += number;
    fake_arch_boot(64u * MIB);
    arch_irq_set_handler(ARCH_IRQ_TEST, wire_interrupt, NULL);
    fake_arch_idle_hook = idle_hook;
    /* Both machines draw from the same fake random source; the seed keeps their sequences apart. */
    rt_random_seed(&number, sizeof(number), "test");
    snprintf(text, sizeof(text), "net.address=10.0.0.%u/24 %s", number, settings);
    config_parse(text);
    KASSERT(net_init() == 0);
    plug_nic((uint8_t)number);
    KASSERT(net_wait_ready(1000000));
}

/*
 * Runs client and server on a machine each; true when both return true. The server's machine is killed when the client's
 * has ended, unless it ended before.
 */
static bool pair(bool (*client)(void), bool (*server)(void), struct trouble t, const char *settings)
{
    int fds[2], status;
    KASSERT(socketpair(HOST_AF_UNIX, HOST_SOCK_SEQPACKET, 0, fds) == 0);
    idle_machines = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KASSERT(idle_machines != MAP_FAILED);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);       /* the runner's limit ends the client's machine only */
        close(fds[0]);
        machine(fds[1], 2, &t, settings);
        bool good = server();
        fflush(NULL);
        _exit(good ? 0 : 1);
    }
    close(fds[1]);
    machine(fds[0], 1, &t, settings);
    bool good = client();
    close(fds[0]);
    if (!good)
        kill(child, SIGKILL);
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        printf("the server's machine ended with %#x\n", (unsigned)status);
    return good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- sockets ---- */
static bool use_ip6;

static uint8_t pattern(uint32_t i) { return (uint8_t)(i * 13 + (i >> 10)); }

static socklen_t peer_address(struct sockaddr_storage *s, unsigned number, uint16_t port)
{
    memset(s, 0, sizeof(*s));
    if (use_ip6) {
        struct sockaddr_in6 *a = (void *)s;
        char text[64];
        snprintf(text, sizeof(text), "fe80::5054:ff:fe00:%x", number);
        a->sin6_family = AF_INET6;
        a->sin6_port = lwip_htons(port);
        a->sin6_scope_id = 1 + 1;               /* lo is 1 */
        lwip_inet_pton(AF_INET6, text, &a->sin6_addr);
        return sizeof(*a);
    }
    struct sockaddr_in *a = (void *)s;
    a->sin_family = AF_INET;
    a->sin_port = lwip_htons(port);
    a->sin_addr.s_addr = lwip_htonl(0x0a000000 + number);
    return sizeof(*a);
}

static int listening(int type, uint16_t port)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = lwip_htons(port)};
    int s = lwip_socket(AF_INET6, type, 0);
    if (s < 0 || lwip_bind(s, (struct sockaddr *)&any, sizeof(any)) || (type == SOCK_STREAM && lwip_listen(s, 4)))
        return -1;
    return s;
}

static int connected(uint16_t port)
{
    struct sockaddr_storage address;
    for (unsigned i = 0; i < 60; i++) {
        socklen_t n = peer_address(&address, 2, port);
        int s = lwip_socket(use_ip6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
        if (s >= 0 && lwip_connect(s, (struct sockaddr *)&address, n) == 0)
            return s;
        lwip_close(s);
        task_sleep_us(100000);                  /* the other machine may still be coming up; IPv6 checks its address */
    }
    return -1;
}

#define ECHO_BYTES (2u * MIB)
static unsigned pull_nic_at;                    /* server: after so many bytes the NIC goes and comes back */

static bool echo_server(void)
{
    static uint8_t buffer[20000];
    int listener = listening(SOCK_STREAM, 7), s = lwip_accept(listener, NULL, NULL);
    uint32_t total = 0;
    ssize_t n;
    if (s < 0)
        return false;
    while ((n = lwip_recv(s, buffer, 1 + rnd(sizeof(buffer)), 0)) > 0) {
        for (ssize_t done = 0; done < n;) {
            ssize_t k = lwip_send(s, buffer + done, (size_t)(n - done), 0);
            if (k <= 0)
                return false;
            done += k;
        }
        total += (uint32_t)n;
        if (pull_nic_at && total >= pull_nic_at) {
            pull_nic_at = 0;
            complete_late();
            nic_unregister(&nic);
            complete_late();
            KASSERT(tokens == 0);
            task_sleep_us(300000);
            plug_nic(2);
        }
    }
    lwip_close(s);
    lwip_close(listener);
    task_sleep_us(30000000);                    /* the last acknowledgements, and what must be sent again */
    return n == 0 && total == ECHO_BYTES;
}

static int echo_socket;
static bool sender_good;
static struct wait_queue sender_done;
static bool sender_ended;
static void echo_sender(void *arg)
{
    static uint8_t buffer[30000];
    uint32_t at = 0;
    (void)arg;
    sender_good = true;
    while (at < ECHO_BYTES && sender_good) {
        uint32_t n = MIN(1 + rnd(sizeof(buffer)), ECHO_BYTES - at);
        for (uint32_t i = 0; i < n; i++)
            buffer[i] = pattern(at + i);
        ssize_t done = lwip_send(echo_socket, buffer, n, 0);
        if (done <= 0)
            sender_good = false;
        else
            at += (uint32_t)done;
    }
    lwip_shutdown(echo_socket, SHUT_WR);
    sender_ended = true;
    wait_queue_wake_all(&sender_done);
}

static bool echo_client(void)
{
    static uint8_t buffer[20000];
    uint32_t at = 0;
    ssize_t n = 0;
    wait_queue_init(&sender_done);
    echo_socket = connected(7);
    if (echo_socket < 0 || !task_spawn("sender", echo_sender, NULL, 0))
        return false;
    while (at < ECHO_BYTES && (n = lwip_recv(echo_socket, buffer, 1 + rnd(sizeof(buffer)), 0)) > 0)
        for (ssize_t i = 0; i < n; i++)
            if (buffer[i] != pattern(at++))
                return false;
    if (!WAIT_UNTIL(&sender_done, sender_ended, 10000000, "the sender"))
        return false;
    lwip_close(echo_socket);
    task_sleep_us(1000000);
    return at == ECHO_BYTES && sender_good;
}

TEST(tcp_by_sockets)
{
    CHECK(pair(echo_client, echo_server, (struct trouble){0}, ""));
    CHECK(kicks < nic.stats.tx_frames);
    CHECK_EQ(tokens, 0);
}

TEST(tcp_with_offloads_and_late_completion)
{
    CHECK(pair(echo_client, echo_server, (struct trouble){.offloads = NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP, .late = true}, ""));
    CHECK(checksummed > 0 && lwip_stats.tcp.chkerr == 0);
}

static uint64_t metric(const char *name)
{
    for (const struct metric *m = metric_first(); m; m = m->next)
        if (strcmp(m->name, name) == 0)
            return m->read(m->arg);
    return 0;
}

#define ALL_OFFLOADS (NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP | NIC_TX_IP6 | NIC_TX_LSO)

TEST(tcp_with_large_sends)
{
    CHECK(pair(echo_client, echo_server, (struct trouble){.offloads = ALL_OFFLOADS, .late = true, .verifies = true}, ""));
    CHECK(large_frames > 1000 && lwip_stats.tcp.chkerr == 0 && lwip_stats.ip.chkerr == 0);
    CHECK(metric("candela_net_receive_joined_total") > 100);
}

TEST(tcp_over_ip6_with_large_sends)
{
    use_ip6 = true;
    CHECK(pair(echo_client, echo_server, (struct trouble){.offloads = ALL_OFFLOADS, .late = true, .verifies = true}, ""));
    CHECK(large_frames > 1000 && lwip_stats.tcp.chkerr == 0);
    CHECK(metric("candela_net_receive_joined_total") > 100);
}

TEST(large_sends_with_loss)
{
    CHECK(pair(echo_client, echo_server, (struct trouble){.offloads = ALL_OFFLOADS, .loss_percent = 1, .refuse_percent = 20,
                                                          .late = true, .verifies = true}, ""));
    CHECK(large_frames > 1000 && metric("candela_net_receive_joined_total") > 100);
}

TEST(tcp_with_loss_and_a_full_nic)
{
    CHECK(pair(echo_client, echo_server, (struct trouble){.loss_percent = 2, .refuse_percent = 20, .late = true}, ""));
}

TEST(tcp_over_ip6)
{
    use_ip6 = true;
    CHECK(pair(echo_client, echo_server, (struct trouble){.late = true}, ""));
}

TEST(tcp_over_ip6_with_partial_offload)
{
    use_ip6 = true;
    CHECK(pair(echo_client, echo_server, (struct trouble){.offloads = NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP}, "net.mtu=1400"));
    CHECK(checksummed == 0 && lwip_stats.tcp.chkerr == 0);
}

TEST(connections_survive_a_change_of_nic)
{
    pull_nic_at = ECHO_BYTES / 2;
    CHECK(pair(echo_client, echo_server, (struct trouble){.late = true, .verifies = true}, ""));
}

/* ---- datagrams ---- */
static bool udp_server(void)
{
    static uint8_t buffer[10000];
    int s = listening(SOCK_DGRAM, 9);
    for (;;) {
        struct sockaddr_storage from;
        socklen_t length = sizeof(from);
        ssize_t n = lwip_recvfrom(s, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &length);
        if (n < 0)
            return false;
        lwip_sendto(s, buffer, (size_t)n, 0, (struct sockaddr *)&from, length);
        if (n == 1)
            break;
    }
    task_sleep_us(200000);
    return true;
}

static bool udp_echo(int s, size_t bytes)
{
    static uint8_t out[10000], in[10000];
    struct sockaddr_storage to;
    socklen_t length = peer_address(&to, 2, 9);
    for (size_t i = 0; i < bytes; i++)
        out[i] = pattern((uint32_t)(i + bytes));
    for (unsigned attempt = 0; attempt < 10; attempt++) {
        lwip_sendto(s, out, bytes, 0, (struct sockaddr *)&to, length);
        ssize_t n = lwip_recv(s, in, sizeof(in), 0);
        if (n == (ssize_t)bytes && memcmp(in, out, bytes) == 0)
            return true;
    }
    printf("no echo of %zu bytes\n", bytes);
    return false;
}

static bool udp_client(void)
{
    static const size_t sizes[] = {0, 2, 17, 1000, 1472, 1473, 3000, 8000, 9000};
    struct timeval limit = {.tv_sec = 2};
    int s = lwip_socket(AF_INET, SOCK_DGRAM, 0);
    lwip_setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        if (!udp_echo(s, sizes[i]))
            return false;
    return udp_echo(s, 1);
}

TEST(udp_of_all_sizes) { CHECK(pair(udp_client, udp_server, (struct trouble){.late = true}, "")); }
TEST(udp_with_offloads)
{
    CHECK(pair(udp_client, udp_server, (struct trouble){.offloads = NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP}, ""));
}

/* ---- the NBD server and its status page, through TCP ---- */
#define DISK_BYTES (4u * MIB)
static struct blk_device disk;
static uint8_t *disk_bytes;
static struct list disk_queue = LIST_INIT(disk_queue);

static void disk_run(void *arg)
{
    struct list *node;
    (void)arg;
    while ((node = list_pop_front(&disk_queue))) {
        struct blk_request *r = list_entry(node, struct blk_request, node);
        uint8_t *at = disk_bytes + r->sector * 512;
        for (unsigned i = 0; i < r->span_count; at += r->spans[i++].bytes) {
            if (r->op == BLK_READ)
                memcpy(r->spans[i].addr, at, r->spans[i].bytes);
            else
                memcpy(at, r->spans[i].addr, r->spans[i].bytes);
        }
        blk_complete(r, 0);
    }
}
static struct rt_event disk_event = RT_EVENT_INIT(disk_run, NULL);
static void disk_submit(struct blk_device *d, struct blk_request *r) { (void)d; list_push_back(&disk_queue, &r->node); }
static void disk_kick(struct blk_device *d) { (void)d; event_raise(&disk_event); }
static const struct blk_ops disk_ops = {disk_submit, disk_kick};

static bool appliance(void)
{
    struct nbd_server_config config = {.port = 10809, .max_connections = 4, .policy = &nbd_policy};
    struct nbd_server_stats stats;
    disk_bytes = malloc(DISK_BYTES);
    for (uint32_t i = 0; i < DISK_BYTES; i++)
        disk_bytes[i] = pattern(i);
    disk = (struct blk_device){.description = "Test disk", .sector_bytes = 512, .physical_sector_bytes = 512,
                               .sectors = DISK_BYTES / 512, .max_transfer_bytes = MIB, .has_fua = true, .has_flush = true,
                               .ops = &disk_ops};
    KASSERT(blk_register(&disk, NULL) == 0);
    nbd_config_read();
    nbd_buffers_init(2u * MIB);
    KASSERT(nbd_server_start(&config) == 0 && http_server_start(80) == 0);
    /* Until the client has been and gone, and then some. */
    do {
        task_sleep_us(100000);
        nbd_server_get_stats(&stats);
    } while (stats.accepted == 0 || stats.connections > 0);
    task_sleep_us(30000000);
    return nbd_buffers_used() == 0 && stats.total.errors == 0 && stats.total.dropped == 0;
}

static bool send_all(int s, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = lwip_send(s, (const char *)data + done, bytes - done, 0);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static bool receive_all(int s, void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = lwip_recv(s, (char *)data + done, bytes - done, 0);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static bool http_get(const char *path, const char *expected)
{
    static char answer[200000];
    char text[128];
    size_t total = 0;
    ssize_t n;
    int s = connected(80);
    snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    if (s < 0 || !send_all(s, text, strlen(text)))
        return false;
    while (total < sizeof(answer) - 1 && (n = lwip_recv(s, answer + total, sizeof(answer) - 1 - total, 0)) > 0)
        total += (size_t)n;
    answer[total] = 0;
    lwip_close(s);
    if (strstr(answer, expected))
        return true;
    printf("%s: %.2000s\n", path, answer);
    return false;
}

static void put_request(uint8_t *p, uint16_t command, uint64_t cookie, uint64_t offset, uint32_t length)
{
    p = put_be32(p, NBD_REQUEST_MAGIC);
    p = put_be16(p, 0);
    p = put_be16(p, command);
    p = put_be64(p, cookie);
    p = put_be64(p, offset);
    put_be32(p, length);
}

static bool nbd_client(void)
{
    static uint8_t data[MIB + 64];
    uint8_t text[64], *p = text;
    int s = connected(10809);
    if (s < 0 || !receive_all(s, data, NBD_GREETING_BYTES))
        return false;
    p = put_be32(p, 3);
    p = put_be64(p, NBD_OPTION_MAGIC);
    p = put_be32(p, NBD_OPT_EXPORT_NAME);
    p = put_be32(p, 5);
    memcpy(p, "disk0", 5);
    if (!send_all(s, text, (size_t)(p - text) + 5) || !receive_all(s, data, 10) || get_be64(data) != DISK_BYTES)
        return false;
    /* Everything is read, with requests of 256 KiB, eight ahead; simple replies, but in any order. */
    const uint32_t step = 256u << 10, count = DISK_BYTES / step;
    for (uint32_t n = 0; n < count; n++) {
        put_request(text, NBD_CMD_READ, n, n * step, step);
        if (!send_all(s, text, NBD_REQUEST_BYTES))
            return false;
    }
    for (uint32_t n = 0; n < count; n++) {
        if (!receive_all(s, data, NBD_SIMPLE_REPLY_BYTES) || get_be32(data) != NBD_SIMPLE_REPLY_MAGIC || get_be32(data + 4))
            return false;
        uint64_t offset = get_be64(data + 8) * step;
        if (!receive_all(s, data, step))
            return false;
        for (uint32_t i = 0; i < step; i++)
            if (data[i] != pattern((uint32_t)offset + i))
                return false;
    }
    /* A write, read back. */
    put_request(data, NBD_CMD_WRITE, 77, 4096, MIB);
    for (uint32_t i = 0; i < MIB; i++)
        data[NBD_REQUEST_BYTES + i] = (uint8_t)(i * 3);
    if (!send_all(s, data, NBD_REQUEST_BYTES + MIB) || !receive_all(s, data, 16) || get_be32(data + 4))
        return false;
    put_request(text, NBD_CMD_READ, 78, 4096, MIB / 4);
    if (!send_all(s, text, NBD_REQUEST_BYTES) || !receive_all(s, data, 16 + MIB / 4) || get_be32(data + 4))
        return false;
    for (uint32_t i = 0; i < MIB / 4; i++)
        if (data[16 + i] != (uint8_t)(i * 3))
            return false;
    if (!http_get("/metrics", "candela_nbd_requests_total{kind=\"read\"} 17\n") || !http_get("/", "</html>") ||
        !http_get("/no", "404"))
        return false;
    put_request(text, NBD_CMD_DISC, 0, 0, 0);
    send_all(s, text, NBD_REQUEST_BYTES);
    bool closed = lwip_recv(s, data, 1, 0) == 0;
    lwip_close(s);
    task_sleep_us(1000000);
    return closed;
}

TEST(nbd_and_http_over_tcp)
{
    CHECK(pair(nbd_client, appliance, (struct trouble){.late = true}, "nbd.write=disk0 nbd.allow=10.0.0.1"));
}

TEST(nbd_with_large_sends)
{
    CHECK(pair(nbd_client, appliance, (struct trouble){.late = true, .offloads = ALL_OFFLOADS, .verifies = true}, "nbd.write=disk0"));
}

TEST(nbd_and_http_with_loss)
{
    CHECK(pair(nbd_client, appliance, (struct trouble){.late = true, .loss_percent = 1, .refuse_percent = 10}, "nbd.write=disk0"));
}

/* ---- garbage ---- */
static size_t ip4_frame(uint8_t *f, uint8_t protocol, size_t payload)
{
    static const uint8_t head[] = {0x52, 0x54, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 0, 0, 1, 0, 0, 64, 0, 0, 0,
                                   10, 0, 0, 2, 10, 0, 0, 1};
    uint32_t sum = 0;
    memcpy(f, head, sizeof(head));
    put_be16(f + 16, (uint16_t)(20 + payload));
    f[23] = protocol;
    if (rnd(10) == 0)
        put_be16(f + 20, (uint16_t)(rnd(2) << 13 | rnd(4) * 8));        /* fragments */
    for (unsigned i = 14; i < 34; i += 2)
        sum += get_be16(f + i);
    put_be16(f + 24, (uint16_t)~fold(sum));
    return 34 + payload;
}

static size_t ip6_frame(uint8_t *f, uint8_t next, size_t payload)
{
    static const uint8_t head[] = {0x33, 0x33, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 0, 255,
                                   0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 2,
                                   0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 1};
    memcpy(f, head, sizeof(head));
    put_be16(f + 18, (uint16_t)payload);
    f[20] = next;
    if (rnd(3) == 0) {
        memset(f + 38, 0, 16);
        f[38] = 0xff, f[39] = 2, f[53] = 1;                             /* to all nodes */
    }
    return 54 + payload;
}

/* The device has verified the transport checksum, so that what comes through reaches the protocols. */
static size_t any_frame(uint8_t *f)
{
    static const uint16_t ports[] = {80, 10809, 9, 53, 68, 546};
    size_t payload = 20 + rnd(rnd(2) ? 40 : 1400), at, bytes;
    bool six = rnd(2);
    uint8_t kinds[] = {6, 17, (uint8_t)(six ? 58 : 1), (uint8_t)rnd(256), 0, 43, 44, 60};
    uint8_t kind = kinds[rnd(six ? 8 : 4)];
    memset(f, 0, 1514);
    if (rnd(12) == 0) {
        static const uint8_t arp[] = {255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54,
                                      0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1};
        memcpy(f, arp, sizeof(arp));
        return 60;
    }
    at = six ? 54 : 34;
    bytes = six ? ip6_frame(f, kind, payload) : ip4_frame(f, kind, payload);
    for (size_t i = at; i < bytes; i++)
        f[i] = (uint8_t)rnd(256);
    if (kind == 6) {
        put_be16(f + at, (uint16_t)(1000 + rnd(4)));
        put_be16(f + at + 2, ports[rnd(2)]);
        if (rnd(2))
            put_be32(f + at + 4, rnd(3));
        f[at + 12] = (uint8_t)(rnd(4) ? 0x50 : rnd(256));
        f[at + 13] = (uint8_t)(rnd(2) ? 2 : rnd(64));
    } else if (kind == 17) {
        put_be16(f + at, (uint16_t)(rnd(2) ? 53 : 67));
        put_be16(f + at + 2, ports[rnd(ARRAY_SIZE(ports))]);
        put_be16(f + at + 4, (uint16_t)(rnd(4) ? payload : rnd(2000)));
        put_be16(f + at + 6, 0);
        if (rnd(4) == 0)
            memset(f + at + 36, 0, 200);
    } else if (kind == 58) {
        static const uint8_t types[] = {1, 2, 128, 129, 130, 131, 133, 134, 135, 136, 137};
        f[at] = types[rnd(sizeof(types))];
        f[at + 1] = 0;
        f[at + 4] &= 1;
    } else if (six) {
        f[at] = kinds[rnd(8)];                                          /* a chain of extension headers */
        f[at + 1] = (uint8_t)rnd(4);
    } else if (kind == 1) {
        f[at] = (uint8_t)(rnd(2) ? 8 : rnd(20));
    }
    return bytes;
}

TEST(garbage_does_no_harm)
{
    struct nbd_server_config config = {.port = 10809, .max_connections = 4, .policy = &nbd_policy};
    const char *other = getenv("TEST_SEED");    /* for runs by hand with other garbage */
    int fds[2];
    KASSERT(socketpair(HOST_AF_UNIX, HOST_SOCK_SEQPACKET, 0, fds) == 0);
    seed += other ? strtoull(other, NULL, 0) : 0;
    machine(fds[0], 1, &(struct trouble){.loss_percent = 100, .late = true, .offloads = ALL_OFFLOADS}, "");
    close(fds[1]);
    nbd_buffers_init(2u * MIB);
    KASSERT(nbd_server_start(&config) == 0 && http_server_start(80) == 0 && listening(SOCK_DGRAM, 9) >= 0);
    for (unsigned round = 0; round < 6000; round++) {
        struct nic_rx frames[8];
        unsigned n = 1 + rnd(8);
        for (unsigned i = 0; i < n; i++) {
            uint8_t frame[1514];
            size_t bytes = any_frame(frame);
            for (unsigned k = rnd(3); k > 0; k--)
                frame[rnd(60)] = (uint8_t)rnd(256);
            if (rnd(10) == 0)
                bytes = rnd((uint32_t)bytes + 1);
            void *copy = malloc(bytes ? bytes : 1);
            memcpy(copy, frame, bytes);
            frames[i] = (struct nic_rx){.frame = copy, .bytes = (uint32_t)bytes, .token = copy,
                                        .flags = rnd(8) ? NIC_RX_CSUM_L4_OK | NIC_RX_CSUM_IP4_OK : 0};
            tokens++;
        }
        nic_receive(&nic, frames, n);
        if (round % 8 == 0)
            task_sleep_us(rnd(100) ? 1000 : 3000000);
    }
    for (unsigned i = 0; i < 20; i++)
        task_sleep_us(30000000);
    CHECK(tokens < 200);                        /* what the socket on port 9 was sent stays in its mailbox */
    complete_late();
    nic_unregister(&nic);
    complete_late();
    CHECK_EQ(tokens, 0);
}

/* ---- what nobody reads ---- */
TEST(held_frames_are_given_back_soon)
{
    static uint8_t in[2000];
    int fds[2], s;
    KASSERT(socketpair(HOST_AF_UNIX, HOST_SOCK_SEQPACKET, 0, fds) == 0);
    machine(fds[0], 1, &(struct trouble){.loss_percent = 100}, "");
    s = listening(SOCK_DGRAM, 9);
    for (unsigned i = 0; i < 20; i++) {
        size_t payload = 100 + i * 50, bytes = 14 + 20 + 8 + payload;
        uint8_t *f = malloc(bytes);
        ip4_frame(f, 17, payload + 8);
        f[20] = f[21] = f[24] = f[25] = 0;
        put_be16(f + 34, 5000);
        put_be16(f + 36, 9);
        put_be16(f + 38, (uint16_t)(payload + 8));
        put_be16(f + 40, 0);
        for (size_t k = 0; k < payload; k++)
            f[42 + k] = (uint8_t)(k + i);
        struct nic_rx rx = {.frame = f, .bytes = (uint32_t)bytes, .token = f, .flags = NIC_RX_CSUM_L4_OK | NIC_RX_CSUM_IP4_OK};
        tokens++;
        nic_receive(&nic, &rx, 1);
    }
    CHECK(tokens > 0 && tokens < 20);           /* large ones by reference, small ones copied */
    CHECK_EQ(metric("candela_net_receive_held_frames"), tokens);
    task_sleep_us(1000000);
    CHECK_EQ(tokens, 0);
    for (unsigned i = 0; i < 20; i++) {
        CHECK_EQ(lwip_recv(s, in, sizeof(in), 0), 100 + i * 50);
        for (unsigned k = 0; k < 100 + i * 50; k++)
            CHECK(in[k] == (uint8_t)(k + i));
    }
    CHECK_EQ(metric("candela_net_receive_held_frames"), 0);
}

/* ---- another NIC, another link ---- */
static void alone(unsigned offloads, const char *settings)
{
    int fds[2];
    KASSERT(socketpair(HOST_AF_UNIX, HOST_SOCK_SEQPACKET, 0, fds) == 0);
    machine(fds[0], 1, &(struct trouble){.loss_percent = 100, .offloads = offloads}, settings);
}

static void say_closed(void *arg, err_t error UNUSED) { *(bool *)arg = true; }

static struct tcp_pcb *grown_to(u16_t mss, bool *closed)
{
    struct tcp_pcb *pcb = tcp_new();
    KASSERT(pcb);
    pcb->state = ESTABLISHED;
    pcb->mss = mss;
    ip_addr_set_ip4_u32(&pcb->remote_ip, PP_HTONL(0x0A000002));
    tcp_arg(pcb, closed);
    tcp_err(pcb, say_closed);
    TCP_REG_ACTIVE(pcb);
    return pcb;
}

/* What a connection's own segments were is not known any more once it grew: with longer ones its peer may never answer. */
TEST(large_sends_end_where_segments_grow)
{
    static const struct { u16_t mtu, mss; bool ends; } cases[] = {
        {9000, 14600, true}, {9000, 1460, false}, {9000, 536, false}, {1500, 14600, false}, {1400, 14600, true},
        {1400, 2920, false}, {1400, 536, false},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        bool closed = false;
        if (i == 0)
            alone(ALL_OFFLOADS, "net.mtu=9000");
        struct tcp_pcb *pcb = grown_to(cases[i].mss, &closed);
        nic_unregister(&nic);
        plugged_mtu = cases[i].mtu;
        plug_nic(1);
        CHECK_EQ(closed, cases[i].ends);
        if (!closed)
            tcp_abort(pcb);
        nic_unregister(&nic);
        plugged_mtu = 1500;
        plug_nic(1);
    }
}

static void link_comes(void *arg UNUSED) { nic_link_changed(&nic, true); }

TEST(who_waits_for_an_address_is_told_of_the_link)
{
    struct rt_timer timer;
    alone(0, "net.ipv6=0");
    nic_link_changed(&nic, false);
    CHECK(!net_wait_ready(1000));
    timer_init(&timer, link_comes, NULL);
    uint64_t began = rt_now_100ns();
    timer_arm_100ns(&timer, began + S_100NS(1));
    CHECK(net_wait_ready(20000000));
    CHECK(rt_now_100ns() - began < S_100NS(2));
}

/* ---- without ---- */
TEST(without_a_random_source_the_network_stays_down)
{
    fake_random_available = false;
    fake_arch_boot(64u * MIB);
    CHECK(!rt_random_ready());
    CHECK(net_init() != 0);
    CHECK(!net_is_up() && !net_wait_ready(1000));
    CHECK(fake_log_contains("net.weak_random=1"));
    CHECK(strcmp(net_address_text(), "") == 0);
}

TEST(a_weak_random_source_can_be_allowed)
{
    fake_random_available = false;
    fake_arch_boot(64u * MIB);
    config_parse("net.weak_random=1 net.address=10.0.0.9/24");
    CHECK(net_init() == 0);
    CHECK(net_is_up() && fake_log_contains("can be guessed"));
    CHECK(!net_wait_ready(1000));               /* no NIC */
    CHECK(strcmp(net_address_text(), "10.0.0.9/24") == 0);
}

TEST(settings_that_make_no_sense_are_named)
{
    struct net_info info;
    fake_arch_boot(64u * MIB);
    config_parse("net.address=10.0.0.9 net.gateway=x net.dns=1.2.3.4,nonsense,2001:db8::1 net.mtu=600");
    CHECK(net_init() == 0);
    CHECK(fake_log_contains("10.0.0.9 is not like") && fake_log_contains("nonsense") && fake_log_contains("net.mtu=600"));
    net_get_info(&info);
    CHECK(info.by_dhcp && strstr(info.dns, "1.2.3.4") && strstr(info.dns, "2001:"));
}

TEST_MAIN()
