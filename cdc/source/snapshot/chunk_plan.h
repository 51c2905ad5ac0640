// What there is to read: the published tables that are wanted, their leaves, and for each of these
// how: in ranges of its heap's pages, in ranges of its key, or as a whole.
#pragma once

#include "source/snapshot/chunk.h"

// Answers a CHUNK_PLAN order: c->plan, or c->err (returns -1). *sql is NULL then when it was lost.
int chunk_plan_make(struct connection **sql, const struct source_options *o, struct waiter *w,
                    struct chunk *c) MUST_CHECK;

// Decides kind, step and limit from the rest of the part. Pure.
void chunk_plan_part(struct chunk_part *p, int version, bool updates, bool heap, int64_t rate);
