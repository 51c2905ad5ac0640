// What may be acknowledged, and when: the arithmetic between what the server sent, what the journal
// has durably, and what the gating sinks are done with. Pure; times are clock_mono_us.
//
// Transactions need no queue here: the journal is the queue. What it cannot hold (transactions
// without a change of ours, other databases' WAL, told by keepalives) becomes a progress entry in
// it, at most one a second, and is acknowledged when that is durable.
#pragma once

#include "base/position.h"

#define ACK_INTERVAL_US      INT64_C(10000)   // between two statuses that the peer did not time out
#define PROGRESS_INTERVAL_US INT64_C(1000000) // between two progress entries
#define ASKED_AGAIN_US       INT64_C(250000)  // keepalives this close belong together
#define FAR_BYTES            (UINT64_C(1) << 50) // a petabyte of WAL on one connection
#define ASKED_LONG_US        INT64_C(1000000)    // to be asked for what we cannot say

struct ack {
    lsn_t received;      // highest LSN that the server sent: of a commit's end or of a keepalive
    lsn_t settled;       // up to here nothing of ours is missing from the builder
    lsn_t appended;      // what the journal has, durable or not, of that
    lsn_t flushed;       // what we last told the server; never goes back
    int64_t progress_at; // of the last progress entry
    int64_t sent_at;     // of the last status
    int64_t interval_us; // unconditional statuses
    lsn_t asked;         // where the server asked last for a status
    int64_t asked_at;    // when
    int64_t asked_since; // since when it asks there, again and again, and hears nothing new
    lsn_t far;           // no honest server comes there while we are connected; 0: not known
    bool reply;          // the server asked for a status
    bool urgent;         // it asked while something was not acknowledged: it may be stopping
};

// A new connection, started at `start` (the journal's watermark), to a slot that stands at
// `confirmed`. timeout_us: the server's wal_sender_timeout, 0: none.
void ack_init(struct ack *a, lsn_t start, lsn_t confirmed, int64_t timeout_us, int64_t now);
// -1 (ERR_DATA): lsn is farther than any server writes. Believed, it would stand in the journal,
// and nothing that really comes would be behind it.
int ack_check(const struct ack *a, lsn_t lsn, struct err *e) MUST_CHECK;
// A transaction (or message) ended at lsn. stored: it left something in the builder.
void ack_end(struct ack *a, lsn_t lsn, bool stored);
// A keepalive. in_txn: a transaction is being received (its walEnd then lies before that).
void ack_keepalive(struct ack *a, lsn_t wal_end, bool reply, bool in_txn, int64_t now);
// A server that stops asks again and again until all is flushed. True when it has waited long for
// what is not ours to give (a sink is away): its shutdown must not hang on us.
bool ack_in_the_way(const struct ack *a);
// The progress entry to be added now, 0: none.
lsn_t ack_progress(struct ack *a, bool in_txn, int64_t now);
// The flush LSN to send now given the journal's watermark and the sinks' gate; 0: nothing is due.
// Whoever gets one sends it.
lsn_t ack_status(struct ack *a, lsn_t watermark, lsn_t gate, int64_t now);
// When one of the two above may have something to say, if nothing else happens before.
int64_t ack_deadline(const struct ack *a, lsn_t watermark, lsn_t gate, bool in_txn);
