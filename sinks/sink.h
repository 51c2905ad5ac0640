// A sink carries changes out. It owns its threads and its readers of the journal; the pipeline
// starts it, stops it, and asks it one thing: how far the slot may be acknowledged on its account.
#pragma once

#include "journal/journal.h"

struct sink;

struct sink_ops {
    const char *name; // "kafka": logs and metrics
    // Starts threads and returns; failures that pass are retried inside. `arg` is the sink's
    // options.
    int (*start)(const void *options, struct journal *j, struct sink **ret_s, struct err *e);
    // Any thread, must not block. The LSN up to which everything that must reach this sink before
    // the slot moves has reached it durably; UINT64_MAX: it never holds the slot.
    lsn_t (*durable)(struct sink *s);
    // The sink met an error that it cannot survive.
    bool (*failed)(struct sink *s, struct err *ret_e);
    // Delivers what it can in `grace_us`, joins its threads, frees. The sinks are stopped side by
    // side, each by a thread of its own.
    void (*stop)(struct sink *s, int64_t grace_us);
};

// What every sink begins with.
struct sink {
    const struct sink_ops *ops;
};
