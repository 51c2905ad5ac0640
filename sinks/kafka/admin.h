// What the brokers know of topics, and making those that are missing.
#pragma once

#include "sinks/kafka/client.h"

#define TOPIC_BYTES_DEFAULT 1048588 // max.message.bytes, where the broker does not tell

enum topic_state { TOPIC_UNKNOWN, TOPIC_MISSING, TOPIC_READY };

enum topic_use {
    TOPIC_CHANGES,
    TOPIC_EVENTS,   // one partition: its records have one order
    TOPIC_POSITION, // one partition, compacted
};

struct topic_facts {
    const char *name;
    enum topic_use use;
    enum topic_state state;
    bool limit_known;
    size_t bytes_max; // max.message.bytes
    bool compacted;
    bool deleted;   // records are deleted by age or size
    struct err why; // when state is TOPIC_UNKNOWN, or creating it failed
};

// Fills state, limit and clean-up of n topics. -1: no answer (ERR_RETRY).
int admin_describe(rd_kafka_t *rk, struct topic_facts *t, size_t n, int timeout_ms,
                   struct err *e) MUST_CHECK;
// Makes a topic (one that exists is fine) or, with `dry`, asks whether it could be made.
// ERR_KAFKA: the brokers refuse.
int admin_create(rd_kafka_t *rk, const struct kafka_options *o, const char *name,
                 enum topic_use use, bool dry, int timeout_ms, struct err *e) MUST_CHECK;
// How many partitions a topic has.
int admin_partitions(rd_kafka_t *rk, rd_kafka_topic_t *topic, int timeout_ms, int *ret_n,
                     struct err *e) MUST_CHECK;
// Describes the topics and makes the missing ones, if o lets it. 0: all are ready. ERR_KAFKA: the
// first that cannot be had, with the remedy; ERR_RETRY: no answer.
int admin_prepare(rd_kafka_t *rk, const struct kafka_options *o, struct topic_facts *t, size_t n,
                  int timeout_ms, struct err *e) MUST_CHECK;
