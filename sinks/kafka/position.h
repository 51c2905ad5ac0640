// The sink's own position as Kafka keeps it: a record in a compacted topic of one partition
// (PREFIX.position), with the stream's name in its key, and JSON that people can read as value.
#pragma once

#include "base/position.h"

struct kafka_position {
    struct cursor cursor; // everything up to here is delivered
    lsn_t watermark;      // and the source need not send again what ends up to here
    // whose history it is
    uint64_t system_id;
    uint32_t database_oid;
    uint32_t generation;
};

// "STREAM/kafka"
void position_key(struct buf *out, const char *stream);
void position_encode(struct buf *out, const struct kafka_position *p);
// -1: not a position of ours.
int position_decode(struct slice value, struct kafka_position *ret_p, struct err *e) MUST_CHECK;
