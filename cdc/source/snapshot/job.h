// The reading of one table's existing rows, from its begin mark to its end mark. Everything happens
// in the source's thread; chunks come from elsewhere, finished, in any order.
//
// A table with a key, chunk by chunk:
//   ordered -> arrived: changes that the chunk's query did not see are laid over its rows, those
//   journaled since (or before: a transaction may be in WAL and not visible) from the log, later
//   ones as they come -> the stream has passed the chunk's insert LSN -> what is left is emitted.
// A row is emitted behind every change that made it, and holds what the table had at that place of
// the stream. Updates that leave out a large value of a row that no chunk held are asked for by
// key in the end.
//
// A table without one is a bag of rows, read in one transaction (job_bag.c). Its begin and restart
// marks say: forget all rows of it. Changes that its snapshot saw, and that come behind the mark,
// are left out of the stream; what it did not see and came before the mark is counted in.
//
// Failure: a chunk that cannot be used is ordered again; where the plan does not hold any more the
// table is begun again, with a restart mark if rows of it were emitted.
#pragma once

#include "base/metrics.h"
#include "source/snapshot/bag.h"
#include "source/snapshot/change_log.h"
#include "source/snapshot/chunk.h"
#include "source/snapshot/emit.h"
#include "source/snapshot/overlay.h"
#include "source/snapshot/snapshot.h"
#include "source/snapshot/state.h"

#define JOB_RESTARTS_MAX 5    // by new shapes; then it goes on with the new one
#define WANT_OFTEN       2000 // rows to be asked for by key before it is done in between
// Transactions that may be journaled and not visible yet. Where commits wait for a synchronous
// standby, those that do not wait can be many in the meantime.
#define RECENT_XIDS (64u << 10)
// In which what is in WAL becomes visible, unless it waits for such a standby.
#define JOB_SETTLE_US INT64_C(3000000)

struct recent_xids { // of the newest transactions of the stream
    uint32_t xids[RECENT_XIDS];
    uint32_t n;
};

struct snapshot_metrics {
    struct metric *tables, *done, *rows, *bytes, *retried, *active;
};

// What the jobs have in common.
struct job_host {
    struct snapshot_options o;
    struct catalog *catalog;
    struct emitter *emitter;
    struct state *state;
    struct recent_xids recent;
    struct snapshot_metrics metrics;
    size_t held_bytes; // of chunks that wait
    bool cancel;       // an order that would take long is of no use: all are given again
    lsn_t due;         // the lowest LSN that one of them waits for; UINT64_MAX: none
    // Transactions that are in WAL and not visible, of which nothing is known here: they came
    // before the stream, or to the process before.
    int64_t settle_until; // those that the next view lists as running are waited for until then;
                          // longer only where a commit may wait for a synchronous standby
    int64_t synchronous_until; // of late it did
    uint64_t settle_next;      // the first xid that was not given out at that view; 0: none yet
};

enum job_phase {
    JOB_QUEUED,
    JOB_PLANNING, // a plan is to be asked for, or was
    JOB_READING,
    JOB_DRAINING, // to be planned anew when no order points into the old plan any more
    JOB_WAITING,  // for the stream to come to where the table's shape became what it is
    JOB_DONE,
};

struct range { // to be read
    struct range *next;
    uint64_t place_from, place_to;
    struct buf key_from, key_to;
};

struct job_part {
    uint32_t oid;
    // What the ranges stand on: the part's file, what the publications take of it, and whether they
    // are of places. Of a part with another one they say nothing.
    uint64_t origin;
    struct range *todo;
};

// An order under way; order.tag.
struct job_tag {
    struct job *job;
    struct job_tag *next, **link;
    size_t part;
    struct range *range; // NULL: none, or given back
    uint64_t stamp;      // CHUNK_LIST: want_ask's
    uint32_t era;        // see trim in job_chunk.c
    bool stale;          // what comes of it is of no use
};

struct held {
    struct held *next;
    struct chunk *chunk;
    struct overlay *overlay;
    struct view view;
    size_t part, bytes;
    struct range *range; // what it is of the part; NULL: CHUNK_LIST
    uint64_t stamp;
    lsn_t due;
};

struct job {
    UT_hash_handle hh; // by table, in the order of their coming
    struct job_host *host;
    char *table;
    const char *why; // it is read: for the begin mark
    enum job_phase phase;
    bool begun;   // its begin mark is in the journal
    bool restart; // the next mark is a restart mark
    bool emitted; // since the mark: a range, be it without a row
    bool keyless;
    bool exhausted; // truncated: the stream has all that is left
    bool stuck;     // an error, and no chunk since: it is tried by one order at a time
    char reason[200];
    struct state_table *state;
    const struct relation *relation; // NULL: no plan yet
    const struct relation *announced;
    struct identity id;
    uint32_t shape; // the version of its emitted rows; 0: not known
    bool renew;     // the catalog knows of a shape that the stream says nothing of
    struct chunk_plan *plan;
    struct job_part *parts;
    size_t part_count;
    struct job_tag *tags;
    size_t outstanding;
    int64_t retry_at, backoff_us;
    lsn_t wait_lsn; // JOB_WAITING
    int restarts;
    char said[256]; // the last cause that was logged

    struct change_log *log;
    struct view floor; // older than every order of era `era`
    uint32_t era;
    size_t older; // orders under way of an earlier era
    struct want_set *wants;
    size_t list_left; // orders of the round that asks by key
    bool list_whole;
    struct held *held;

    struct view view; // keyless: the snapshot's, once it is known
    bool viewed;
    struct bag *bag;
    struct chunk *queue, **queue_end; // keyless: parts to be emitted
    lsn_t whole_due;                  // keyless: the last part has come; 0: it has not

    uint64_t rows;
    int64_t begun_us;
    struct progress *progress;
};

struct job *job_new(struct job_host *h, const char *table, const char *why);
void job_free(struct job *j);
// Transactions that run now may be in WAL, unknown to us; us: for so long that is likely.
void job_host_settle(struct job_host *h, int64_t us);
// The connection is lost: what is under way was cancelled, what is held may have missed changes.
void job_lost(struct job *j);
// What is under way was cancelled, the stream goes on.
void job_cancelled(struct job *j);
// It is its turn: the mark, the plan.
void job_start(struct job *j);
// What came of an order; its tag names the job.
void job_chunk(struct chunk *c);
// Emits what may be emitted. passed: the stream is past it. May end the job. Between transactions.
void job_emit(struct job *j, lsn_t passed);
// Orders one more chunk; false: there is nothing to order now.
bool job_order(struct job *j);
// A change of the table, or its truncation (c->op). False: to be left out of the stream.
bool job_change(struct job *j, uint32_t xid, const struct change *c);
// Clock time at which it must be looked at again; INT64_MAX: none.
int64_t job_deadline(const struct job *j);

// ---- its parts: job_plan.c, job_chunk.c, job_bag.c ----

// Begin again from a new plan; with a restart mark if a mark was emitted and `mark`.
void job_again(struct job *j, bool mark, const char *reason);
void job_retry(struct job *j, int64_t least_us); // waits before its next order, longer each time
void job_say(struct job *j, const struct err *e);
// It cannot be read because of *e; final_us: the pause after one that does not pass by itself.
void job_stuck(struct job *j, const struct err *e, int64_t final_us);
// Notes a change for chunks that did not see it. While the table cannot be read, for who knows how
// long, only that there was one: chunks that did not see it are read again.
void job_log(struct job *j, uint32_t xid, const struct change *c);
void job_mark(struct job *j); // the begin or the restart mark that is due
void job_ask_plan(struct job *j);
void job_take_plan(struct job *j, struct chunk *c);
void job_wait_for_shape(struct job *j);
void job_end(struct job *j, const char *reason);
// Orders; the range (or NULL) goes over to the tag.
void job_give(struct job *j, struct chunk_order *o, size_t part, struct range *range,
              uint64_t stamp);
void range_push(struct job_part *p, struct range *r); // to be read next
void range_free(struct range *r);
void job_drop_todo(struct job *j);
// What is under way is of no use: its ranges are to be read again.
void job_take_back(struct job *j);
void job_drop_held(struct job *j); // all, their ranges are to be read again
void held_arrived(struct job *j, struct chunk *c, struct job_tag *tag);
void held_emit(struct job *j, lsn_t passed);
bool held_change(struct job *j, uint32_t xid, const struct change *c);
void bag_arrived(struct job *j, struct chunk *c, struct job_tag *tag);
void bag_emit(struct job *j, lsn_t passed);
bool bag_change(struct job *j, uint32_t xid, const struct change *c);
void bag_reset(struct job *j);
// Whether the view misses a transaction that is journaled and whose changes are not at hand.
bool job_misses(struct job *j, const struct view *v, const struct chunk *c);
