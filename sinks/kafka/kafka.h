// The Kafka sink: an idempotent producer, one reader of the journal, its position kept in Kafka.
#pragma once

#include "sinks/sink.h"

struct kafka_options {
    const char *brokers; // HOST:PORT[,..]
    const char *topic_prefix;
    const char *stream; // name of the stream: the slot's
    bool json;          // values: JSON; else protobuf (a Change)
    bool tombstones;
    bool create_topics;
    int partitions, replication_factor; // -1: the broker's default
    bool gate;                          // the slot waits for Kafka
    bool mark_gaps;                     // tell what is missing behind the position, and go on
    char *const *properties;            // "name=value" for librdkafka
    size_t property_count;
};

extern const struct sink_ops kafka_sink;

// `rowcast check --kafka`: findings to out, *ret_bad counts what would stop `run`.
int kafka_check(const struct kafka_options *o, char *const *tables, size_t table_count,
                struct buf *out, int *ret_bad, struct err *e) MUST_CHECK;
