/* The floor: what routing and passing descriptors cost when hardly anything else is done.
 *
 *   floor PORT WORKERS
 *
 * The primary accepts, hashes the address, and passes the descriptor over a SOCK_SEQPACKET
 * pair to one of its children, which knows just enough HTTP for the load generator: a request
 * is whatever ends in an empty line, in one piece.  A bound, not a rival. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_WORKERS 64
#define DESCRIPTORS 65536
#define CLIENTS 65536           /* a power of two; the generator has fewer addresses */

union rights {
    struct cmsghdr header;      /* for its alignment */
    char space[CMSG_SPACE(sizeof(int))];
};

struct client {
    uint32_t address;
    unsigned long hits;
};

static struct client clients[CLIENTS];
static struct client *client_at[DESCRIPTORS];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint32_t scramble(uint32_t value)
{
    value = (value ^ value >> 16) * 0x45d9f3bu;
    value = (value ^ value >> 16) * 0x45d9f3bu;
    return value ^ value >> 16;
}

static struct client *client_of(uint32_t address)
{
    uint32_t at = scramble(address) % CLIENTS;
    while (clients[at].address && clients[at].address != address)
        at = (at + 1) % CLIENTS;
    clients[at].address = address;
    return &clients[at];
}

static void watch(int epoll, int descriptor)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = descriptor };
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event))
        die("epoll_ctl");
}

/* Answers what has come.  Returns 0 once the connection is over; closing is the caller's. */
static int answer(int descriptor)
{
    char request[4096], body[64], response[256];
    ssize_t got = recv(descriptor, request, sizeof request - 1, 0);
    if (got < 0)
        return errno == EAGAIN;
    request[got] = 0;
    if (got < 4 || memcmp(request + got - 4, "\r\n\r\n", 4))
        return 0;
    int last = strcasestr(request, "\r\nconnection: close\r\n") != NULL;
    int length = snprintf(body, sizeof body, "Worker %d session hits: %lu\n", (int)getpid(),
                          ++client_at[descriptor]->hits);
    length = snprintf(response, sizeof response,
                      "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s",
                      last ? "Connection: close\r\n" : "", length, body);
    return send(descriptor, response, (size_t)length, MSG_NOSIGNAL) == length && !last;
}

/* One descriptor from the primary, or -1 if there is none just now. */
static int receive(int channel, uint32_t *address)
{
    union rights rights;
    int descriptor;
    struct iovec bytes = { address, sizeof *address };
    struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &rights,
                              .msg_controllen = sizeof rights };
    ssize_t got = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (!got)
        exit(0);                /* the primary is gone */
    if (got < 0)
        return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header)
        die("no descriptor in the message");
    memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    return descriptor;
}

static void work(int channel)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC), descriptor;
    uint32_t address;
    struct epoll_event events[256];
    watch(epoll, channel);
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd != channel) {
                if (!answer(events[i].data.fd))
                    close(events[i].data.fd);
                continue;
            }
            while ((descriptor = receive(channel, &address)) >= 0) {
                if (descriptor >= DESCRIPTORS) {
                    close(descriptor);
                    continue;
                }
                client_at[descriptor] = client_of(address);
                if (answer(descriptor))
                    watch(epoll, descriptor);
                else
                    close(descriptor);
            }
        }
    }
}

static void pass(int channel, int descriptor, uint32_t address)
{
    union rights rights;
    struct iovec bytes = { &address, sizeof address };
    struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &rights,
                              .msg_controllen = sizeof rights };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    if (sendmsg(channel, &message, MSG_NOSIGNAL) < 0)
        die("sendmsg");
}

int main(int argc, char **argv)
{
    int workers = argc == 3 ? atoi(argv[2]) : 0, one = 1, channels[MOST_WORKERS], pair[2];
    if (workers < 1 || workers > MOST_WORKERS)
        return 2;
    for (int i = 0; i < workers; i++) {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
            die("socketpair");
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (!child) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            close(pair[0]);
            for (int k = 0; k < i; k++)
                close(channels[k]);
            work(pair[1]);
        }
        channels[i] = pair[0];
        close(pair[1]);
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), descriptor;
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, SOMAXCONN))
        die("listen");
    for (;;) {
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        descriptor = accept4(listener, (struct sockaddr *)&peer, &length,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor < 0)
            continue;
        uint32_t address = peer.sin_addr.s_addr;
        pass(channels[scramble(address) % (unsigned)workers], descriptor, address);
        close(descriptor);
    }
}
