// Existing rows: which tables are read, in what order, when; and what the stream has to know of it.
// Lives as long as the source, over its sessions; everything but snapshot_request is called in the
// source's thread.
#pragma once

#include "base/health.h"
#include "source/snapshot/chunk.h"
#include "source/source.h"

#define SNAPSHOT_TABLES_AT_ONCE 4

// Where chunks come from: a chunk reader, or a test.
struct chunk_source {
    void *arg;
    void (*order)(void *arg, struct chunk_order *o);
    struct chunk *(*take)(void *arg);
    void (*cancel)(void *arg);
    size_t (*pending)(void *arg);
    size_t (*threads)(void *arg);
};

struct snapshot_options {
    const struct source_options *source;
    struct journal *journal;
    struct health *health;
    struct chunk_source chunks;
    // The relation version of a table as it is now.
    int (*renew)(void *arg, const struct table_info *info, const struct relation **ret_r,
                 struct err *e);
    // Where the server writes WAL now.
    int (*wal_lsn)(void *arg, lsn_t *ret_lsn, struct err *e);
    void *arg;
};

struct snapshot;

struct snapshot *snapshot_new(const struct snapshot_options *o);
// clean: the source ends by itself, the journal is about to be closed.
void snapshot_free(struct snapshot *s, bool clean);

// ---- a session ----

// Before anything of it is appended: tables that are not known yet are to be read (or, where
// snapshots are switched on for an old journal, are not). fresh: the journal is new.
int snapshot_prepare(struct snapshot *s, bool fresh, uint32_t generation, struct err *e) MUST_CHECK;
// The stream begins. standby: the server is one, nothing can be read there. shown: a position up to
// which consumers may have been shown what this journal does not have; 0: none.
void snapshot_start(struct snapshot *s, bool standby, lsn_t shown);
void snapshot_lost(struct snapshot *s);
// Lost on purpose: what is asked for is taken, for who asks has it attached again.
void snapshot_detached(struct snapshot *s);
// A wanted table: published at the start, or described by the stream. root: of a partition, or
// NULL.
void snapshot_table(struct snapshot *s, const char *table, const char *root);
// Changes are about to be given up for good, and consumers told (a gap that does not begin a new
// generation): when_needed reads everything again.
int snapshot_gap(struct snapshot *s, struct err *e) MUST_CHECK;

// ---- the stream ----

// A transaction begins: it will be visible some time, but may not be yet.
void snapshot_transaction(struct snapshot *s, uint32_t xid);
// False: none is being read, snapshot_change need not be called. Stays where it is.
const bool *snapshot_watching(const struct snapshot *s);
// A change of a row of the table, or its truncation. False: it is to be left out.
bool snapshot_change(struct snapshot *s, uint32_t xid, const struct change *c);
// The LSN from which snapshot_step has something to emit; UINT64_MAX: none. Stays where it is.
const lsn_t *snapshot_due(const struct snapshot *s);
// No transaction is open, nothing whole is left in its builder, everything up to `passed` is in
// the journal. Does what can be done now.
void snapshot_step(struct snapshot *s, lsn_t passed);
// It has something to do.
bool snapshot_busy(const struct snapshot *s);
// clock_mono_us at which snapshot_step is to be called although nothing came.
int64_t snapshot_deadline(const struct snapshot *s);

// ---- on demand ----

// Any thread. Puts what will be done into out, a line a table. ERR_USAGE: no such table, or it is
// being read.
int snapshot_request(struct snapshot *s, const char *glob, struct buf *out,
                     struct err *e) MUST_CHECK;
