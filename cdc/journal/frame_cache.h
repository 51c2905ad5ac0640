// Decoded frames, shared by the readers that are behind: several at the same place read a file
// once. Bounded by bytes; one larger than the whole budget is kept alone. Any thread.
#pragma once

#include "journal/segment.h"

#include <pthread.h>

#define FRAME_CACHE_BYTES (UINT64_C(8) << 20)
#define FRAME_CACHE_SLOTS 256

struct frame_cache {
    pthread_mutex_t lock;
    struct {
        struct batch *batch;    // NULL: free
        struct place next;      // where the frame behind it stands
    } slots[FRAME_CACHE_SLOTS]; // seq lives in slots[seq % FRAME_CACHE_SLOTS]
    uint64_t epoch;             // of the cuts: what was read before a cut must not be kept after it
    size_t hand;                // what goes next when there are too many bytes
    size_t bytes;
};

void frame_cache_init(struct frame_cache *c);
void frame_cache_free(struct frame_cache *c);
// The caller owns the reference; NULL when it is not here.
struct batch *frame_cache_get(struct frame_cache *c, uint64_t seq, struct place *ret_next);
// Takes a reference of its own, unless a cut came after `epoch`.
void frame_cache_put(struct frame_cache *c, struct batch *b, const struct place *next,
                     uint64_t epoch);
// Forgets everything, for a cut.
void frame_cache_cut(struct frame_cache *c, uint64_t epoch);
