/* What comes out: one JSON object on stdout, and the ledger, one JSON object a line. */
#include "load.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <sys/resource.h>

const char *const failure_names[FAILURE_KINDS] = {
    [REFUSED] = "refused", [RESET] = "reset", [TIMED_OUT] = "timeout",
    [CUT_SHORT] = "cut_short", [STALE] = "stale", [BAD_STATUS] = "bad_status",
    [MALFORMED] = "malformed", [OTHER] = "other",
};

const char *const state_names[STATES] = {
    [VACANT] = "vacant", [CONNECTING] = "connect", [SENDING] = "sending", [SENT] = "sent",
    [ANSWERING] = "partial", [CLOSING] = "closing", [RESTING] = "resting",
    [THINKING] = "thinking",
};

static const char *const mode_names[] = {
    [MODE_CLOSE] = "close", [MODE_KEEPALIVE] = "keepalive", [MODE_IDLE] = "idle",
    [MODE_MIXED] = "mixed",
};

static void ledger_begin(struct run *run, const char *event, const struct source *source)
{
    char address[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &source->address.sin_addr, address, sizeof address);
    fprintf(run->ledger, "{\"at_ms\":%.3f,\"event\":\"%s\",\"source\":\"%s\"",
            (double)(now_us() - run->began) / 1e3, event, address);
    if (source->seen)
        fprintf(run->ledger, ",\"last_pid\":%ld,\"last_hits\":%lu", source->pid, source->hits);
}

void ledger_failure(struct run *run, const struct connection *slot, enum failure kind, int error)
{
    ledger_begin(run, "failed", slot->source);
    uint64_t now = now_us();
    fprintf(run->ledger,
            ",\"kind\":\"%s\",\"state\":\"%s\",\"errno\":%d,\"status\":%d,\"served\":%lu,"
            "\"waited_ms\":%.3f,\"port\":%u,\"opened_us\":%" PRIu64 ",\"failed_us\":%" PRIu64 "}\n",
            failure_names[kind], state_names[slot->state], error, slot->response.status,
            slot->served, (double)(now - slot->since) / 1e3, slot->port, slot->opened, now);
}

void ledger_answer(struct run *run, const char *event, const struct source *source, long pid,
                   unsigned long hits)
{
    if (!run->ledger)
        return;
    ledger_begin(run, event, source);
    fprintf(run->ledger, ",\"pid\":%ld,\"hits\":%lu,\"unsure\":%lu}\n", pid, hits,
            source->unsure);
}

static void named_counts(const char *title, const char *const *names, const unsigned long *counts,
                         int kinds)
{
    const char *comma = "";
    printf(",\"%s\":{", title);
    for (int kind = 0; kind < kinds; kind++) {
        if (counts[kind]) {
            printf("%s\"%s\":%lu", comma, names[kind], counts[kind]);
            comma = ",";
        }
    }
    printf("}");
}

void report_failures(const unsigned long *failures)
{
    named_counts("failures", failure_names, failures, FAILURE_KINDS);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void report_latency(const struct latency *latency)
{
    double mean = latency->count ? (double)latency->sum / (double)latency->count : 0;
    printf(",\"latency_ms\":{\"mean\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"max\":%.3f}",
           mean / 1e3, (double)latency_quantile(latency, .5) / 1e3,
           (double)latency_quantile(latency, .9) / 1e3,
           (double)latency_quantile(latency, .99) / 1e3, (double)latency->longest / 1e3);
}

static void report_stickiness(const struct run *run)
{
    unsigned long seen = 0, moved = 0;
    for (int i = 0; i < run->options.sources; i++) {
        seen += run->sources[i].seen;
        moved += run->sources[i].moved;
    }
    printf(",\"stickiness\":{\"sources\":%lu,\"moved_sources\":%lu,\"moves\":%lu,"
           "\"order_checked\":%lu,\"order_wrong\":%lu,\"unreadable\":%lu,\"pids\":{",
           seen, moved, run->moves, run->order_checked, run->order_wrong, run->unreadable);
    for (size_t i = 0; i < run->answerer_count; i++)
        printf("%s\"%ld\":%lu", i ? "," : "", run->answerers[i].pid, run->answerers[i].answers);
    printf("}}");
}

void report(const struct run *run)
{
    double seconds = (double)(run->ended - run->began) / 1e6;
    printf("{\"mode\":\"%s\",\"seconds\":%.6f,\"begun\":%lu,\"answered\":%lu,\"failed\":%lu,"
           "\"opened\":%lu,\"no_eof\":%lu,\"trailing\":%lu,\"interrupted\":%s,"
           "\"per_second\":%.1f,\"cpu_seconds\":%.6f",
           mode_names[run->options.mode], seconds, run->begun,
           run->answered, run->failed, run->opened, run->no_eof, run->trailing,
           interrupted ? "true" : "false",
           seconds > 0 ? (double)run->answered_in_time / seconds : 0.0, cpu_seconds());
    report_failures(run->failures);
    named_counts("failed_in", state_names, run->failed_in, STATES);
    report_latency(&run->latency);
    report_stickiness(run);
    printf("}\n");
}
