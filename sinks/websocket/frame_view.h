// Inside of frame.h: batches with the frames that were made of them. For frame.c and frame_view.c.
#pragma once

#include "sinks/websocket/frame.h"

struct frame_view {
    struct frame_view *older, *newer;
    struct batch *b;
    uint32_t ops; // bits of enum op
    bool marks;   // a gap, for everybody; or a snapshot's or a schema change: looked at each time
    lsn_t passed; // as in struct frame
    uint32_t relation_count; // used by its changes, each once
    uint32_t *relations;
    struct frame *frames;
};

struct frame *frame_new(const struct frame_key *key);

// A small set of relation versions.
bool ids_have(const uint32_t *ids, uint32_t n, uint32_t id);
void ids_add(uint32_t **ids, uint32_t *n, uint32_t id);

// Where a batch's END, PROGRESS or GAP brings its reader; 0 for other entries.
lsn_t entry_passed(const struct batch *b, const struct entry *e);

// The view of a batch: kept for a live one, else for the caller to free (*ret_mine).
struct frame_view *view_get(struct frame_maker *fm, struct batch *b, bool *ret_mine);
void view_free(struct frame_view *v);
// Keeps a frame for others.
void view_keep(struct frame_maker *fm, struct frame_view *v, struct frame *f);
