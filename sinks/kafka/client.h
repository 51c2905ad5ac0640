// librdkafka's handles: configuration, logs, and whether the brokers can be reached.
#pragma once

#include "sinks/kafka/kafka.h"

#include <librdkafka/rdkafka.h>

#define CLIENT_BATCH_BYTES 1000000 // of a request to one partition

// What the callbacks know of a handle. Used by the thread that polls it only.
struct client {
    const char *brokers;
    void (*report)(void *arg, const rd_kafka_message_t *m); // of each record; NULL: none
    void *arg;
    const _Atomic int64_t *stop_at; // monotone clock, 0: none; waiting ends then. NULL: never
    bool unreachable;               // said so in the log
    bool fatal;                     // the producer cannot go on
    char reason[512];               // of the last error
};

// Unknown properties, and those that would break a guarantee, are refused (ERR_USAGE).
int client_check_properties(const struct kafka_options *o, struct err *e) MUST_CHECK;
// `c` must live as long as the handle.
int client_producer(struct client *c, const struct kafka_options *o, size_t batch_bytes,
                    rd_kafka_t **ret_rk, struct err *e) MUST_CHECK;
// Reads the last record of `topic`'s partition 0 with this key into *ret_value (freed by the
// caller); *ret_found tells whether there was one. ERR_RETRY when no broker answers in time.
int client_read_last(struct client *c, const struct kafka_options *o, const char *topic,
                     struct slice key, int timeout_ms, bool *ret_found, struct buf *ret_value,
                     struct err *e) MUST_CHECK;
// It is time to stop waiting.
bool client_stops(const struct client *c);
// A request was answered.
void client_answered(struct client *c);
