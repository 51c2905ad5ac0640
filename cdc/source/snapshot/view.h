// What a repeatable-read query saw, by transaction ids: pg_current_snapshot() of 13 and newer,
// txid_current_snapshot() before. Never by LSN: a transaction can stand in WAL and still not be
// visible (it waits for a synchronous standby, or is about to leave the list of running ones).
#pragma once

#include "base/base.h"

struct view {
    uint64_t xmin, xmax; // with the epoch: below xmin all are over, from xmax on none had begun
    uint64_t *xip;       // in between: those that ran, ascending; owned
    size_t xip_n;
};

void view_copy(struct view *to, const struct view *from); // `to` is overwritten, not freed
void view_fini(struct view *v);
// The 64-bit id of a transaction of the stream, which says 32 bits of it: the one nearest to the
// view, for ids of running and recent transactions lie less than 2^31 apart.
uint64_t view_widen(const struct view *v, uint32_t xid);
// Whether the view has the effects of this committed transaction.
bool view_sees(const struct view *v, uint32_t xid);
// Whether it was running then: it had begun, and was not over.
bool view_ran(const struct view *v, uint64_t xid);
