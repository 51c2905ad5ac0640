// One connection from setting up to the end: checks, publication, slot, place to start, stream.
#pragma once

#include "source/stream.h"

struct session_options {
    const struct source_options *source;
    struct journal *journal;
    struct health *health;
    struct waiter *waiter;
    struct lookup *lookup;
    struct relations *relations;
    struct transaction *transaction;
    struct snapshot *snapshot;
    struct chunk_reader *chunks;
    lsn_t (*gate)(void *arg, const char **ret_who);
    void *gate_arg;
    struct watch *watch;
    struct detach *detach;
    _Atomic bool *let_go;
    bool on_demand; // this connection is made because somebody asked for it
    bool quiet;     // warnings were said before
};

// What is known of a session that ended, for the decision what to do next.
struct session_end {
    bool detached;       // it was let go; no error
    bool refused;        // a connection could not be made
    bool checked;        // its warnings were said
    int64_t streamed_at; // clock_mono_us when it had come as far as streaming; 0: it did not
    char sqlstate[6];    // of what ended it; "": no word from the server
    // Where it ended, when it was streaming:
    lsn_t txn_lsn;   // the commit LSN of the transaction in work; 0: none, or not known
    lsn_t error_lsn; // what the server's error names; 0: nothing
    char table[264]; // the last table that it heard of in that transaction; "": none
};

// 0: stopped. -1: e says why it ended; always fills ret_end.
int session_run(const struct session_options *o, struct session_end *ret_end,
                struct err *e) MUST_CHECK;
