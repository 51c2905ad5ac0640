// The inside of a journal, for the files of this folder. Locks, in the order in which they may be
// taken: wake_lock, lock, then those inside segments and the frame cache.
#pragma once

#include "base/metrics.h"
#include "journal/frame_cache.h"
#include "journal/journal.h"
#include "journal/relations.h"
#include "journal/segments.h"
#include "journal/tail.h"
#include "journal/told.h"

#include <xxhash.h>
#include <zstd.h>

#define UNWRITTEN_BYTES_MAX (UINT64_C(16) << 20) // beyond it the source stops reading
#define STAGE_BYTES         (UINT64_C(1) << 20)  // gathered for one write
// A sync waits until so much has come, or so long has passed since the last one. PostgreSQL is told
// no more often either, and a first batch after a quiet time is synced at once.
#define GATHER_BYTES (UINT64_C(1) << 20)
#define GATHER_US    INT64_C(10000)
// Of 64 KiB batches of rows of 150 bytes, compression alone: level -1 takes 0.26 us a change at a
// ratio of 4.0, level 1 0.43 us at 6.0, level -5 0.21 us at 3.0.
#define COMPRESSION_DEFAULT (-1)

// A transaction that is appended in part.
struct open_txn {
    struct journal_cut cut; // what a cut would take; lsn 0: none is open
    uint64_t seq;           // of its first batch
    struct position before; // the last position before it
    uint32_t before_attempt;
};

// What the next frame's header needs of those before it.
struct frame_context {
    struct place txn;     // the first frame of the transaction being written
    struct position last; // of the newest frame
    lsn_t watermark;
    uint64_t at; // where the newest frame begins
};

// The newest segment, as its thread writes it.
struct writer {
    int fd;            // -1: none yet
    uint64_t good;     // bytes of whole frames in the file
    uint64_t good_seq; // the last of them
    uint64_t durable_seq;
    int64_t synced_at; // monotonic
    struct buf stage;  // what comes at `at`
    uint64_t at;
    ZSTD_CCtx *zstd;
    struct frame_context context; // behind the newest frame staged
    uint64_t segment;             // the file's id
    uint64_t hinted;              // where the last hint said that frames are durable
    int hint_fd;
};

#define HINT_FILE "hint"
// A durable frame of the newest segment, for opening to begin its walk at. Written in place and not
// synced: what it says was true before it was written, and a cut removes it first.
struct hint {
    uint64_t segment, offset, seq;
    uint64_t check; // XXH3 over the rest
};

static inline uint64_t hint_check(const struct hint *h)
{
    return XXH3_64bits(h, offsetof(struct hint, check));
}

struct journal_metrics {
    struct metric *bytes, *segments, *oldest_age, *unwritten, *readers, *synced;
    struct metric *frames, *fsyncs, *restarts, *cuts;
    struct histogram *fsync_time;
};

// A generation that came to its end.
struct generation {
    uint64_t stream_id;
    lsn_t from, to; // the gap's ends
    bool over;      // what it held was removed: nothing of it goes on
};
#define GENERATIONS_MAX 64 // beyond it the oldest are forgotten: their cursors are other streams'

// What the identity file has beside the identity.
struct lineage {
    uint64_t system_id; // that the stream ids are made from: adopting leaves them as they are
    uint32_t database_oid;
    uint32_t n;
    struct generation past[GENERATIONS_MAX]; // oldest first
    char reason[GAP_REASON_MAX];             // why the last one ended
    bool dropping;                           // what is in the directory is of it, and goes
};

struct journal {
    struct journal_options o;
    char *dir;
    int dirfd, lock_fd;
    _Atomic uint32_t era, id_version;
    struct journal_identity id;
    bool has_id;
    struct lineage lineage;
    struct catalog *catalog;
    struct relations_file relations;
    struct told told; // the appending thread's
    struct segments segments;
    struct frame_cache cache;
    pthread_mutex_t large_lock; // one frame beyond the cache's budget is read at a time
    struct journal_metrics metrics;

    pthread_mutex_t lock; // around everything from here to wake_lock
    pthread_cond_t work;  // the writer has something to do
    pthread_cond_t idle;  // the writer stands still
    struct tail tail;
    uint64_t visible_seq; // readers may have up to here
    uint64_t written_seq; // in the files, synced
    size_t unwritten;     // bytes of batches that are not
    uint64_t aside_seq;   // the newest batch with BATCH_ASIDE, which waits for its sync; or 0
    bool held;            // by journal_hold
    bool versions_behind; // a relation version waits for room: nothing appended is shown
    struct position last, visible_last, written_last;
    uint32_t last_attempt, visible_attempt, written_attempt;
    struct position floor; // what lies before the oldest frame kept
    lsn_t appended;
    uint64_t appended_count; // batches in this process
    lsn_t watermark;
    struct open_txn open;
    struct journal_cut pending;
    uint64_t epoch; // counts cuts
    bool writer_busy, stop, retain_now;
    bool disk_full, size_full;
    bool failed;
    struct err failure;
    bool waiting;    // some reader waits to be woken
    struct writer w; // the writer's while it is busy; else under the lock
    pthread_t thread;
    bool thread_runs;

    pthread_mutex_t wake_lock; // around the list (with `lock` too where it changes) and the calls
    struct journal_reader *readers;
    void (*on_durable)(void *arg);
    void *on_durable_arg;
};

struct journal_reader {
    struct journal_reader *next;
    struct journal *j;
    char *name;
    void (*wake)(void *arg);
    void *wake_arg;
    bool gating;
    _Atomic bool wants_wake;
    // under the journal's lock:
    uint64_t seq; // of the next batch
    struct position acknowledged;
    enum read_result ended; // the journal has removed what it read; READ_BATCH: no
    // the reading thread's:
    struct position start, at, skip;
    uint32_t attempt; // of the transaction that `at` is in
    uint32_t start_attempt;
    bool before_first; // opened when nothing was kept: the first batch tells whether it is a gap
    bool expired;
    int fd; // of the segment being read, or -1
    char path[SEGMENT_PATH_MAX];
    struct segment segment;
    struct place place; // of the frame `place.seq`, as of `place_epoch`
    uint64_t place_epoch;
};

// ---- opening (directory.c, journal.c, recover.c) ----

// Makes, checks and locks the directory; read_only: only opens it.
int directory_open(struct journal *j, struct err *e) MUST_CHECK;
// Everything but the segments' contents: lock, identity, pending cut, relation versions, the list.
int journal_open_files(const struct journal_options *o, struct journal **ret_j,
                       struct err *e) MUST_CHECK;
// Forgets the hint, durably: what it says may be cut.
int hint_remove(struct journal *j, struct err *e) MUST_CHECK;
int pending_load(struct journal *j, struct err *e) MUST_CHECK;
// Brings the files to the last whole transaction and fills writer, positions and pending cut.
int recover(struct journal *j, struct err *e) MUST_CHECK;
// Writes j->pending to its file, or removes the file when there is none.
int pending_save(struct journal *j, struct err *e) MUST_CHECK;
// What must be verified when this transaction comes again. A record of the same attempt that nobody
// has answered stays: it is what readers have seen.
void pending_take(struct journal *j, const struct journal_cut *cut);

// Removes contents that were about to be removed when the process ended. Opening, before recover.
int gap_finish(struct journal *j, struct err *e) MUST_CHECK;

// ---- appending (journal.c) ----

// Shows readers what was appended, if nothing holds it back; up to the newest synced batch where
// one waits for its sync. True: wake them. Locked.
bool journal_show(struct journal *j) MUST_CHECK;

// ---- writing (writer.c) ----

// Says once that the disk is full (e: what failed), and once that it has room again. Locked.
void journal_set_full(struct journal *j, bool full, const struct err *e);
void *writer_main(void *arg);
void writer_free(struct writer *w);
// A failure that nothing mends: kept, logged once, and the writer stops.
void journal_fail(struct journal *j, const struct err *e);

// Where a journal begins whose first batch is b: what lies before is not known.
struct position batch_floor(const struct batch *b);

// ---- retention (retention.c) ----

// Removes old segments by size and age. The journal's thread, not locked.
void retention_run(struct journal *j);
// Sets j->floor as if the i-th segment were the oldest. Opening, or the journal's thread, not
// locked.
int floor_load(struct journal *j, size_t i, struct err *e) MUST_CHECK;

// ---- readers (journal_reader.c) ----

// What they read is gone: they end with `how`. Locked.
void readers_end(struct journal *j, enum read_result how);

// Sends readers behind `from` back to it. Locked by the caller, which keeps the list as it is.
void readers_go_back(struct journal *j, uint64_t from);
// Wakes readers that wait. Not locked.
void readers_wake(struct journal *j);
