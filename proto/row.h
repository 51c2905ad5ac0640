// Rows: pgoutput's values, text or binary, to the protobuf row of a relation version. No allocation
// a column.
#pragma once

#include "proto/array.h"
#include "proto/binary.h"
#include "proto/relation.h"
#include "proto/tuple.h"
#include "proto/wire.h"

enum row_part { ROW_KEY, ROW_BEFORE, ROW_AFTER };

// Some values take more bytes here than on the wire. Three parts stay below 4 GiB, which is what an
// entry of a batch can hold.
#define ROW_PART_MAX ((size_t)1280 << 20)

struct row_field; // what row_encode must know of a column, in the order of the numbers

// How the columns of a Relation message map to those of the relation version. The caller sets n,
// binary and columns, which must outlive the map, and then calls row_map_init.
struct row_map {
    uint16_t n;                                // columns of the wire tuple
    const struct binary *binary;               // NULL: no value is expected to be binary
    uint16_t field_count;                      // row_map_init's: columns that are not excluded
    struct row_field *fields;                  // owned
    const struct column *columns[COLUMNS_MAX]; // NULL: excluded; last, so that a map may be
                                               // allocated for n of them only
};
void row_map_init(struct row_map *map);
void row_map_fini(struct row_map *map); // frees what row_map_init made; may be called twice

struct row_out {
    struct buf row;       // the row message
    struct buf exact;     // whole Exact fields with the tag of their part, ready to be appended
    struct buf unchanged; // varints of field numbers (ROW_AFTER)
    struct array_scratch scratch;
    struct buf text; // of a binary value
    size_t max;      // bytes that one part may take; 0: ROW_PART_MAX
};
void row_out_clear(struct row_out *out);
void row_out_fini(struct row_out *out);

// Encodes the tuple's columns (ROW_KEY: only key columns) into out, which the caller clears.
// Values that their kind cannot hold go to `exact`; `old` (or NULL) fills unchanged values.
// Fields come in ascending number, so equal rows have equal bytes, whether their values came as
// text or binary. -1: column count differs, or an unchanged value in a key or old row, where
// PostgreSQL puts none (since February 2022), or it would take more than out may hold. ERR_RETRY: a
// binary value that nobody here can read; as text it can be had.
int row_encode(struct row_out *out, const struct row_map *map, const struct tuple *t,
               const struct tuple *old, enum row_part part, struct err *e) MUST_CHECK;
