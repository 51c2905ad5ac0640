#include "source/ack.h"

// Before 13 a walsender can go to sleep with WAL that it has gone through and not told us of (what
// has nothing for us). Only our next word wakes it, so that this is how long such WAL is held.
#define STATUS_INTERVAL_MAX_US INT64_C(5000000)

void ack_init(struct ack *a, lsn_t start, lsn_t confirmed, int64_t timeout_us, int64_t now)
{
    CHECK(start > 0 && confirmed > 0);
    int64_t interval = STATUS_INTERVAL_MAX_US;
    if (timeout_us > 0 && timeout_us / 4 < interval)
        interval = timeout_us / 4;
    *a = (struct ack){
        .received = start,
        .settled = start,
        .appended = start,
        .flushed = confirmed,
        // An idle start needs no progress entry at once: there is a watermark already.
        .progress_at = now - PROGRESS_INTERVAL_US,
        .sent_at = now - interval,
        .interval_us = interval,
    };
}

int ack_check(const struct ack *a, lsn_t lsn, struct err *e)
{
    if (likely(!a->far || lsn <= a->far))
        return 0;
    return err_set(e, ERR_DATA,
                   "the server speaks of WAL at %X/%X, farther than it can be: what it sends is "
                   "damaged",
                   LSN_ARG(lsn));
}

void ack_end(struct ack *a, lsn_t lsn, bool stored)
{
    a->received = u64_max(a->received, lsn);
    a->settled = u64_max(a->settled, lsn);
    if (stored)
        a->appended = u64_max(a->appended, lsn);
}

void ack_keepalive(struct ack *a, lsn_t wal_end, bool reply, bool in_txn, int64_t now)
{
    if (reply) {
        if (wal_end != a->asked || now > a->asked_at + ASKED_AGAIN_US)
            a->asked_since = now;
        a->asked = wal_end;
        a->asked_at = now;
    }
    a->received = u64_max(a->received, wal_end);
    // Inside a transaction it still carries the position before that one's commit record: safe too.
    a->settled = u64_max(a->settled, wal_end);
    a->reply |= reply;
    a->urgent |= reply && !in_txn && a->settled > a->appended;
}

bool ack_in_the_way(const struct ack *a)
{
    return a->flushed < a->asked && a->asked_at >= a->asked_since + ASKED_LONG_US;
}

static int64_t progress_due(const struct ack *a)
{
    return a->progress_at + (a->urgent ? ACK_INTERVAL_US : PROGRESS_INTERVAL_US);
}

lsn_t ack_progress(struct ack *a, bool in_txn, int64_t now)
{
    if (in_txn || a->settled <= a->appended || now < progress_due(a))
        return 0;
    a->progress_at = now;
    a->urgent = false;
    a->appended = a->settled;
    return a->settled;
}

// What may be told: nothing that the server did not send, nothing that is not safe, never back.
static lsn_t safe(const struct ack *a, lsn_t watermark, lsn_t gate)
{
    lsn_t lsn = watermark < gate ? watermark : gate;
    if (lsn > a->received)
        lsn = a->received;
    return u64_max(lsn, a->flushed);
}

static int64_t status_due(const struct ack *a, lsn_t watermark, lsn_t gate)
{
    bool soon = a->reply || safe(a, watermark, gate) > a->flushed;
    return a->sent_at +
           (soon && a->interval_us > ACK_INTERVAL_US ? ACK_INTERVAL_US : a->interval_us);
}

lsn_t ack_status(struct ack *a, lsn_t watermark, lsn_t gate, int64_t now)
{
    if (now < status_due(a, watermark, gate))
        return 0;
    lsn_t before = a->flushed;
    a->flushed = safe(a, watermark, gate);
    if (a->flushed > before)
        a->asked_since = now;
    a->sent_at = now;
    a->reply = false;
    return a->flushed;
}

int64_t ack_deadline(const struct ack *a, lsn_t watermark, lsn_t gate, bool in_txn)
{
    int64_t status = status_due(a, watermark, gate);
    if (in_txn || a->settled <= a->appended)
        return status;
    int64_t progress = progress_due(a);
    return progress < status ? progress : status;
}
