// A subscription: a place in the journal of its own, and at most one frame in hand. What is slow
// stays behind there; nothing piles up here.
#pragma once

#include "sinks/websocket/frame.h"

enum subscription_state {
    SUBSCRIPTION_FRAME, // a frame stands in s->frame
    SUBSCRIPTION_TAIL,  // nothing now; the reader's wake comes when there is more
    SUBSCRIPTION_MORE,  // the budget is used up: come again
    SUBSCRIPTION_RESET, // the position is gone: tell the client, end the subscription
    SUBSCRIPTION_ERROR, // the journal cannot be read: e says why
};

// Batches between a reader and a frame. A subscription has one only while it holds something.
struct queue {
    uint32_t n;
    struct batch *batch[FRAME_BATCHES_MAX];
    struct position skip[FRAME_BATCHES_MAX]; // what of each was had before
};

struct subscription {
    struct subscription *next; // of the connection
    struct selection *sel;
    struct journal_reader *reader;
    struct frame *frame;    // to be sent next
    struct queue *queue;    // taken from the reader, not used up; NULL: nothing
    uint32_t entry;         // where to go on in the queue's first batch
    enum read_result ended; // what came behind the queue; READ_BATCH: not known yet
    uint64_t stream_id;     // that it was opened on
    struct err *failure;    // READ_ERROR: why
    bool got;               // something of the open transaction
    bool open;              // the last frame ended inside a transaction
    bool ask;               // the client wants a progress
    bool live;              // was at the tail, and has kept up since
    bool slow;              // reads what is not in memory any more
    lsn_t open_lsn;         // of that transaction
    struct position at;     // of the last entry passed
    int64_t had_us;         // what it lacks was committed after this time; 0: not known
    lsn_t passed;           // everything before it was sent, or not wanted
    lsn_t told;             // as the client knows
};

// Takes over sel and reader.
struct subscription *subscription_new(struct selection *sel, struct journal_reader *reader);
void subscription_free(struct subscription *s, struct selection **selections,
                       struct frame_maker *fm);
// What is next. Examines a bounded number of bytes.
enum subscription_state subscription_next(struct subscription *s, struct frame_maker *fm,
                                          struct err *e);
// The LSN before which everything was passed, of a position.
lsn_t subscription_passed(struct position at);
// Told by the timer: a progress is due if positions moved and the client does not know.
void subscription_tick(struct subscription *s);
