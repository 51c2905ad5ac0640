// The JSON form of entries, the same wherever JSON appears; README.md, "Events" has it in words.
#pragma once

#include "proto/batch.h"
#include "proto/catalog.h"

struct json_context { // what a change's JSON needs from around it
    const struct catalog *catalog;
    uint64_t stream_id;
    uint32_t timeline;
    struct begin begin; // of the change's transaction; its strings are borrowed from the batch
};

// Takes a Begin entry into the context.
void json_context_begin(struct json_context *x, const struct batch *b, const struct entry *e);
// One JSON object without a newline. -1: a relation version that the catalog does not have, or a
// malformed row (corruption); nothing is appended then.
int json_change(struct buf *out, const struct json_context *x, const struct batch *b,
                const struct entry *e, struct err *err) MUST_CHECK;
// {"type":"relation",..}, {"type":"end",..}, {"type":"progress",..}, {"type":"gap",..}
void json_relation(struct buf *out, const struct relation *r);
void json_column(struct buf *out, const struct column *c); // one of its columns
void json_end(struct buf *out, const struct json_context *x, const struct batch *b,
              const struct entry *e);
// `at`: where it brings its reader, position_before(lsn) or behind it.
void json_progress(struct buf *out, const struct json_context *x, lsn_t lsn, struct position at);
void json_gap(struct buf *out, const struct json_context *x, const struct batch *b,
              const struct entry *e);
// {"type":"snapshot","step":"begin",..}
void json_snapshot_mark(struct buf *out, const struct json_context *x, const struct batch *b,
                        const struct entry *e);
// text as a JSON string, quotes included; invalid UTF-8 becomes U+FFFD.
void json_string(struct buf *out, const char *text, size_t n);
// One row message ({"id":"7",..}): key, before or after. `exact_field`: 8, 9 or 10 of Change.
int json_row(struct buf *out, const struct relation *r, struct slice row, const struct change *c,
             uint32_t exact_field, bool key_only, struct err *err) MUST_CHECK;
