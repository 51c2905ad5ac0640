// From messages to entries: puts each transaction of the stream into batches and the batches into
// the journal. Also decides what is old (dropped), what is not ours (skipped), and whether a
// transaction that was cut by a lost connection comes again the same.
#pragma once

#include "source/ack.h"
#include "source/relations.h"

struct transaction_options {
    const struct source_options *source;
    struct journal *journal;
    struct relations *relations;
    struct snapshot *snapshot; // or NULL
};

struct transaction;

struct transaction *transaction_new(const struct transaction_options *o);
void transaction_free(struct transaction *t);
// A connection was made: what the journal has is dropped when it comes again.
void transaction_start(struct transaction *t, struct ack *ack);
// The connection is gone: keeps whole transactions, cuts a part from the journal.
void transaction_lost(struct transaction *t);
// One pgoutput message. -1: the connection must be given up; transaction_lost comes next.
// owned (or NULL): libpq's memory that the payload lies in; that of a huge row is freed as soon as
// it is encoded, and set to NULL, for it exists often enough as it is.
int transaction_message(struct transaction *t, struct slice payload, int64_t send_time,
                        char **owned, struct err *e) MUST_CHECK;
// Whether streaming is wanted of the next connection: not while a spool had no room lately.
bool transaction_streams(const struct transaction *t);
// Streaming has failed: it is not asked for again before an hour is over.
void transaction_stop_streaming(struct transaction *t);
// A streamed transaction was committed and is not in the journal yet: before anything else of the
// connection comes transaction_replay, until this is false.
bool transaction_replaying(const struct transaction *t);
// Replays about `budget` bytes of it. -1: as transaction_message.
int transaction_replay(struct transaction *t, size_t budget, size_t *ret_bytes,
                       struct err *e) MUST_CHECK;
// A keepalive's position was read: whatever was cut and lies before it does not come again.
void transaction_passed(struct transaction *t, lsn_t lsn);
// The socket is drained: what is whole goes to the journal.
void transaction_drained(struct transaction *t);
// Everything up to `passed` was read: what existing rows can be put into the journal now, is. Does
// nothing inside a transaction.
void transaction_snapshot(struct transaction *t, lsn_t passed);
// Nothing is in flight below lsn.
void transaction_progress(struct transaction *t, lsn_t lsn);
bool transaction_open(const struct transaction *t); // inside one
// Inside a part of a transaction that is still open on the server.
bool transaction_in_part(const struct transaction *t);
// The commit LSN of the transaction in work (0: none is open, or it is being streamed) and the
// table of its last change or relation (NULL: none yet).
lsn_t transaction_in_work(struct transaction *t, const char **ret_table);
// Commit time (wall, microseconds) of the last transaction that ended; 0: none yet.
int64_t transaction_last_commit(const struct transaction *t);
