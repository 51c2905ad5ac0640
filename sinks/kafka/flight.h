// What was given to Kafka and is not all confirmed: the batches in order, each with the number of
// its records that are out. Reports come in any order across partitions; the position moves only
// past a batch all of whose records are delivered, and with all before it.
#pragma once

#include "proto/batch.h"

struct flight { // one batch; a record's opaque points to it
    struct batch *batch;
    uint32_t out; // records handed over, report not yet seen
    bool failed;  // one of them was not delivered: the position stops before this batch
};

struct flights {
    struct flight **ring;
    size_t cap, head, count;
    size_t memory; // of the batches
    uint64_t out;  // records, of all
    bool open;     // the last one may get more records
    struct {       // everything up to here is delivered
        struct position at;
        uint32_t attempt;
        lsn_t watermark;
        int64_t commit_time_us; // of the last transaction in it; 0: none yet
        uint64_t bytes;         // counts up
    } done;
};

// Takes the reference. The one before must have been closed.
struct flight *flights_open(struct flights *f, struct batch *b);
// The last one gets no more records.
void flights_close(struct flights *f);

static inline void flight_sent(struct flights *f, struct flight *x)
{
    x->out++;
    f->out++;
}

void flight_report(struct flights *f, struct flight *x, bool delivered);

// Called for each batch as it is done with, oldest first; `arg` as given.
typedef void flight_done(void *arg, const struct batch *b);
// Moves past what is delivered. True: `done` moved.
bool flights_advance(struct flights *f, flight_done *done, void *arg);
// Forgets all that is not done. Every report must have been seen.
void flights_abandon(struct flights *f);
void flights_free(struct flights *f);
