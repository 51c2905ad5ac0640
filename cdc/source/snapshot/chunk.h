// Existing rows in chunks: what is to be read (a plan), one part of it (an order), and what came of
// it (a chunk). Made and filled by the chunk reader's threads, used by the source's thread; each
// object belongs to one of them at a time.
//
// A chunk is read in one repeatable-read transaction: the table is locked (ACCESS SHARE) before the
// snapshot is taken, so that its shape, its file and the snapshot belong together. Rows are encoded
// as changes of the stream are, keys too: equal keys have equal bytes.
#pragma once

#include "proto/batch.h"
#include "source/lookup.h"

#include <stdatomic.h>

// A chunk is aimed at this many bytes of encoded rows, and cut above four times as many (but for
// one row, which may be as large as PostgreSQL makes it).
#define CHUNK_BYTES     (1u << 20)
#define CHUNK_BYTES_MAX (4 * CHUNK_BYTES)
// Keys in one CHUNK_LIST.
#define CHUNK_LIST_MAX 200

enum chunk_kind {
    CHUNK_PLAN,  // no rows: what there is to read
    CHUNK_PAGES, // a range of places in the heap; server 14+, and only where updates are published:
                 // a row that moves from an unread page to a read one comes with its own update
    CHUNK_KEYS,  // a range in the order of the key
    CHUNK_WHOLE, // all of a table that has no key, in one transaction, delivered in several chunks
    CHUNK_LIST,  // the rows that have these keys
};

// The comparisons of a btree index, in the order of its strategies.
enum chunk_comparison { COMPARE_LT, COMPARE_LE, COMPARE_EQ, COMPARE_GE, COMPARE_GT, COMPARE_COUNT };

// A column of the index that is the replica identity, in the index's own terms: only in these are
// its values unique, and its order is the index's.
struct chunk_key {
    char *column;
    char *collation;                // quoted, with its schema; NULL: none
    char *operators[COMPARE_COUNT]; // "pg_catalog.<"
};

// What is read as one: a table, or a leaf of a partitioned one.
struct chunk_part {
    uint32_t oid;
    char *table;       // quoted, with its schema
    uint64_t filenode; // another one: the table was rewritten since
    uint64_t pages;    // of the heap; what is written behind them comes through the stream, if the
                       // plan was asked for after the mark that begins the snapshot
    uint64_t step;     // so many pages make a chunk
    uint64_t limit;    // so many rows make a chunk of CHUNK_KEYS
    uint64_t bytes;    // on disk, with what is stored out of line
    double rows;       // an estimate; below 0: none
    enum chunk_kind kind; // PAGES, KEYS or WHOLE
    struct chunk_key *keys;
    size_t key_count;
};

// The one of this column; NULL: it is not in the index.
const struct chunk_key *chunk_part_key(const struct chunk_part *p, const char *column);

// A published table: its own rows, or with publish_via_partition_root those of its leaves under its
// name.
struct chunk_table {
    struct table_info info; // its columns as published now
    char *table;            // quoted
    bool updates;           // published by every publication that has it
    char *filter;           // SQL, or NULL: all rows
    char *terms;            // of the publications: other ones, and the plan does not hold any more
    struct err refused;     // ERR_NONE: it can be read; else why not, with the remedy
    struct chunk_part *parts;
    size_t part_count;
};

// In the order of the OIDs. Must outlive the orders that point into it.
struct chunk_plan {
    struct chunk_table *tables;
    size_t n;
};
void chunk_plan_free(struct chunk_plan *p); // NULL is fine

// A place in the heap: page << 16 | item, from 1. (page, 0) stands before all of its items.
#define CHUNK_PLACE(page, item) ((uint64_t)(page) << 16 | (item))

struct chunk_order {
    enum chunk_kind kind;
    // CHUNK_PLAN: the table asked for, quoted; NULL: every published one that the globs want.
    const char *wanted;
    // All others: what to read, and the relation version that its rows are encoded with.
    const struct chunk_table *table;
    const struct chunk_part *part;
    const struct relation *relation;
    uint64_t place_from, place_to; // CHUNK_PAGES: [from, to)
    struct buf key_from, key_to;   // CHUNK_KEYS: (from, to], as `key_end` of chunks; empty: none;
                                   // CHUNK_LIST, which comes in the order of the key, too
    struct buf keys;               // CHUNK_LIST: chunk_list_add
    size_t key_n;
    void *tag; // the coordinator's
};
void chunk_order_fini(struct chunk_order *o);
// One key more: of a change of `relation`, with its exact fields. False: this key cannot be asked
// for by value (part of it is not valid text).
bool chunk_list_add(struct chunk_order *o, const struct relation *relation, struct slice key,
                    struct slice exact_key) MUST_CHECK;

enum chunk_status {
    CHUNK_OK,
    CHUNK_MORE,  // of CHUNK_WHOLE: a part of it, more follows under the same order
    CHUNK_SHAPE, // the published columns are not those of the relation version: make one (a new
                 // plan's info tells what they are now) and order again
    CHUNK_STALE, // rewritten, renamed, published otherwise: the plan does not hold, ask for another
    CHUNK_GONE,  // there is no such table any more, or it is not published (CHUNK_PLAN of one)
    CHUNK_FAILED, // err says why: ERR_RETRY passes by itself (order again), others do not
};

// A row's bytes in `data`: key, exact_key, after, exact, one behind the other.
struct chunk_row {
    uint32_t at;
    uint32_t key_n, exact_key_n, after_n, exact_n;
};

struct chunk {
    struct chunk_order order; // as given; taken over
    enum chunk_status status;
    struct err err;
    bool unreachable;        // CHUNK_FAILED: there was no connection
    struct chunk_plan *plan; // CHUNK_PLAN; owned

    uint64_t xmin, xmax; // of the snapshot that the rows were seen with: pg_current_snapshot, with
    uint64_t *xip;       // epochs; what is running (top-level), ascending
    size_t xip_n;
    uint64_t next_xid; // transactions that begin later get this one and higher ones
    bool synchronous;  // commits may wait for a standby: in WAL, and still running here
    lsn_t insert_lsn;  // read after the query; CHUNK_MORE: 0
    struct chunk_row *rows;
    size_t n, cap;
    struct buf data;
    bool end;           // of what was ordered (PAGES: up to place_to; KEYS: up to key_to)
    uint64_t place_end; // PAGES: not `end`: go on here
    struct buf key_end; // KEYS, LIST: of the last row; not `end`: go on behind it
    int64_t took_us;
    struct chunk *next; // the reader's
};
void chunk_free(struct chunk *c); // with its order; NULL is fine
size_t chunk_memory(const struct chunk *c);
// "xmin:xmax:xip,xip", as the server writes it.
int chunk_set_snapshot(struct chunk *c, const char *text) MUST_CHECK;

// Whether a transaction with this (32-bit) xid is visible in the chunk's snapshot.
bool chunk_sees(const struct chunk *c, uint32_t xid);

static inline struct slice chunk_row_key(const struct chunk *c, const struct chunk_row *r)
{
    return (struct slice){c->data.p + r->at, r->key_n};
}
// The row as a change: OP_READ, without an ordinal. Slices borrowed from the chunk.
struct change chunk_row_change(const struct chunk *c, const struct chunk_row *r);
