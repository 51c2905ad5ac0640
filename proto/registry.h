// Field numbers: given once to a column of a table, never to another. The history is the table's
// newest relation version (its columns and its reserved numbers); the rules are here, pure.
#pragma once

#include "proto/catalog.h"

#define NUMBER_OWN_FIRST 2001 // numbers given when attnum cannot be used
// protobuf reserves 19000..19999: skipped.

// A column as the Relation message has it, with what a look-up in pg_attribute said.
struct seen_column {
    const char *name;
    const char *type, *base_type;
    uint32_t type_oid;
    int32_t typmod;
    int16_t attnum; // 0: no answer, or one that contradicts the WAL
    enum kind kind;
    enum json_class json_class;
    bool key;
    bool masked;
};

struct seen_relation {
    uint32_t oid;
    const char *schema, *name;
    char replica_identity;
    uint16_t n;
    struct seen_column *columns;
    const char *root; // or NULL
    const struct hidden_column *hidden;
    size_t hidden_count;
};

// True when each column is one of `latest` by name and compatible kind, and the table the same by
// oid: its numbers are known, no look-up is needed.
bool registry_knows(const struct relation *latest, const struct seen_relation *seen);
// A sealed relation version (id not yet set in `encoded`: give `id`) with numbers by the rules:
// known name and compatible kind keep theirs; a new name whose attnum belonged to a column that
// vanished in this same version, with a compatible kind, is a rename and keeps it; otherwise attnum
// if it was never used in this table, else the next from NUMBER_OWN_FIRST. A masked column's kind
// is KIND_STRING, whatever its type: its mask stands in the row. A number left behind is reserved.
// `latest` may be NULL. NULL when the table has used up its numbers (2^29 - 1, or more than
// RESERVED_MAX are reserved).
struct relation *registry_number(const struct relation *latest, const struct seen_relation *seen,
                                 uint32_t id);
