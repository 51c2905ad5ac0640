// What the stream did to one table lately, transaction by transaction: a chunk's query takes time,
// and what was journaled before it came back, also before it was ordered, may be missing in it.
// A transaction can be forgotten when a view sees it that is older than every chunk under way.
#pragma once

#include "proto/batch.h"
#include "source/snapshot/view.h"

#define CHANGE_LOG_BYTES_MAX                                                                       \
    (8u << 20)                           // beyond it only xids are kept: chunks that miss one of
                                         // those are read again
#define CHANGE_LOG_LOST_MAX (256u << 10) // xids; beyond it all up to the highest count as missed

struct change_log;

struct change_log *change_log_new(void);
void change_log_free(struct change_log *l);
// Everything that a transaction does to the table, in stream order.
void change_log_add(struct change_log *l, uint32_t xid, const struct change *c);
// A transaction whose changes are not at hand.
void change_log_add_lost(struct change_log *l, uint32_t xid);
// The changes are worth nothing any more (the connection was lost): only the xids stay.
void change_log_lose(struct change_log *l);
// Forgets transactions that `v` sees.
void change_log_trim(struct change_log *l, const struct view *v);
// Whether a transaction whose changes are lost is missing in `v`.
bool change_log_misses(const struct change_log *l, const struct view *v);
// Calls each change that `v` does not see, in stream order, until one gives -1.
int change_log_replay(const struct change_log *l, const struct view *v,
                      int (*each)(void *arg, const struct change *c), void *arg) MUST_CHECK;
size_t change_log_bytes(const struct change_log *l);
