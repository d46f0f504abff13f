/* Latencies: exact to the microsecond below 2 ms, and to 0.1 % above. */
#include "load.h"

/* Above LATENCY_EXACT each power of two is divided into LATENCY_HALF equal buckets. */
static size_t bucket_of(uint64_t value)
{
    size_t octave = 0;
    while (value >= LATENCY_EXACT && octave < LATENCY_OCTAVES) {
        value >>= 1;
        octave++;
    }
    if (value >= LATENCY_EXACT)
        value = LATENCY_EXACT - 1;
    return octave * LATENCY_HALF + (size_t)value;
}

static uint64_t value_of_bucket(size_t bucket)
{
    if (bucket < LATENCY_EXACT)
        return bucket;
    size_t octave = bucket / LATENCY_HALF - 1;
    return (uint64_t)(bucket - octave * LATENCY_HALF) << octave;
}

void latency_add(struct latency *latency, uint64_t microseconds)
{
    latency->buckets[bucket_of(microseconds)]++;
    latency->count++;
    latency->sum += microseconds;
    if (microseconds > latency->longest)
        latency->longest = microseconds;
}

uint64_t latency_quantile(const struct latency *latency, double fraction)
{
    uint64_t wanted = (uint64_t)(fraction * (double)latency->count + 0.5), seen = 0;
    size_t buckets = sizeof latency->buckets / sizeof *latency->buckets;
    if (!wanted)
        wanted = 1;
    for (size_t bucket = 0; bucket < buckets; bucket++) {
        seen += latency->buckets[bucket];
        if (seen >= wanted)
            return value_of_bucket(bucket);
    }
    return latency->longest;
}
