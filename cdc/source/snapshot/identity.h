// A row's identity as bytes that can be compared: its key columns as `Change.key` has them, and
// those of them that their type cannot hold.
#pragma once

#include "proto/batch.h"

struct identity { // of a relation version: which columns make up the key
    const struct relation *relation;
    uint32_t n;
    uint32_t numbers[COLUMNS_MAX]; // ascending; an index has 32 at most, as PostgreSQL is built
};

struct row_key {
    struct slice key;   // the row message of the key's columns
    struct slice exact; // whole Exact fields, with the tag of Change.exact_key
};

void identity_init(struct identity *id, const struct relation *r);
uint64_t row_key_hash(struct row_key k);
bool row_key_same(struct row_key a, struct row_key b);
static inline struct row_key change_key(const struct change *c)
{
    return (struct row_key){c->key, c->exact_key};
}
// The key of the row that an update leaves, from its `after`; out's buffers are overwritten.
// False: a column of it is nowhere to be found.
bool change_new_key(const struct identity *id, const struct change *c, struct buf *key,
                    struct buf *exact);
// The row that an update leaves when values it did not change are those of `held` (a row message
// and its Exact fields). False: the bytes are malformed.
bool change_lay_over(const struct change *c, struct slice held, struct slice held_exact,
                     struct buf *after, struct buf *exact);
