#include "source/transaction_inside.h"

#include "base/log.h"

void transaction_start(struct transaction *t, struct ack *ack)
{
    t->ack = ack;
    t->wire.in_segment = false;
    t->newest = t->newest_end = 0;
    t->drop_below = journal_appended(t->o.journal);
    if (t->cut_state == CUT_AGAIN)
        return;
    t->cut = journal_pending_cut(t->o.journal);
    t->cut_state = t->cut.lsn == 0              ? CUT_NONE
                   : t->cut.lsn < t->drop_below ? CUT_WRITTEN
                                                : CUT_PENDING;
}

void transaction_lost(struct transaction *t)
{
    transaction_drained(t);
    batch_builder_reset(t->builder);
    if (t->open && t->appended) {
        struct journal_cut cut = journal_cut(t->o.journal);
        log_debug("cut an unfinished transaction off the journal", "lsn=%X/%X changes=%llu",
                  LSN_ARG(cut.lsn), (unsigned long long)cut.changes);
    }
    journal_untell(t->o.journal); // before a gap is put behind what it has
    if (t->cut_state == CUT_COMPARE) {
        journal_release(t->o.journal);
        t->cut_state = CUT_PENDING;
    }
    t->open = t->appended = t->begun = false;
    transaction_stream_lost(t);
    relations_clear(t->o.relations);
}

static void cut_answered(struct transaction *t)
{
    journal_cut_done(t->o.journal);
    t->cut_state = CUT_NONE;
    t->cut = (struct journal_cut){0};
}

// The stream is past what was cut: it does not come any more (or is empty now).
void transaction_passed(struct transaction *t, lsn_t lsn)
{
    bool waiting = t->cut_state == CUT_PENDING || t->cut_state == CUT_AGAIN;
    if (likely(!waiting) || lsn <= t->cut.lsn)
        return;
    metric_add(t->restarts, 1);
    log_warn("a transaction that was being read when the connection was lost does not come again; "
             "readers inside it are told to forget it",
             "lsn=%X/%X", LSN_ARG(t->cut.lsn));
    cut_answered(t);
}

// A new attempt is answered when it is durable, or a crash could bring the old number back.
static void answer_written(struct transaction *t)
{
    if (unlikely(t->cut_state == CUT_WRITTEN) && journal_watermark(t->o.journal) > t->cut.lsn)
        cut_answered(t);
}

void transaction_compare_begin(struct transaction *t)
{
    answer_written(t);
    if (likely(t->cut_state == CUT_NONE) || t->begin.lsn != t->cut.lsn)
        return;
    t->begin.attempt = t->cut.attempt;
    if (t->cut_state == CUT_AGAIN) {
        t->begin.attempt = t->cut.attempt + 1;
        t->cut_state = CUT_WRITTEN;
        return;
    }
    transaction_drained(t); // those before it are not held
    journal_hold(t->o.journal);
    t->cut_state = CUT_COMPARE;
}

int transaction_compare_differs(struct transaction *t, struct err *e)
{
    metric_add(t->restarts, 1);
    log_warn("a transaction came again with other content, as it may after ALTER PUBLICATION; "
             "reading it once more, readers inside it start it again",
             "lsn=%X/%X changes=%llu", LSN_ARG(t->cut.lsn), (unsigned long long)t->cut.changes);
    t->cut_state = CUT_AGAIN;
    transaction_drained(t);
    batch_builder_reset(t->builder);
    if (t->appended)
        (void)journal_cut(t->o.journal); // nobody has seen this part
    journal_release(t->o.journal);
    t->open = t->appended = false;
    return err_set(e, ERR_RETRY, "transaction %X/%X came again with other content",
                   LSN_ARG(t->cut.lsn));
}

// After each change: the same when its hash is the same at the change where it was cut.
int transaction_compare_change(struct transaction *t, struct err *e)
{
    if (likely(t->cut_state != CUT_COMPARE) ||
        batch_builder_txn_changes(t->builder) != t->cut.changes)
        return 0;
    if (batch_builder_txn_hash(t->builder) != t->cut.hash)
        return transaction_compare_differs(t, e);
    journal_release(t->o.journal);
    cut_answered(t);
    return 0;
}
