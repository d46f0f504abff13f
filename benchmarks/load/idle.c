/* Connections that are opened, asked once (or upgraded to WebSocket), and held.
 *
 * Two JSON lines come out: `holding` when the last one is open, `released` at the end.
 * --seconds counts from `holding`; SIGTERM ends it earlier. */
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* A server frame is at most 2 bytes of head and, if a control frame, 125 of payload (RFC
 * 6455, 5.5).  Anything longer would be a message, and idle servers have nothing to say. */
#define FRAME_MAX (2 + 125)

struct idler {
    int descriptor;
    enum state state;           /* CONNECTING, SENT, then ANSWERING, which here is: held */
    uint64_t since;
    size_t sent, frame_length;
    struct response response;
    unsigned char frame[FRAME_MAX];
};

struct crowd {
    struct run *run;
    struct idler *idlers;
    int begun, opening, held, failed, lost;
    unsigned long pings;
};

static void give_up(struct crowd *crowd, struct idler *idler, enum failure kind)
{
    if (idler->descriptor >= 0)
        close(idler->descriptor);
    idler->descriptor = -1;
    if (idler->state == ANSWERING) {
        crowd->held--;
        crowd->lost++;
    } else {
        crowd->opening--;
        crowd->failed++;
        crowd->run->failures[kind]++;
    }
    idler->state = VACANT;
}

static void send_rest(struct crowd *crowd, struct idler *idler)
{
    const struct options *options = &crowd->run->options;
    ssize_t sent = send(idler->descriptor, options->request[0] + idler->sent,
                        options->request_length[0] - idler->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN)
        return;
    if (sent < 0) {
        give_up(crowd, idler, errno == ECONNREFUSED ? REFUSED : RESET);
        return;
    }
    idler->sent += (size_t)sent;
    if (idler->sent == options->request_length[0])
        idler->state = SENT;
}

static void open_idler(struct crowd *crowd, struct idler *idler)
{
    struct run *run = crowd->run;
    const struct source *source = &run->sources[crowd->begun++ % run->options.sources];
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.ptr = idler };
    crowd->opening++;
    idler->state = CONNECTING;
    idler->since = now_us();
    response_reset(&idler->response);
    idler->descriptor = open_from(source, &run->options.target);
    if (idler->descriptor < 0
        || epoll_ctl(run->epoll, EPOLL_CTL_ADD, idler->descriptor, &event)) {
        give_up(crowd, idler, errno == ECONNREFUSED ? REFUSED : OTHER);
        return;
    }
    send_rest(crowd, idler);
}

/* Answers a ping with a pong, masked as a client's frames must be (RFC 6455, 5.3; a mask of
 * zeros is one).  Returns false if the server said goodbye, or what nobody expects. */
static bool frame_ended(struct crowd *crowd, struct idler *idler)
{
    unsigned char pong[6 + 125] = { 0x8a };
    size_t payload = idler->frame[1];
    if (idler->frame[0] != 0x89)
        return false;
    crowd->pings++;
    pong[1] = (unsigned char)(0x80 | payload);
    memcpy(pong + 6, idler->frame + 2, payload);
    return send(idler->descriptor, pong, 6 + payload, MSG_NOSIGNAL) == (ssize_t)(6 + payload);
}

static bool feed_frames(struct crowd *crowd, struct idler *idler, const char *bytes,
                        size_t length)
{
    if (!crowd->run->options.websocket)
        return length == 0;     /* bytes after the response that was asked for */
    for (size_t i = 0; i < length; i++) {
        idler->frame[idler->frame_length++] = (unsigned char)bytes[i];
        if (idler->frame_length >= 2 && idler->frame[1] > 125)
            return false;
        if (idler->frame_length >= 2
            && idler->frame_length == 2u + idler->frame[1]) {
            if (!frame_ended(crowd, idler))
                return false;
            idler->frame_length = 0;
        }
    }
    return true;
}

static bool good(const struct crowd *crowd, const struct response *response)
{
    if (crowd->run->options.websocket)
        return response->status == 101 && response->accepted;
    return response->status == 200 && !response->closes;
}

static void read_idler(struct crowd *crowd, struct idler *idler)
{
    char bytes[4096];
    size_t used = 0;
    for (;;) {
        ssize_t length = recv(idler->descriptor, bytes, sizeof bytes, 0);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0 && errno == EAGAIN)
            return;
        if (length <= 0) {
            give_up(crowd, idler, length ? RESET : CUT_SHORT);
            return;
        }
        used = 0;
        if (idler->state == SENT) {
            enum verdict verdict =
                response_feed(&idler->response, bytes, (size_t)length, &used);
            if (verdict == MORE)
                continue;
            if (verdict == MALFORMED_RESPONSE || !good(crowd, &idler->response)) {
                give_up(crowd, idler, verdict == WHOLE ? BAD_STATUS : MALFORMED);
                return;
            }
            idler->state = ANSWERING;
            crowd->opening--;
            crowd->held++;
        }
        if (!feed_frames(crowd, idler, bytes + used, (size_t)length - used)) {
            give_up(crowd, idler, MALFORMED);
            return;
        }
    }
}

static void idler_event(struct crowd *crowd, struct idler *idler, uint32_t events)
{
    if (idler->descriptor < 0)
        return;
    if (idler->state == CONNECTING)
        send_rest(crowd, idler);
    if (idler->descriptor >= 0 && idler->state != CONNECTING && events & ~(uint32_t)EPOLLOUT)
        read_idler(crowd, idler);
}

static void say(const struct crowd *crowd, const char *event)
{
    printf("{\"event\":\"%s\",\"held\":%d,\"failed\":%d,\"lost\":%d,\"pings\":%lu", event,
           crowd->held, crowd->failed, crowd->lost, crowd->pings);
    report_failures(crowd->run->failures);
    printf("}\n");
    fflush(stdout);
}

static void step(struct crowd *crowd, bool opening)
{
    struct epoll_event events[256];
    struct run *run = crowd->run;
    int ready = epoll_wait(run->epoll, events, 256, 20);
    for (int i = 0; i < ready; i++)
        idler_event(crowd, events[i].data.ptr, events[i].events);
    if (!opening)
        return;
    while (crowd->begun < run->options.idle && crowd->opening < run->options.connections)
        open_idler(crowd, &crowd->idlers[crowd->begun]);
    uint64_t oldest = now_us() - (uint64_t)run->options.timeout_ms * 1000;
    for (int i = 0; !ready && i < crowd->begun; i++) {
        struct idler *idler = &crowd->idlers[i];
        if ((idler->state == CONNECTING || idler->state == SENT) && idler->since < oldest)
            give_up(crowd, idler, TIMED_OUT);
    }
}

void idle_run(struct run *run)
{
    struct crowd crowd = { .run = run };
    int wanted = run->options.idle;
    crowd.idlers = calloc((size_t)wanted, sizeof *crowd.idlers);
    if (!crowd.idlers) {
        perror("load: idlers");
        exit(2);
    }
    while (!interrupted && (crowd.begun < wanted || crowd.opening))
        step(&crowd, true);
    say(&crowd, "holding");
    uint64_t end = now_us() + (uint64_t)(run->options.seconds * 1e6);
    while (!interrupted && now_us() < end)
        step(&crowd, false);
    say(&crowd, "released");
    for (int i = 0; i < crowd.begun; i++) {
        if (crowd.idlers[i].descriptor >= 0)
            close(crowd.idlers[i].descriptor);
    }
    free(crowd.idlers);
}
