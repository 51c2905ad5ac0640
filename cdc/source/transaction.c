#include "source/transaction_inside.h"

#include "base/clock.h"

struct transaction *transaction_new(const struct transaction_options *o)
{
    struct transaction *t = xcalloc(1, sizeof *t);
    t->o = *o;
    t->builder = batch_builder_new(o->source->batch_bytes);
    t->transactions =
        metric_new(METRIC_COUNTER, "rowcast_transactions_total",
                   "Transactions read from the slot that had a change of ours.", "", 1);
    t->batches = metric_new(METRIC_COUNTER, "rowcast_batches_total",
                            "Batches appended to the journal.", "", 1);
    t->restarts = metric_new(METRIC_COUNTER, "rowcast_restarts_total",
                             "Transactions that were decoded again with other content.", "", 1);
    t->dropped_count =
        metric_new(METRIC_COUNTER, "rowcast_transactions_repeated_total",
                   "Transactions that the server sent again and that were dropped.", "", 1);
    static const bool no_watch;
    static const lsn_t never = UINT64_MAX;
    t->watched = o->snapshot ? snapshot_watching(o->snapshot) : &no_watch;
    t->snapshot_due = o->snapshot ? snapshot_due(o->snapshot) : &never;
    transaction_stream_init(t);
    return t;
}

void transaction_free(struct transaction *t)
{
    if (!t)
        return;
    transaction_stream_fini(t);
    batch_builder_free(t->builder);
    buf_free(&t->origin);
    buf_free(&t->scratch);
    row_out_fini(&t->key);
    row_out_fini(&t->before);
    row_out_fini(&t->after);
    free(t);
}

bool transaction_open(const struct transaction *t)
{
    return t->open;
}

lsn_t transaction_in_work(struct transaction *t, const char **ret_table)
{
    *ret_table = t->open && t->last_relid ? relations_name(t->o.relations, t->last_relid)
                 : t->stream.segment      ? buf_cstr(&t->stream.table)
                                          : NULL;
    return t->open ? t->begin.lsn : 0;
}

int64_t transaction_last_commit(const struct transaction *t)
{
    return t->last_commit;
}

// ---- batches ----

void transaction_append(struct transaction *t, struct batch *b)
{
    t->appended = b->flags & BATCH_PARTIAL;
    metric_add(t->batches, 1);
    journal_append(t->o.journal, b);
}

void transaction_drained(struct transaction *t)
{
    struct batch *b;
    while ((b = batch_builder_take(t->builder, false)))
        transaction_append(t, b);
}

void transaction_append_full(struct transaction *t)
{
    while (batch_builder_full(t->builder)) {
        struct batch *b = batch_builder_take(t->builder, true);
        if (!b)
            return;
        transaction_append(t, b);
    }
}

void transaction_snapshot(struct transaction *t, lsn_t passed)
{
    if (t->open || !t->o.snapshot || !snapshot_busy(t->o.snapshot))
        return;
    transaction_drained(t);
    snapshot_step(t->o.snapshot, passed);
}

void transaction_progress(struct transaction *t, lsn_t lsn)
{
    CHECK(!t->open);
    t->newest_end = u64_max(t->newest_end, lsn); // nothing may begin before it any more
    transaction_passed(t, lsn);
    batch_add_progress(t->builder, lsn);
    transaction_drained(t);
}

// ---- transactions ----

static void ended(struct transaction *t, lsn_t end_lsn)
{
    bool stored = t->begun && batch_add_end(t->builder, end_lsn);
    if (stored)
        metric_add(t->transactions, 1);
    t->open = t->begun = false;
    t->last_commit = t->begin.commit_time_us;
    ack_end(t->ack, end_lsn, stored);
    // What it appended in parts ends with a batch that holds its End, whatever the socket has.
    transaction_append_full(t);
    if (unlikely(end_lsn >= *t->snapshot_due)) // in a flood, there may be no better moment
        transaction_snapshot(t, end_lsn);
}

// The order that everything behind us relies on is not taken on trust.
static int check_order(struct transaction *t, lsn_t lsn, struct err *e)
{
    if (unlikely(lsn <= t->newest || lsn < t->newest_end))
        return err_set(e, ERR_DATA, "transaction %X/%X came behind %X/%X, against the order of WAL",
                       LSN_ARG(lsn), LSN_ARG(t->newest));
    t->newest = lsn;
    return ack_check(t->ack, lsn, e);
}

int transaction_begin(struct transaction *t, const struct pgoutput_message *m, struct err *e)
{
    if (t->open)
        return err_set(e, ERR_DATA, "transaction %X/%X begins inside of %X/%X", LSN_ARG(m->txn.lsn),
                       LSN_ARG(t->begin.lsn));
    if (check_order(t, m->txn.lsn, e) != 0)
        return -1;
    t->open = true;
    t->begun = t->appended = false;
    if (t->o.snapshot)
        snapshot_transaction(t->o.snapshot, m->txn.xid);
    t->last_relid = 0;
    t->dropped = m->txn.lsn < t->drop_below;
    t->begin = (struct begin){
        .lsn = m->txn.lsn, .commit_time_us = clock_from_pg(m->txn.time), .xid = m->txn.xid};
    buf_clear(&t->origin);
    if (t->dropped)
        return 0;
    relations_begin(t->o.relations, m->txn.xid);
    transaction_passed(t, m->txn.lsn);
    transaction_compare_begin(t);
    return 0;
}

int transaction_end(struct transaction *t, lsn_t end_lsn, struct err *e)
{
    if (unlikely(ack_check(t->ack, end_lsn, e) != 0))
        return -1;
    t->newest_end = end_lsn;
    if (t->dropped) {
        t->open = false;
        metric_add(t->dropped_count, 1);
        // It counts as received, but is settled already.
        ack_end(t->ack, end_lsn, true);
        return 0;
    }
    if (unlikely(t->cut_state == CUT_COMPARE)) // it ended before the change where it was cut
        return transaction_compare_differs(t, e);
    ended(t, end_lsn);
    return 0;
}

static int on_commit(struct transaction *t, const struct pgoutput_message *m, struct err *e)
{
    if (!t->open || m->txn.lsn != t->begin.lsn)
        return err_set(e, ERR_DATA, "commit of transaction %X/%X, which is not open",
                       LSN_ARG(m->txn.lsn));
    return transaction_end(t, m->txn.end_lsn, e);
}

// Outside of any transaction: one of its own, which ends where its record does.
static int on_single_message(struct transaction *t, const struct pgoutput_message *m,
                             int64_t send_time, struct err *e)
{
    lsn_t lsn = m->message.lsn;
    if (lsn <= t->drop_below) {
        ack_end(t->ack, lsn, true);
        return 0;
    }
    if (check_order(t, lsn - 1, e) != 0)
        return -1;
    transaction_passed(t, lsn - 1);
    t->begin = (struct begin){.lsn = lsn - 1, .commit_time_us = clock_from_pg(send_time)};
    buf_clear(&t->origin);
    t->open = true;
    if (transaction_logical_message(t, m, e) != 0)
        return -1;
    t->newest_end = lsn;
    ended(t, lsn);
    return 0;
}

static int on_message(struct transaction *t, const struct pgoutput_message *m, int64_t send_time,
                      struct err *e)
{
    if (m->message.lsn == 0)
        return err_set(e, ERR_DATA, "logical message without a position");
    if (t->open && m->message.transactional)
        return t->dropped ? 0 : transaction_logical_message(t, m, e);
    if (t->open || m->message.transactional)
        return err_set(e, ERR_DATA, "logical message at %X/%X in the wrong place",
                       LSN_ARG(m->message.lsn));
    return on_single_message(t, m, send_time, e);
}

static int outside(const struct pgoutput_message *m, struct err *e)
{
    return err_set(e, ERR_DATA, "pgoutput message '%c' outside of a transaction", m->kind);
}

int transaction_decode(struct transaction *t, struct slice payload, uint32_t arrival,
                       int64_t send_time, char **owned, struct err *e)
{
    struct pgoutput_message m;
    if (unlikely(pgoutput_decode(&t->wire, payload, &m, e) != 0))
        return -1;
    switch (m.kind) {
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        if (unlikely(!t->open))
            return outside(&m, e);
        return t->dropped ? 0 : transaction_row(t, &m, payload.n, owned, e);
    case PGOUTPUT_TRUNCATE:
        if (!t->open)
            return outside(&m, e);
        return t->dropped ? 0 : transaction_truncate(t, &m.truncate, payload.n, e);
    case PGOUTPUT_BEGIN:
        return transaction_begin(t, &m, e);
    case PGOUTPUT_COMMIT:
        return on_commit(t, &m, e);
    case PGOUTPUT_MESSAGE:
        return on_message(t, &m, send_time, e);
    case PGOUTPUT_RELATION:
        t->last_relid = m.relation.relid;
        relations_see(t->o.relations, &m.relation, payload, arrival);
        return 0;
    case PGOUTPUT_TYPE:
        relations_see_type(t->o.relations, m.type.oid, m.type.schema, m.type.name, arrival);
        return 0;
    case PGOUTPUT_ORIGIN:
        if (!t->open || t->begun)
            return outside(&m, e);
        buf_clear(&t->origin);
        buf_puts(&t->origin, m.origin.name);
        t->begin.origin_lsn = m.origin.lsn;
        return 0;
    case PGOUTPUT_STREAM_ABORT:
        return transaction_stream_abort(t, &m, e);
    case PGOUTPUT_STREAM_START:
        return transaction_stream_start(t, &m, e);
    case PGOUTPUT_STREAM_COMMIT:
        return transaction_stream_commit(t, &m, e);
    case PGOUTPUT_STREAM_STOP: // of no part
        return outside(&m, e);
    default:
        return err_set(e, ERR_DATA,
                       "pgoutput message '%c' (of two-phase commit), which was not asked for; "
                       "remedy: use a slot of its own for rowcast",
                       m.kind);
    }
}

int transaction_message(struct transaction *t, struct slice payload, int64_t send_time,
                        char **owned, struct err *e)
{
    CHECK(!t->stream.replay);
    if (t->stream.segment)
        return transaction_segment(t, payload, e);
    bool describes = payload.n && (*payload.p == PGOUTPUT_RELATION || *payload.p == PGOUTPUT_TYPE);
    return transaction_decode(t, payload, describes ? ++t->arrivals : 0, send_time, owned, e);
}
