// Rows of a table without a key, counted: how often a row of these bytes has to be added to what a
// snapshot reads, or (below 0) left out of it.
#pragma once

#include "proto/batch.h"

#define BAG_BYTES_MAX (16u << 20) // beyond it the snapshot is taken again

struct bag;

struct bag *bag_new(void);
void bag_free(struct bag *b); // NULL is fine
// exact: whole Exact fields, of whatever part of a change.
void bag_count(struct bag *b, struct slice row, struct slice exact, int by);
// A row was read. False: it is one to be left out, which is done now.
bool bag_take(struct bag *b, struct slice row, struct slice exact);
// Every row that is to be added, as often as it is; they count as added then.
void bag_added(struct bag *b, void (*each)(void *arg, struct slice row, struct slice exact),
               void *arg);
size_t bag_bytes(const struct bag *b);
bool bag_empty(const struct bag *b); // nothing is left to be added or left out
