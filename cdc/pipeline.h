// The pipeline wires source, journal and sinks, and keeps the one rule between them: the slot is
// acknowledged no further than the journal and every gating sink have it durably.
#pragma once

#include "sinks/kafka/kafka.h"
#include "sinks/stdout/stdout.h"
#include "sinks/websocket/websocket.h"
#include "source/source.h"

struct pipeline_options {
    struct source_options source;
    struct journal_options journal;
    const struct websocket_options *websocket; // NULL: no such sink
    const struct kafka_options *kafka;
    const struct stdout_options *std_out;
    bool standby;          // wait for a journal that another process has
    int64_t stop_grace_us; // for sinks to deliver what they have, at the end
};

// Runs until SIGINT or SIGTERM (0), or until an error that does not pass by itself (-1). A second
// signal ends the process at once.
int pipeline_run(const struct pipeline_options *o, struct err *e) MUST_CHECK;
