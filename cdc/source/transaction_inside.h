// What the parts of the transaction know of each other: transaction.c (begin, end, batches),
// transaction_change.c (rows, truncates and messages become entries) and transaction_cut.c (one
// that a lost connection cut comes again).
#pragma once

#include "proto/row.h"
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

    bool open;     // between Begin and Commit
    bool dropped;  // the open one is in the journal already
    bool begun;    // the open one's Begin stands in the builder
    bool appended; // a part of the open one stands in the journal
    struct begin begin;
    struct buf origin;
    uint32_t last_relid; // of the open one's last row or relation; 0: none
    int64_t last_commit;

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

// ---- what was cut ----

// The transaction at hand begins: is it the one that was cut?
void transaction_compare_begin(struct transaction *t);
// After each change: the same when its hash is the same at the change where it was cut. -1: it is
// another, and the connection must be given up.
int transaction_compare_change(struct transaction *t, struct err *e) MUST_CHECK;
int transaction_compare_differs(struct transaction *t, struct err *e);
