/* One slot: open, send, read, begin again; and what can go wrong on the way. */
#include "load.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define REST_US 5000            /* after a failure, so that a dead server is not hammered */
#define EOF_WAIT_US 1000000     /* how long the server may take to close what it said it would */

/* With the cookie, if the source was given one. */
static void choose_request(const struct options *options, struct connection *slot)
{
    size_t length = options->request_length[slot->once];
    slot->request = options->request[slot->once];
    slot->request_length = length;
    slot->response.cookie_name = options->cookie;
    if (!options->cookie || !slot->source->cookie[0])
        return;
    /* write_request() has seen to it that there is room. */
    int written = snprintf(slot->with_cookie, sizeof slot->with_cookie,
                           "%.*sCookie: %s=%s\r\n\r\n", (int)length - 2, slot->request,
                           options->cookie, slot->source->cookie);
    slot->request = slot->with_cookie;
    slot->request_length = (size_t)written;
}

static void begin_request(struct run *run, struct connection *slot, enum state state)
{
    run->begun++;
    slot->since = now_us();
    slot->sent = 0;
    slot->state = state;
    response_reset(&slot->response);
    choose_request(&run->options, slot);
}

/* May another request begin?  Never more than --requests, and none after the time is up. */
static bool wanted(const struct run *run)
{
    return !run->ending && (!run->options.requests || run->begun < run->options.requests);
}

/* Ends the connection.  With `reset` nothing of it stays behind in TIME_WAIT on either side;
 * used where the server has closed already, so that no server program sees it. */
static void leave(struct run *run, struct connection *slot, bool reset)
{
    struct linger linger = { 1, 0 };
    if (slot->descriptor >= 0) {
        if (reset)
            setsockopt(slot->descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(slot->descriptor);
    }
    slot->descriptor = -1;
    slot->state = run->options.think_ms && slot->served ? RESTING : VACANT;
    slot->since = now_us();
    if (slot->source)
        source_give_back(run, slot->source);
    slot->source = NULL;
}

static void fail(struct run *run, struct connection *slot, enum failure kind, int error)
{
    run->failed++;
    run->failures[kind]++;
    run->failed_in[slot->state]++;
    if (run->ledger)
        ledger_failure(run, slot, kind, error);
    if (slot->state != CONNECTING)      /* else the server never saw the request */
        slot->source->unsure++;
    leave(run, slot, true);
    slot->state = RESTING;
    slot->since = now_us();
}

static void fail_with(struct run *run, struct connection *slot, int error)
{
    enum failure kind = OTHER;
    if (error == ECONNREFUSED)
        kind = REFUSED;
    else if (error == ETIMEDOUT)
        kind = TIMED_OUT;
    else if (error == ECONNRESET || error == EPIPE)
        kind = slot->served && !slot->response.began ? STALE : RESET;
    fail(run, slot, kind, error);
}

static void send_request(struct run *run, struct connection *slot)
{
    while (slot->sent < slot->request_length) {
        ssize_t sent = send(slot->descriptor, slot->request + slot->sent,
                            slot->request_length - slot->sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)        /* also: not connected yet */
            return;
        if (sent < 0) {
            fail_with(run, slot, errno);
            return;
        }
        slot->state = SENDING;
        slot->sent += (size_t)sent;
    }
    slot->state = SENT;
}

void connection_open(struct run *run, struct connection *slot)
{
    if (!wanted(run))
        return;
    slot->source = source_take(run);
    slot->served = 0;
    slot->once = run->options.mode == MODE_CLOSE
        || (run->options.mode == MODE_MIXED && run->opened % 2);
    begin_request(run, slot, CONNECTING);
    slot->opened = slot->since;
    slot->port = 0;
    slot->descriptor = open_from(slot->source, &run->options.target);
    if (slot->descriptor < 0) {
        fail_with(run, slot, errno);
        return;
    }
    run->opened++;
    if (run->ledger)            /* now, as a socket that was reset may have none any more */
        slot->port = own_port(slot->descriptor);
    /* Edge-triggered, both ways: one epoll_ctl in the connection's life. */
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.ptr = slot };
    if (epoll_ctl(run->epoll, EPOLL_CTL_ADD, slot->descriptor, &event)) {
        fail_with(run, slot, errno);
        return;
    }
    send_request(run, slot);    /* over loopback the handshake is often done by now */
}

/* The whole response is here.  Returns whether more is to be read: the server's EOF. */
static bool answered(struct run *run, struct connection *slot, bool at_eof)
{
    uint64_t now = now_us();
    slot->served++;
    if (slot->response.status != 200) {
        fail(run, slot, BAD_STATUS, 0);
        return false;
    }
    run->answered++;
    run->last_answer = now;
    if (now <= run->deadline)
        run->answered_in_time++;
    latency_add(&run->latency, now - slot->since);
    source_answered(run, slot->source, &slot->response);
    if (slot->response.given)
        memcpy(slot->source->cookie, slot->response.cookie, sizeof slot->source->cookie);
    bool closes = slot->response.closes;
    if (at_eof) {
        leave(run, slot, true);
    } else if (slot->once || closes) {
        slot->state = CLOSING;
        slot->since = now;
        return true;
    } else if (slot->served < run->options.per_connection && wanted(run)) {
        if (run->options.think_ms) {
            slot->state = THINKING;
            slot->since = now;
            return false;
        }
        begin_request(run, slot, SENDING);
        send_request(run, slot);
    } else {
        leave(run, slot, false);
    }
    return false;
}

static void ended_by_server(struct run *run, struct connection *slot)
{
    if (slot->state == CLOSING)
        leave(run, slot, true);
    else if (response_eof(&slot->response) == WHOLE)
        answered(run, slot, true);
    else
        fail(run, slot, slot->served && !slot->response.began ? STALE : CUT_SHORT, 0);
}

static void read_response(struct run *run, struct connection *slot)
{
    char bytes[16384];
    size_t used;
    for (;;) {
        ssize_t length = recv(slot->descriptor, bytes, sizeof bytes, 0);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0 && errno == EAGAIN)
            return;
        if (length < 0 && slot->state == CLOSING) {
            leave(run, slot, true);     /* closed with a reset, but after the whole answer */
            return;
        }
        if (length < 0) {
            fail_with(run, slot, errno);
            return;
        }
        if (length == 0) {
            ended_by_server(run, slot);
            return;
        }
        if (slot->state == CLOSING) {   /* bytes that follow the response: nobody asked */
            run->trailing++;
            leave(run, slot, true);
            return;
        }
        slot->state = ANSWERING;
        enum verdict verdict = response_feed(&slot->response, bytes, (size_t)length, &used);
        if (verdict == MALFORMED_RESPONSE || (verdict == WHOLE && used < (size_t)length)) {
            fail(run, slot, MALFORMED, 0);
            return;
        }
        if (verdict == WHOLE && !answered(run, slot, false))
            return;
    }
}

/* An edge may be told of after what caused it was read. */
static bool is_silent(const struct connection *slot)
{
    char byte;
    return recv(slot->descriptor, &byte, 1, MSG_PEEK) < 0 && (errno == EAGAIN || errno == EINTR);
}

void connection_event(struct run *run, struct connection *slot, uint32_t events)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (slot->descriptor < 0)
        return;
    if (slot->state == CONNECTING && events & (EPOLLERR | EPOLLHUP)) {
        getsockopt(slot->descriptor, SOL_SOCKET, SO_ERROR, &error, &length);
        fail_with(run, slot, error ? error : ECONNRESET);
        return;
    }
    if (slot->state == CONNECTING || slot->state == SENDING)
        send_request(run, slot);
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;                 /* writable only: a recv would be in vain */
    if (slot->state == THINKING && !is_silent(slot))
        begin_request(run, slot, SENT);     /* lost before it was sent: nobody waits for it */
    if (slot->state == SENT || slot->state == ANSWERING || slot->state == CLOSING)
        read_response(run, slot);
}

/* What the clock ends: a request, a wait for the server's EOF, a rest. */
void connection_tick(struct run *run, struct connection *slot, uint64_t now)
{
    uint64_t passed = now > slot->since ? now - slot->since : 0;
    uint64_t think = (uint64_t)run->options.think_ms * 1000;
    if (slot->state == RESTING) {
        if (passed > (think > REST_US ? think : REST_US) || run->ending)
            slot->state = VACANT;
    } else if (slot->state == THINKING) {
        if (!wanted(run)) {
            leave(run, slot, false);
        } else if (passed > think) {
            begin_request(run, slot, SENDING);
            send_request(run, slot);
        }
    } else if (slot->state == CLOSING) {
        if (passed > EOF_WAIT_US) {
            run->no_eof++;
            leave(run, slot, true);
        }
    } else if (slot->state != VACANT && passed > (uint64_t)run->options.timeout_ms * 1000) {
        fail(run, slot, TIMED_OUT, 0);
    }
}
