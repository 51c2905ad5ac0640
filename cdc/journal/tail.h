// The newest batches in memory, by seq without holes: those that are not written yet, and behind
// them as many of the written ones as the budget allows. Not locked: the journal's lock is around
// it.
#pragma once

#include "proto/batch.h"

struct tail {
    struct batch **slots; // seq lives in slots[seq & (cap - 1)]
    size_t cap;           // a power of two
    uint64_t low, next;   // holds [low, next)
    size_t bytes;         // batch->memory of all
};

void tail_init(struct tail *t, uint64_t next);
void tail_free(struct tail *t);
// Takes the reference; b->seq must be t->next.
void tail_push(struct tail *t, struct batch *b);
// Borrowed; NULL when seq is not here.
struct batch *tail_get(const struct tail *t, uint64_t seq);
// Drops the oldest ones up to `upto`, until the budget is met.
void tail_trim(struct tail *t, size_t budget, uint64_t upto);
// Drops `from` and everything behind it, which will be appended anew.
void tail_cut(struct tail *t, uint64_t from);
// The first seq here whose last position is above `at`; t->next when there is none.
uint64_t tail_find(const struct tail *t, struct position at);
