// The statements that read a chunk. Pure.
#pragma once

#include "source/snapshot/chunk.h"

// Columns of the first result with a row, which says what the rows stand on. No row: the table is
// gone.
enum about_column {
    ABOUT_SCHEMA,
    ABOUT_NAME,
    ABOUT_FILENODE,
    ABOUT_SNAPSHOT,
    ABOUT_BELOW, // a leaf: the table is still above it
    ABOUT_IDENTITY,
    ABOUT_TERMS,
    ABOUT_STANDBY,
    ABOUT_NEXT_XID,    // xmax of the snapshot is that of the newest that is over
    ABOUT_SYNCHRONOUS, // commits wait for synchronous standbys
};
// Columns of the second: one row a column of the published table.
enum shape_field {
    SHAPE_NAME,
    SHAPE_ATTNUM,
    SHAPE_TYPE,
    SHAPE_TYPMOD,
    SHAPE_PUBLISHED,
    SHAPE_PRIMARY,
    SHAPE_IDENTITY,
};

// All of a chunk in one string: BEGIN, LOCK, what the rows stand on, COPY, the insert LSN, COMMIT.
// places: each row has its ctid behind its columns. The order's bounds must be valid.
void chunk_sql_read(struct buf *out, const struct source_options *o, int version,
                    const struct chunk_order *order, bool places);
// The publications' names as a list of literals.
void chunk_sql_publications(struct buf *out, const struct source_options *o);
// An expression: what the publications say of table `oid` (an expression too).
void chunk_sql_terms(struct buf *out, const struct source_options *o, int version, const char *oid);
