// What the parts of the transaction know of each other: transaction.c (begin, end, batches),
// transaction_change.c (rows, truncates and messages become entries), transaction_stream.c (those
// that come before they are committed) and transaction_cut.c (one that a lost connection cut comes
// again).
#pragma once

#include "proto/row.h"
#include "source/snapshot/snapshot.h"
#include "source/spool.h"
#include "source/transaction.h"

enum cut_state {
    CUT_NONE,    // nothing was cut
    CUT_PENDING, // its transaction must come next
    CUT_COMPARE, // it is here, and held back until it is known to be the same
    CUT_AGAIN,   // it was another: it is to be appended as a new attempt, uncompared
    CUT_WRITTEN, // that is being done, and not durable yet
};

struct transaction {
    struct transaction_options o;
    struct ack *ack;
    struct batch_builder *builder;
    struct pgoutput wire;
    lsn_t drop_below; // commits before this are in the journal
    lsn_t newest;     // commit that this connection sent
    lsn_t newest_end; // where its record ends, or what is known to have nothing before it

    bool open;     // between Begin and Commit
    bool dropped;  // the open one is in the journal already
    bool begun;    // the open one's Begin stands in the builder
    bool appended; // a part of the open one stands in the journal
    struct begin begin;
    struct buf origin;
    uint32_t last_relid; // of the open one's last row or relation; 0: none
    int64_t last_commit;
    uint32_t arrivals;         // of Relation and Type messages
    const bool *watched;       // existing rows are being read of some table
    const lsn_t *snapshot_due; // behind it some of them can be put into the journal

    struct {
        char *dir;
        struct spools *spools;
        struct spool *segment; // between Stream Start and Stream Stop
        struct spool *replay;  // of the open transaction, whose Stream Commit came
        lsn_t end_lsn;         // of that
        int64_t again_at;      // not streamed before: a spool failed
        struct buf table;      // of the last relation that came in a segment
        struct metric *count, *aborts, *subaborts, *fallbacks;
    } stream;

    struct journal_cut cut;
    enum cut_state cut_state;

    struct row_out key, before, after;
    struct buf scratch;
    struct metric *transactions, *batches, *restarts, *dropped_count;
};

// ---- batches ----

void transaction_append(struct transaction *t, struct batch *b);
// Appends what has reached the size of a batch, also in the middle of a transaction.
void transaction_append_full(struct transaction *t);

// ---- changes: of the open transaction, which is not dropped ----

// INSERT, UPDATE, DELETE. bytes: the message's; owned: see transaction_message.
int transaction_row(struct transaction *t, const struct pgoutput_message *m, size_t bytes,
                    char **owned, struct err *e) MUST_CHECK;
int transaction_truncate(struct transaction *t, const struct pgoutput_truncate *m, size_t bytes,
                         struct err *e) MUST_CHECK;
int transaction_logical_message(struct transaction *t, const struct pgoutput_message *m,
                                struct err *e) MUST_CHECK;

// ---- begin and end ----

// A Begin, or a Stream Commit: lsn, time and xid.
int transaction_begin(struct transaction *t, const struct pgoutput_message *m,
                      struct err *e) MUST_CHECK;
// The open transaction is whole.
int transaction_end(struct transaction *t, lsn_t end_lsn, struct err *e) MUST_CHECK;
// A message outside of any part. arrival: of a Relation or Type message.
int transaction_decode(struct transaction *t, struct slice payload, uint32_t arrival,
                       int64_t send_time, char **owned, struct err *e) MUST_CHECK;

// ---- streamed transactions ----

void transaction_stream_init(struct transaction *t);
void transaction_stream_fini(struct transaction *t);
void transaction_stream_lost(struct transaction *t);
int transaction_stream_start(struct transaction *t, const struct pgoutput_message *m,
                             struct err *e) MUST_CHECK;
int transaction_stream_abort(struct transaction *t, const struct pgoutput_message *m,
                             struct err *e) MUST_CHECK;
int transaction_stream_commit(struct transaction *t, const struct pgoutput_message *m,
                              struct err *e) MUST_CHECK;
// A message of a part, Stream Stop too.
int transaction_segment(struct transaction *t, struct slice payload, struct err *e) MUST_CHECK;

// ---- what was cut ----

// The transaction at hand begins: is it the one that was cut?
void transaction_compare_begin(struct transaction *t);
// After each change: the same when its hash is the same at the change where it was cut. -1: it is
// another, and the connection must be given up.
int transaction_compare_change(struct transaction *t, struct err *e) MUST_CHECK;
int transaction_compare_differs(struct transaction *t, struct err *e);
