/* The command line, and the loop that drives the slots. */
#include "load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define TICK_US 2000
#define SECONDS_LIMIT 3600

volatile sig_atomic_t interrupted;

uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void interrupt(int number)
{
    interrupted = number;
}

static void refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    exit(2);
}

static const char usage[] =
    "load [OPTIONS] 127.0.0.1:PORT\n"
    "  --mode close|keepalive|idle|mixed  one request a connection; many; none after the first;\n"
    "                      one and many in turns (close)\n"
    "  --connections N     requests under way at once, or, idle: handshakes at once (64)\n"
    "  --sources N         addresses to speak from, at least as many as connections (256)\n"
    "  --spread net|host   each source in a /24 of its own, or all in one (net)\n"
    "  --seconds S         begin no request after S seconds; idle: hold for S seconds (3)\n"
    "  --requests N        begin no more than N requests\n"
    "  --per-connection N  keepalive: requests on one connection (200)\n"
    "  --timeout-ms N      how long one request may take (5000)\n"
    "  --think-ms N        how long a connection is silent between two requests (0)\n"
    "  --idle N            idle: how many connections to hold (1000)\n"
    "  --websocket         idle: upgrade them to WebSocket\n"
    "  --carried           a count goes on when another process answers: hold it to that\n"
    "  --path PATH         what to ask for (/)\n"
    "  --cookie NAME       each source sends back the cookie of that name it was given last\n"
    "  --cookie-jar FILE   where they are kept between two runs\n"
    "  --ledger FILE       write a line for every failure, move and wrong count\n";

static long number(const char *option, const char *text, long least, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < least || value > most)
        refuse("--%s: a whole number from %ld to %ld, not '%s'", option, least, most, text);
    return value;
}

static double seconds_of(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value > 0 && value <= SECONDS_LIMIT))
        refuse("--seconds: above 0, at most %d, not '%s'", SECONDS_LIMIT, text);
    return value;
}

static int one_of(const char *option, const char *text, const char *const *choices)
{
    for (int i = 0; choices[i]; i++) {
        if (!strcmp(text, choices[i]))
            return i;
    }
    refuse("--%s: no such choice: '%s'", option, text);
    return -1;
}

/* Loopback only: this program knocks at doors thousands of times a second. */
static void read_target(struct options *options, const char *text)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host)
        refuse("the target is 127.x.y.z:PORT, not '%s'", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    options->target.sin_family = AF_INET;
    options->target.sin_port = htons((uint16_t)number("PORT", colon + 1, 1, 65535));
    if (inet_pton(AF_INET, host, &options->target.sin_addr) != 1
        || ntohl(options->target.sin_addr.s_addr) >> 24 != 127)
        refuse("the target's address is in 127.0.0.0/8, not '%s'", host);
}

static void write_request(struct options *options, const char *target, const char *path)
{
    const char *extra[2] = { "", "Connection: close\r\n" };
    if (options->mode == MODE_IDLE && options->websocket)
        extra[0] = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (int once = 0; once < 2; once++) {
        size_t room = sizeof options->request[once];
        int length = snprintf(options->request[once], room, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n",
                              path, target, extra[once]);
        size_t cookie = options->cookie ? strlen(options->cookie) + COOKIE_ROOM + 16 : 0;
        if (length < 0 || (size_t)length + cookie >= room)
            refuse("--path or --cookie is too long");
        options->request_length[once] = (size_t)length;
    }
}

static void read_options(struct options *options, int argc, char **argv)
{
    static const char *const modes[] = { "close", "keepalive", "idle", "mixed", NULL };
    static const char *const spreads[] = { "net", "host", NULL };
    static const struct option names[] = {
        { "mode", 1, NULL, 'm' },           { "connections", 1, NULL, 'c' },
        { "sources", 1, NULL, 's' },        { "spread", 1, NULL, 'S' },
        { "seconds", 1, NULL, 'd' },        { "requests", 1, NULL, 'n' },
        { "per-connection", 1, NULL, 'k' }, { "timeout-ms", 1, NULL, 't' },
        { "idle", 1, NULL, 'i' },           { "websocket", 0, NULL, 'w' },
        { "path", 1, NULL, 'p' },           { "ledger", 1, NULL, 'l' },
        { "carried", 0, NULL, 'C' },        { "think-ms", 1, NULL, 'T' },
        { "cookie", 1, NULL, 'b' },         { "cookie-jar", 1, NULL, 'j' },
        { "help", 0, NULL, 'h' },           { NULL, 0, NULL, 0 },
    };
    const char *path = "/";
    int option, which = 0;
    while ((option = getopt_long(argc, argv, "", names, &which)) != -1) {
        const char *name = names[which].name;
        switch (option) {
        case 'm': options->mode = (enum mode)one_of(name, optarg, modes); break;
        case 'c': options->connections = (int)number(name, optarg, 1, 60000); break;
        case 's': options->sources = (int)number(name, optarg, 1, 60000); break;
        case 'S': options->spread_hosts = one_of(name, optarg, spreads) == 1; break;
        case 'd': options->seconds = seconds_of(optarg); break;
        case 'n': options->requests = (unsigned long)number(name, optarg, 1, 1000000000); break;
        case 'k': options->per_connection = (unsigned long)number(name, optarg, 1, 1000000); break;
        case 't': options->timeout_ms = (int)number(name, optarg, 1, 600000); break;
        case 'i': options->idle = (int)number(name, optarg, 1, 1000000); break;
        case 'w': options->websocket = true; break;
        case 'T': options->think_ms = (int)number(name, optarg, 0, 600000); break;
        case 'C': options->carried = true; break;
        case 'p': path = optarg; break;
        case 'b': options->cookie = optarg; break;
        case 'j': options->jar_path = optarg; break;
        case 'l': options->ledger_path = optarg; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        exit(2);
    }
    if (options->connections > options->sources)
        refuse("%d connections need at least as many sources, not %d: a source has one request "
               "under way at a time", options->connections, options->sources);
    read_target(options, argv[optind]);
    write_request(options, argv[optind], path);
}

static void check_time(struct run *run, uint64_t now)
{
    bool spent = run->options.requests && run->begun >= run->options.requests;
    if (run->ending || (now < run->deadline && !interrupted && !spent))
        return;
    run->ending = true;
    run->ended = now < run->deadline ? now : run->deadline;
}

static void drive(struct run *run)
{
    struct epoll_event events[256];
    uint64_t ticked = 0;
    int open = 1;
    while (open || !run->ending) {
        int ready = epoll_wait(run->epoll, events, 256, TICK_US / 1000);
        for (int i = 0; i < ready; i++) {
            struct connection *slot = events[i].data.ptr;
            connection_event(run, slot, events[i].events);
            if (slot->state == VACANT)
                connection_open(run, slot);
        }
        uint64_t now = now_us();
        check_time(run, now);
        if (now - ticked < TICK_US)
            continue;
        ticked = now;
        open = 0;
        for (int i = 0; i < run->options.connections; i++) {
            connection_tick(run, &run->slots[i], now);
            if (run->slots[i].state == VACANT)
                connection_open(run, &run->slots[i]);
            open += run->slots[i].descriptor >= 0;
        }
    }
    if (run->last_answer > run->ended && run->last_answer < run->deadline)
        run->ended = run->last_answer;  /* the last of --requests came after the last began */
}

int main(int argc, char **argv)
{
    static struct run run = {
        .options = { .connections = 64, .sources = 256, .seconds = 3, .per_connection = 200,
                     .timeout_ms = 5000, .idle = 1000 },
    };
    struct rlimit limit;
    struct sigaction action = { .sa_handler = interrupt };
    read_options(&run.options, argc, argv);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (run.options.ledger_path && !(run.ledger = fopen(run.options.ledger_path, "w")))
        refuse("cannot write %s", run.options.ledger_path);
    sources_make(&run);
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.slots = calloc((size_t)run.options.connections, sizeof *run.slots);
    if (run.epoll < 0 || !run.slots)
        refuse("no epoll, or no memory");
    for (int i = 0; i < run.options.connections; i++)
        run.slots[i].descriptor = -1;
    run.began = now_us();
    run.deadline = run.began + (uint64_t)(run.options.seconds * 1e6);
    if (run.options.mode == MODE_IDLE) {
        idle_run(&run);
    } else {
        drive(&run);
        report(&run);
    }
    if (!jar_write(&run))
        refuse("cannot write %s", run.options.jar_path);
    return run.ledger && fclose(run.ledger) ? 2 : 0;
}
