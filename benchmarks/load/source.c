/* The addresses we speak from, and whether each is always served in the same place. */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

/* One line for each source, in order; a jar that is not there is empty. */
static void jar_read(struct run *run)
{
    FILE *jar = run->options.jar_path ? fopen(run->options.jar_path, "r") : NULL;
    for (int i = 0; jar && i < run->options.sources; i++) {
        char *cookie = run->sources[i].cookie;
        if (!fgets(cookie, COOKIE_ROOM, jar))
            break;
        cookie[strcspn(cookie, "\n")] = 0;
    }
    if (jar)
        fclose(jar);
}

bool jar_write(const struct run *run)
{
    FILE *jar = run->options.jar_path ? fopen(run->options.jar_path, "w") : NULL;
    if (!jar)
        return !run->options.jar_path;
    for (int i = 0; i < run->options.sources; i++)
        fprintf(jar, "%s\n", run->sources[i].cookie);
    return !fclose(jar);
}

/* 127.1.i.1, one to a /24, because nginx's ip_hash looks at three octets only; or, with
 * spread_hosts, 127.1.0.i, which is how the clients of one network look. */
void sources_make(struct run *run)
{
    unsigned count = (unsigned)run->options.sources;
    run->sources = calloc(count, sizeof *run->sources);
    if (!run->sources) {
        perror("load: sources");
        exit(2);
    }
    run->last_free = &run->first_free;
    for (unsigned i = 0; i < count; i++) {
        struct source *source = &run->sources[i];
        unsigned third = run->options.spread_hosts ? i / 254 : i % 256;
        unsigned fourth = run->options.spread_hosts ? i % 254 + 1 : i / 256 + 1;
        source->address.sin_family = AF_INET;
        source->address.sin_addr.s_addr = htonl(0x7f010000u | third << 8 | fourth);
        source_give_back(run, source);
    }
    jar_read(run);
}

/* The one that has rested longest. */
struct source *source_take(struct run *run)
{
    struct source *source = run->first_free;
    run->first_free = source->next;
    if (!run->first_free)
        run->last_free = &run->first_free;
    return source;
}

void source_give_back(struct run *run, struct source *source)
{
    source->next = NULL;
    *run->last_free = source;
    run->last_free = &source->next;
}

/* A socket on its way to the target, or -1 with errno. */
int open_from(const struct source *source, const struct sockaddr_in *target)
{
    int one = 1, saved;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* Without this the kernel picks the port at bind, when it does not know the target
     * yet, and runs out of ports that are free for every target. */
    setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(descriptor, (const struct sockaddr *)&source->address, sizeof source->address)
        || (connect(descriptor, (const struct sockaddr *)target, sizeof *target)
            && errno != EINPROGRESS)) {
        saved = errno;
        close(descriptor);
        errno = saved;
        return -1;
    }
    return descriptor;
}

/* Which port the kernel chose for a socket, or 0 if it cannot tell. */
uint16_t own_port(int descriptor)
{
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    return getsockname(descriptor, (struct sockaddr *)&own, &length) ? 0 : ntohs(own.sin_port);
}

static void count_answerer(struct run *run, long pid)
{
    for (size_t i = 0; i < run->answerer_count; i++) {
        if (run->answerers[i].pid == pid) {
            run->answerers[i].answers++;
            return;
        }
    }
    struct answerer *grown =
        realloc(run->answerers, (run->answerer_count + 1) * sizeof *run->answerers);
    if (!grown) {
        perror("load: answerers");
        exit(2);
    }
    run->answerers = grown;
    run->answerers[run->answerer_count++] = (struct answerer){ pid, 1 };
}

/* Each failed request since the last answer may or may not have been counted before its
 * connection broke, so the count may run ahead by as many. */
void source_answered(struct run *run, struct source *source, struct response *response)
{
    long pid;
    unsigned long hits;
    if (!response->body_length
        || sscanf(response->body, "Worker %ld session hits: %lu", &pid, &hits) != 2) {
        run->unreadable++;
        return;
    }
    count_answerer(run, pid);
    if (source->seen && source->pid != pid) {
        run->moves++;
        source->moved = true;
        ledger_answer(run, "moved", source, pid, hits);
    }
    if (source->seen && (run->options.carried || source->pid == pid)) {
        run->order_checked++;
        if (hits <= source->hits || hits > source->hits + 1 + source->unsure) {
            run->order_wrong++;
            ledger_answer(run, "order", source, pid, hits);
        }
    }
    source->seen = true;
    source->pid = pid;
    source->hits = hits;
    source->unsure = 0;
}
