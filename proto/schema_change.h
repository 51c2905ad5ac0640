// What became of a table between two of its relation versions, as consumers are told of it: the
// SchemaChange entry, and its JSON form. Pure.
//
// Columns are the same by attnum where both versions know it and the table is the same by OID; else
// by name.
#pragma once

#include "proto/json.h"

enum schema_step {
    SCHEMA_NONE,
    SCHEMA_CREATED,   // never told of before
    SCHEMA_RECREATED, // another table of the same name: dropped and created, or two renames
    SCHEMA_ALTERED,
};
const char *schema_step_name(enum schema_step step); // "created"

// `before`: the version that was told last, NULL: none. SCHEMA_NONE: nothing that concerns a
// consumer is different.
enum schema_step schema_change_step(const struct relation *before, const struct relation *after);
// The bytes of a SchemaChange; there is one.
void schema_change_encode(struct buf *out, const struct relation *before,
                          const struct relation *after);
// Relation.id of both, and the name before where it differs (else empty).
struct schema_change {
    uint32_t before, after;
    struct slice table, table_before;
};
struct schema_change batch_schema_change(const struct batch *b, const struct entry *e);
// {"type":"schema_change",..}. -1: a relation version that the catalog does not have; nothing is
// appended then.
int json_schema_change(struct buf *out, const struct json_context *x, const struct batch *b,
                       const struct entry *e, struct err *err) MUST_CHECK;
