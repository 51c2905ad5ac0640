#include "source/detach.h"

void detach_init(struct detach *d, const struct detach_options *o)
{
    *d = (struct detach){.o = *o, .every_us = o->every_us};
}

enum detach_finding detach_attached(struct detach *d, lsn_t wal_lsn, bool on_demand, int64_t now,
                                    int64_t *ret_gathered)
{
    int64_t gathered = d->left_at && wal_lsn > d->left_at ? (int64_t)(wal_lsn - d->left_at) : 0;
    bool first = d->left_at == 0;
    *ret_gathered = gathered;
    d->attached_at = d->busy_at = now;
    d->scheduled = !first && !on_demand;
    d->left_at = 0;
    if (first || d->o.budget_bytes == 0)
        return DETACH_FINE;
    if (gathered <= d->o.budget_bytes) {
        d->every_us = d->every_us * 2 < d->o.every_us ? d->every_us * 2 : d->o.every_us;
        return DETACH_FINE;
    }
    // As often as keeps it within, if the server goes on writing as it did.
    double share = (double)d->o.budget_bytes / (double)gathered;
    int64_t every = (int64_t)((double)d->every_us * share);
    d->every_us = every > DETACH_EVERY_MIN_US ? every : DETACH_EVERY_MIN_US;
    return every > DETACH_EVERY_MIN_US ? DETACH_OVER : DETACH_OVER_MIN;
}

void detach_busy(struct detach *d, int64_t now)
{
    d->busy_at = now;
    d->scheduled = false;
}

void detach_cap(struct detach *d, int64_t idle_slot_timeout_us)
{
    if (idle_slot_timeout_us > 0 && d->every_us > idle_slot_timeout_us / 2)
        d->every_us = idle_slot_timeout_us / 2;
}

int64_t detach_due(const struct detach *d)
{
    if (d->o.idle_us == 0)
        return INT64_MAX;
    int64_t quiet =
        d->scheduled && DETACH_LINGER_US < d->o.idle_us ? DETACH_LINGER_US : d->o.idle_us;
    return d->busy_at + quiet;
}

void detach_left(struct detach *d, lsn_t wal_lsn, int64_t now)
{
    d->left_at = wal_lsn;
    d->attach_at = now + d->every_us;
}
