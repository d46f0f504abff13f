/* Writes down what a primary's system calls carry, from between it and the C library.
 *
 * Loaded into a primary by LD_PRELOAD, and into none of its children.  Of each handoff
 * channel (SOCK_SEQPACKET) every message that was sent or received goes into the file that
 * STICKYD_TEST_WIRE names, and so does every connection that was accepted.  One line each,
 * one write(2) each, in the order in which the primary made the calls:
 *
 *     US accepted HOST PORT
 *     US sent THEIRS HEX             a message, cut
 *     US received THEIRS HEX
 *     US unread THEIRS HEX           the primary closed the channel without having read it
 *
 * THEIRS is the inode of the worker's end.  The time is that of CLOCK_MONOTONIC, taken
 * before a message is sent, and after anything else has happened.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST_DESCRIPTORS 65536
#define MOST_BYTES 160          /* of a message: its header, address and key */

static int file = -1;
static pid_t owner;
static ino_t channels[MOST_DESCRIPTORS];        /* the other end's inode; 0: no channel */

static int (*real_accept4)(int, struct sockaddr *, socklen_t *, int);
static int (*real_close)(int);
static int (*real_socketpair)(int, int, int, int *);
static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
static ssize_t (*real_recvmsg)(int, struct msghdr *, int);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("STICKYD_TEST_WIRE");
    real_accept4 = dlsym(RTLD_NEXT, "accept4");
    real_close = dlsym(RTLD_NEXT, "close");
    real_socketpair = dlsym(RTLD_NEXT, "socketpair");
    real_sendmsg = dlsym(RTLD_NEXT, "sendmsg");
    real_recvmsg = dlsym(RTLD_NEXT, "recvmsg");
    unsetenv("LD_PRELOAD");     /* workers are to be as they always are */
    if (path)
        file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) {
        perror("wire: STICKYD_TEST_WIRE");
        exit(2);
    }
    owner = getpid();
}

/* A child between fork and exec closes all that it has inherited; that is no event. */
static ino_t channel_of(int descriptor)
{
    if (descriptor < 0 || descriptor >= MOST_DESCRIPTORS || getpid() != owner)
        return 0;
    return channels[descriptor];
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void put(const char *line, int length)
{
    int kept = errno;
    if (write(file, line, (size_t)length) != length) {
        perror("wire: write");
        abort();                /* a record with gaps would excuse or accuse at random */
    }
    errno = kept;
}

static void tell(uint64_t at, const char *format, ...)
{
    char line[256];
    int length = snprintf(line, sizeof line, "%llu ", (unsigned long long)at);
    va_list arguments;
    va_start(arguments, format);
    length += vsnprintf(line + length, sizeof line - (size_t)length, format, arguments);
    va_end(arguments);
    put(line, length);
}

static void tell_message(uint64_t at, const char *event, ino_t channel,
                         const struct msghdr *message, ssize_t size)
{
    static const char digits[] = "0123456789abcdef";
    char line[64 + 2 * MOST_BYTES];
    int length = snprintf(line, 64, "%llu %s %lu ", (unsigned long long)at, event,
                          (unsigned long)channel);
    const unsigned char *bytes = message->msg_iov[0].iov_base;
    for (ssize_t i = 0; i < size && i < MOST_BYTES; i++) {
        line[length++] = digits[bytes[i] >> 4];
        line[length++] = digits[bytes[i] & 15];
    }
    line[length++] = '\n';
    put(line, length);
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
    struct stat theirs;
    int outcome = real_socketpair(domain, type, protocol, pair);
    if (outcome || (type & 0xf) != SOCK_SEQPACKET || getpid() != owner
        || pair[0] >= MOST_DESCRIPTORS || fstat(pair[1], &theirs))
        return outcome;
    channels[pair[0]] = theirs.st_ino;
    return outcome;
}

int accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags)
{
    char host[INET_ADDRSTRLEN];
    int accepted = real_accept4(descriptor, address, length, flags);
    if (accepted >= 0 && address && address->sa_family == AF_INET && getpid() == owner) {
        const struct sockaddr_in *peer = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &peer->sin_addr, host, sizeof host);
        tell(now_us(), "accepted %s %u\n", host, ntohs(peer->sin_port));
    }
    return accepted;
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    ino_t channel = channel_of(descriptor);
    uint64_t before = channel ? now_us() : 0;
    ssize_t size = real_sendmsg(descriptor, message, flags);
    if (channel && size > 0)
        tell_message(before, "sent", channel, message, size);
    return size;
}

ssize_t recvmsg(int descriptor, struct msghdr *message, int flags)
{
    ino_t channel = channel_of(descriptor);
    ssize_t size = real_recvmsg(descriptor, message, flags);
    if (channel && size > 0)
        tell_message(now_us(), "received", channel, message, size);
    return size;
}

/* What lies unread in a channel that the primary gives up, it has decided without. */
static void tell_unread(int descriptor, ino_t channel)
{
    char bytes[MOST_BYTES];
    for (;;) {
        /* Without room for descriptors the kernel closes those that would come along. */
        struct iovec room = { bytes, sizeof bytes };
        struct msghdr message = { .msg_iov = &room, .msg_iovlen = 1 };
        ssize_t size = real_recvmsg(descriptor, &message, MSG_DONTWAIT);
        if (size < 0 && (errno == EINTR || errno == ECONNRESET))
            continue;
        if (size <= 0)
            return;
        tell_message(now_us(), "unread", channel, &message, size);
    }
}

int close(int descriptor)
{
    ino_t channel = channel_of(descriptor);
    if (channel) {
        tell_unread(descriptor, channel);
        channels[descriptor] = 0;
    }
    return real_close(descriptor);
}
