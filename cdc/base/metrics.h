// Metrics: named counters, gauges and histograms with labels, rendered as Prometheus text. Any
// thread may update one (atomics, relaxed); registering takes a lock and is for set-up or first
// use.
#pragma once

#include "base/buf.h"

#include <stdatomic.h>

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

struct metric { // a counter or a gauge
    _Atomic int64_t value;
};

static inline void metric_add(struct metric *m, int64_t by)
{
    atomic_fetch_add_explicit(&m->value, by, memory_order_relaxed);
}
static inline void metric_set(struct metric *m, int64_t to)
{
    atomic_store_explicit(&m->value, to, memory_order_relaxed);
}
static inline int64_t metric_get(const struct metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

struct histogram; // of durations in microseconds, rendered in seconds

// The metric of this name and label text (`table="public.orders",op="insert"`, or ""); made at the
// first call, the same one afterwards; never freed. `scale` divides when rendered (1000000 for a
// gauge kept in microseconds and shown in seconds; 1 otherwise). name and help must be literals.
struct metric *metric_new(enum metric_type type, const char *name, const char *help,
                          const char *labels, int64_t scale);
// Buckets from 100 us to 60 s.
struct histogram *histogram_new(const char *name, const char *help, const char *labels);
void histogram_observe(struct histogram *h, int64_t us);

// Called before each rendering, to bring gauges up to date; at most 16 of them.
void metrics_on_render(void (*update)(void *arg), void *arg);
void metrics_off_render(void (*update)(void *arg), void *arg);
// Prometheus text format 0.0.4 of everything, HELP and TYPE once a name.
void metrics_render(struct buf *out);
// Appends text as a label value: \ " and newline escaped.
void metrics_label(struct buf *out, const char *key, const char *value);
