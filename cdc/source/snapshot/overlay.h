// The rows of one chunk while it is held: what the stream changes meanwhile is laid over them, so
// that what is emitted in the end is what the table has at that place of the stream.
//
// Inserts and whole updates of rows that are not held need nothing: the stream has them whole.
#pragma once

#include "source/snapshot/identity.h"

struct held_row {
    struct row_key id;
    struct slice after, exact; // the row message and its Exact fields, tag of Change.exact
    uint8_t *own;              // the four slices lie in it; NULL: in what the chunk brought
    bool gone;                 // deleted, or moved to another key
};

struct overlay;

// id outlives it. The rows' bytes are borrowed until overlay_free.
struct overlay *overlay_new(const struct identity *id, size_t rows);
void overlay_free(struct overlay *o); // NULL is fine
void overlay_add(struct overlay *o, const struct held_row *row);
// One insert, update or delete of a transaction that the rows' query did not see. -1: the change
// is malformed, or the row it must be laid over is of no use: the chunk has to be read again.
int overlay_apply(struct overlay *o, const struct change *c) MUST_CHECK;
// Truncated.
void overlay_clear(struct overlay *o);
// Whether a row of this key is held.
bool overlay_has(struct overlay *o, struct row_key key);
// Rows by place, gone ones too; the count grows when rows move.
size_t overlay_count(const struct overlay *o);
const struct held_row *overlay_row(const struct overlay *o, size_t i);
// What it allocated beyond the rows themselves.
size_t overlay_bytes(const struct overlay *o);
