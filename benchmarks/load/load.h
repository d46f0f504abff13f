/* A closed-loop HTTP/1.1 load generator for servers with sticky sessions.
 *
 * One thread, one epoll.  Every connection slot has at most one request under way and
 * begins the next one when that has ended.  A slot takes a source address (127.x.y.z)
 * from a queue, speaks from it, and puts it back; so one source never has two requests
 * under way, and the hit count in each of its answers must be the last one plus 1.
 */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- response.c: one HTTP/1.1 response, fed in pieces of any size */

#define COOKIE_ROOM 192         /* for a cookie's value; what does not fit is not taken */

enum part { STATUS_LINE, HEADERS, SIZED_BODY, BODY_TO_EOF, CHUNK_SIZE, CHUNK_DATA, CHUNK_END,
            TRAILERS };
enum verdict { MORE, WHOLE, MALFORMED_RESPONSE };

struct response {
    enum part part;
    int status;
    bool began;                 /* a byte of it has come */
    bool closes;                /* the server closes after it */
    bool chunked, sized;
    bool accepted;              /* Sec-WebSocket-Accept fits our key */
    bool given;                 /* `cookie` is one of this response */
    uint64_t left;              /* bytes of the body, or of the chunk, that are to come */
    size_t line_length, body_length;
    char line[256];             /* what is longer is cut: only the beginnings matter */
    char body[128];
    char cookie[COOKIE_ROOM];   /* the value that Set-Cookie gave */
    const char *cookie_name;    /* whose; NULL: no cookie is looked for */
};

void response_reset(struct response *response);
enum verdict response_feed(struct response *response, const char *bytes, size_t length,
                           size_t *used);
enum verdict response_eof(const struct response *response);

/* ---- latency.c: a histogram with a resolution of 0.1 % */

#define LATENCY_EXACT 2048      /* below this, one bucket for each microsecond */
#define LATENCY_HALF (LATENCY_EXACT / 2)
#define LATENCY_OCTAVES 20      /* up to 2048 * 2^20 us, some 36 minutes */

struct latency {
    uint32_t buckets[LATENCY_EXACT + LATENCY_OCTAVES * LATENCY_HALF];
    uint64_t count, sum, longest;
};

void latency_add(struct latency *latency, uint64_t microseconds);
uint64_t latency_quantile(const struct latency *latency, double fraction);

/* ---- what one run consists of */

enum mode { MODE_CLOSE, MODE_KEEPALIVE, MODE_IDLE, MODE_MIXED };
enum failure { REFUSED, RESET, TIMED_OUT, CUT_SHORT, STALE, BAD_STATUS, MALFORMED, OTHER,
               FAILURE_KINDS };
enum state { VACANT, CONNECTING, SENDING, SENT, ANSWERING, CLOSING, RESTING, THINKING,
             STATES };

extern const char *const failure_names[FAILURE_KINDS];
extern const char *const state_names[STATES];

struct source {
    struct sockaddr_in address;
    struct source *next;        /* in the queue of free sources */
    bool seen, moved;
    long pid;                   /* who answered last */
    unsigned long hits;         /* and with which count */
    unsigned long unsure;       /* requests since then that may have been counted or not */
    char cookie[COOKIE_ROOM];   /* what it was given; empty: nothing yet */
};

#define REQUEST_ROOM 4096

struct connection {
    int descriptor;             /* -1: none */
    enum state state;
    struct source *source;
    uint16_t port;              /* our own; asked for only if there is a ledger */
    uint64_t opened;            /* us, by the monotonic clock, as all times here */
    uint64_t since;             /* us: the request's beginning, or that of CLOSING, RESTING,
                                   THINKING */
    unsigned long served;       /* responses on this connection */
    bool once;                  /* one request only, which says so */
    const char *request;
    size_t request_length, sent;
    char with_cookie[REQUEST_ROOM];
    struct response response;
};

struct answerer {
    long pid;
    unsigned long answers;
};

struct options {
    enum mode mode;
    struct sockaddr_in target;
    int connections, sources;
    bool spread_hosts;          /* sources fill a /24 instead of standing in one each */
    double seconds;
    unsigned long requests;     /* begin no more than these; 0: no bound but the time */
    unsigned long per_connection;
    int timeout_ms;
    int think_ms;               /* between the requests of a slot */
    int idle;                   /* how many connections MODE_IDLE holds */
    bool websocket;
    bool carried;               /* counts go on when another process answers */
    const char *ledger_path;
    const char *cookie;         /* its name; NULL: clients keep no cookies */
    const char *jar_path;       /* where they keep them between two runs */
    char request[2][REQUEST_ROOM]; /* that of a connection for many, and for one */
    size_t request_length[2];
};

struct run {
    struct options options;
    int epoll;
    uint64_t began, deadline, last_answer, ended;
    bool ending;
    struct connection *slots;
    struct source *sources, *first_free, **last_free;
    FILE *ledger;
    struct latency latency;
    unsigned long begun, answered, answered_in_time, failed, opened;
    unsigned long no_eof;       /* the server did not close what it said it would */
    unsigned long trailing;     /* it sent bytes after the response */
    unsigned long failures[FAILURE_KINDS], failed_in[STATES];
    unsigned long moves, order_checked, order_wrong, unreadable;
    struct answerer *answerers;
    size_t answerer_count;
};

uint64_t now_us(void);
extern volatile sig_atomic_t interrupted;    /* by SIGINT or SIGTERM */

/* ---- source.c: addresses, and the check that they are served in one place */

void sources_make(struct run *run);
bool jar_write(const struct run *run);
struct source *source_take(struct run *run);
void source_give_back(struct run *run, struct source *source);
void source_answered(struct run *run, struct source *source, struct response *response);
int open_from(const struct source *source, const struct sockaddr_in *target);
uint16_t own_port(int descriptor);

/* ---- connection.c: one slot's life */

void connection_open(struct run *run, struct connection *slot);
void connection_event(struct run *run, struct connection *slot, uint32_t events);
void connection_tick(struct run *run, struct connection *slot, uint64_t now);

/* ---- idle.c: connections that are opened and held */

void idle_run(struct run *run);

/* ---- report.c: the JSON that comes out */

void ledger_failure(struct run *run, const struct connection *slot, enum failure kind,
                    int error);
void ledger_answer(struct run *run, const char *event, const struct source *source, long pid,
                   unsigned long hits);
void report_failures(const unsigned long *failures);
void report(const struct run *run);

#endif
