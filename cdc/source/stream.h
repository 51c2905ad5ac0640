// The loop of one streaming connection: reads, decodes, appends, and answers the server on time.
#pragma once

#include "source/detach.h"
#include "source/snapshot/snapshot.h"
#include "source/transaction.h"
#include "source/watch.h"

struct stream {
    struct connection *c; // in COPY BOTH
    struct waiter *waiter;
    struct transaction *transaction;
    struct ack *ack;
    struct journal *journal;
    struct lookup *lookup;
    const char *slot;
    lsn_t (*gate)(void *arg, const char **ret_who); // or NULL
    void *gate_arg;
    struct health *health;
    struct snapshot *snapshot;
    struct watch *watch;       // kept over connections
    struct detach *detach;     // kept too
    _Atomic bool *let_go;      // detach as soon as nothing is in work
    bool detached;             // stream_run ended for that
    int64_t silence_us;        // 0: as long as sender_timeout_us
    int64_t sender_timeout_us; // the server's; 0: none
};

// Streams until the connection ends or is stopped (then 0), or let go (0, `detached`); -1: e says
// why it ended.
int stream_run(struct stream *s, struct err *e) MUST_CHECK;
// Sends a standby status if one is due; says when the next one is. For the time in which the loop
// does not run (a look-up).
int64_t stream_tick(struct stream *s);
