// Batches: a sealed, immutable, reference-counted run of entries, the only thing that crosses
// threads. `data` is a valid rowcast.v1.Batch; in front of it lies headroom for a WebSocket frame
// header, which the one thread that sends shared batches may write to.
//
// Every batch can be read alone: one that starts inside a transaction begins with
// Begin{continued}. A batch that ends inside a transaction holds nothing but (a part of) that one.
#pragma once

#include "base/position.h"
#include "proto/relation.h"

#include <stdatomic.h>

#define BATCH_HEADROOM 64

// Tags of Entry's oneof; see rowcast.proto.
enum entry_kind {
    ENTRY_BEGIN = 1,
    ENTRY_CHANGE = 2,
    ENTRY_END = 3,
    ENTRY_RELATION = 4,
    ENTRY_PROGRESS = 5,
    ENTRY_SCHEMA = 6,
    ENTRY_SNAPSHOT = 7,
    ENTRY_GAP = 8,
    ENTRY_RESTART = 9,
};

enum op { OP_NONE, OP_INSERT, OP_UPDATE, OP_DELETE, OP_TRUNCATE, OP_READ, OP_MESSAGE };
const char *op_name(enum op op); // "insert"

struct entry {
    uint32_t off;      // of Batch.entry's tag in data
    uint32_t body;     // of the inner message's bytes (a Change, a Begin ..)
    uint32_t end;      // one past both
    uint32_t relation; // a change's, a relation's or schema change's version id; 0: a message
    uint64_t ordinal;  // a change's
    uint8_t kind;      // enum entry_kind
    uint8_t op;        // enum op
};

// What a Begin says; borrowed strings live as long as the batch.
struct begin {
    lsn_t lsn;
    int64_t commit_time_us; // wall
    uint32_t xid;
    uint32_t attempt;
    bool continued;
    bool read;           // existing rows, not a transaction
    uint64_t ordinal;    // of the first one, with `read`; the batch has it in its changes
    struct slice origin; // empty: none
    lsn_t origin_lsn;
};

enum snapshot_step { SNAPSHOT_NONE, SNAPSHOT_BEGIN, SNAPSHOT_END, SNAPSHOT_RESTART };
const char *snapshot_step_name(enum snapshot_step step); // "begin"

// What a SnapshotMark says; borrowed slices live as long as the batch.
struct snapshot_mark {
    struct position at;
    enum snapshot_step step;
    struct slice table, reason;
    uint64_t rows;
};

enum batch_flag {
    BATCH_CONTINUED = 1, // starts inside a transaction
    BATCH_PARTIAL = 2,   // ends inside one
    BATCH_PROGRESS = 4,  // holds no change: a watermark only
    BATCH_RELATION = 8,  // holds a relation entry, or a schema change
    BATCH_ASIDE = 16,    // holds what does not come from WAL: no reader sees it before it is synced
};

struct batch {
    _Atomic uint32_t refs;
    uint32_t flags;              // enum batch_flag
    uint64_t seq;                // of the journal's frame; given by the journal
    struct position first, last; // of its changes; `last` is (LSN, ORDINAL_END) after an End and
                                 // position_before(lsn) of a progress
    lsn_t watermark;             // when this batch and all before it are durable, so is everything
                                 // that the source sent up to here
    lsn_t txn_lsn;               // PARTIAL or CONTINUED: the open transaction's commit LSN, else 0
    uint64_t txn_hash;           // PARTIAL: running hash of its changes up to here (batch_hash)
    uint64_t txn_changes;        // PARTIAL: how many those are
    uint32_t attempt;            // of the last transaction in it
    uint32_t change_count, end_count;
    uint32_t xid_min, xid_max;
    int64_t commit_time_us; // of the last transaction in it; 0: none
    int64_t sealed_us;      // wall clock; 0 when read from a file
    size_t n;               // bytes of data
    uint8_t *data;          // BATCH_HEADROOM bytes of room stand before it
    size_t entry_count;
    struct entry *entries;
    size_t memory; // what it holds altogether, for budgets
};

struct batch *batch_ref(struct batch *b);
// Drops a reference; returns NULL. The last one frees it. NULL is fine.
struct batch *batch_unref(struct batch *b);

#define BATCH_FOREACH(b, e)                                                                        \
    for (const struct entry *e = (b)->entries; e < (b)->entries + (b)->entry_count; e++)

static inline struct slice entry_body(const struct batch *b, const struct entry *e)
{
    return (struct slice){b->data + e->body, e->end - e->body};
}

// ---- reading ----

// A batch from stored or received bytes: takes over `data` (malloc'd, BATCH_HEADROOM bytes of room
// and then n bytes of Batch with at least one entry), builds the index and everything that follows
// from the entries; on failure frees it. Watermark, seq, hash and flags PARTIAL stay for the
// caller, who has them from a frame header.
int batch_parse(uint8_t *data, size_t n, struct batch **ret_b, struct err *e) MUST_CHECK;
// Decodes a Begin entry of a batch (which was checked when it was parsed or built).
struct begin batch_begin(const struct batch *b, const struct entry *e);
lsn_t batch_end_lsn(const struct batch *b, const struct entry *e); // End.end_lsn
lsn_t batch_progress_lsn(const struct batch *b, const struct entry *e);
struct snapshot_mark batch_snapshot_mark(const struct batch *b, const struct entry *e);
// Where an entry stands: a change, an End, a progress, a mark, a gap. A schema change stands with
// the change behind it, and is had with that.
struct position batch_entry_position(const struct batch *b, const struct entry *e,
                                     const struct begin *begin);

// A Change taken apart; slices borrowed from the batch. Absent parts have p == NULL.
struct change {
    enum op op;
    uint32_t relation;
    uint64_t ordinal;
    struct slice key, before, after;
    struct slice unchanged;                      // packed varints: field numbers
    struct slice exact, exact_before, exact_key; // whole fields, tags included; see change_exact
    struct slice omitted;                        // packed varints: field numbers
    struct slice truncate, message;
    bool last;
    struct slice body; // the whole Change
};
struct change batch_change(const struct batch *b, const struct entry *e);
int change_decode(struct slice body, struct change *ret_c) MUST_CHECK; // -1: malformed

// The text listed for `number` among the exact values of one part (`field` 8, 9 or 10 of Change).
bool change_exact(const struct change *c, uint32_t field, uint32_t number, struct slice *ret_text);
bool change_unchanged(const struct change *c, uint32_t number);

// ---- building (source thread) ----

struct batch_builder;

// sealed at about `size` bytes.
struct batch_builder *batch_builder_new(size_t size);
void batch_builder_free(struct batch_builder *bb);
// Opens a transaction, or with begin->read a run of existing rows, which ends in the same batch.
// begin->continued must be false.
void batch_add_begin(struct batch_builder *bb, const struct begin *begin);
void batch_add_relation(struct batch_builder *bb, const struct relation *r);
// The bytes of a SchemaChange of `relation`, whose change must come next.
void batch_add_schema_change(struct batch_builder *bb, uint32_t relation, struct slice body);
// Inside a transaction: where the next change will stand.
struct position batch_builder_next(const struct batch_builder *bb);
// parts: everything but ordinal and `last`, which the builder gives. Returns the ordinal.
uint64_t batch_add_change(struct batch_builder *bb, const struct change *c);
// A change that was decoded but is filtered (excluded table): takes its ordinal, stores nothing.
void batch_skip_change(struct batch_builder *bb);
// Closes the transaction, marks its last change `last` if it still stands in this batch. False: it
// left nothing behind (no change, or all skipped); end_lsn is then a matter of progress.
bool batch_add_end(struct batch_builder *bb, lsn_t end_lsn);
// The source has nothing in flight below lsn.
void batch_add_progress(struct batch_builder *bb, lsn_t lsn);
// Outside of a transaction. m->at as from position_aside.
void batch_add_snapshot_mark(struct batch_builder *bb, const struct snapshot_mark *m);
// A builder for what does not come from WAL alone: what the batches before it vouch for.
void batch_builder_set_watermark(struct batch_builder *bb, lsn_t watermark);
void batch_add_gap(struct batch_builder *bb, lsn_t from, lsn_t to, const char *reason);

// True when a sealed batch should be taken: its size is reached.
bool batch_builder_full(const struct batch_builder *bb);
// Takes what is whole: every finished transaction; when there is none and `partial` is set, the
// part of the open one. NULL when there is nothing to take. The caller owns the reference.
struct batch *batch_builder_take(struct batch_builder *bb, bool partial);
// Forgets everything, also the open transaction (the connection was lost).
void batch_builder_reset(struct batch_builder *bb);
// Inside a transaction: how many of its changes were stored so far (skipped ones are not), and
// their running hash (XXH3 over each change's bytes without its `last`, chained as the next seed).
uint64_t batch_builder_txn_changes(const struct batch_builder *bb);
uint64_t batch_builder_txn_hash(const struct batch_builder *bb);
