#include "source/transaction.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/wire.h"

#define KEEP_BUFFER_BYTES (1u << 20) // larger scratch buffers are given back after use

enum cut_state {
    CUT_NONE,    // nothing was cut
    CUT_PENDING, // its transaction must come next
    CUT_COMPARE, // it is here, and held back until it is known to be the same
    CUT_AGAIN,   // it was another: it is to be appended as a new attempt, uncompared
    CUT_WRITTEN, // that is being done, and not durable yet
};

struct transaction {
    struct transaction_options o;
    struct ack *ack;
    struct batch_builder *builder;
    struct pgoutput wire;
    lsn_t drop_below; // commits before this are in the journal

    bool open;     // between Begin and Commit
    bool dropped;  // the open one is in the journal already
    bool begun;    // the open one's Begin stands in the builder
    bool appended; // a part of the open one stands in the journal
    struct begin begin;
    struct buf origin;
    uint32_t changed_relid; // of the last row, for messages
    int64_t last_commit;

    struct journal_cut cut;
    enum cut_state cut_state;

    struct row_out key, before, after;
    struct buf scratch;
    struct metric *transactions, *batches, *restarts, *dropped_count;
};

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
    return t;
}

void transaction_free(struct transaction *t)
{
    if (!t)
        return;
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

int64_t transaction_last_commit(const struct transaction *t)
{
    return t->last_commit;
}

// ---- batches ----

static void append(struct transaction *t, struct batch *b)
{
    t->appended = b->flags & BATCH_PARTIAL;
    metric_add(t->batches, 1);
    journal_append(t->o.journal, b);
}

void transaction_drained(struct transaction *t)
{
    struct batch *b;
    while ((b = batch_builder_take(t->builder, false)))
        append(t, b);
}

static void append_full(struct transaction *t)
{
    while (batch_builder_full(t->builder)) {
        struct batch *b = batch_builder_take(t->builder, true);
        if (!b)
            return;
        append(t, b);
    }
}

void transaction_progress(struct transaction *t, lsn_t lsn)
{
    CHECK(!t->open);
    transaction_passed(t, lsn);
    batch_add_progress(t->builder, lsn);
    transaction_drained(t);
}

// ---- what was cut ----

void transaction_start(struct transaction *t, struct ack *ack)
{
    t->ack = ack;
    t->wire.in_segment = false;
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
    if (t->cut_state == CUT_COMPARE) {
        journal_release(t->o.journal);
        t->cut_state = CUT_PENDING;
    }
    t->open = t->appended = t->begun = false;
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

static void compare_begin(struct transaction *t)
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

static int compare_differs(struct transaction *t, struct err *e)
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
static int compare_change(struct transaction *t, struct err *e)
{
    if (likely(t->cut_state != CUT_COMPARE) ||
        batch_builder_txn_changes(t->builder) != t->cut.changes)
        return 0;
    if (batch_builder_txn_hash(t->builder) != t->cut.hash)
        return compare_differs(t, e);
    journal_release(t->o.journal);
    cut_answered(t);
    return 0;
}

// ---- changes ----

static void begin_entry(struct transaction *t)
{
    if (likely(t->begun))
        return;
    t->begin.origin = buf_slice(&t->origin);
    batch_add_begin(t->builder, &t->begin);
    t->begun = true;
}

static int add_change(struct transaction *t, struct table *table, const struct change *c,
                      struct err *e)
{
    if (table && unlikely(!table->announced)) {
        batch_add_relation(t->builder, table->relation);
        table->announced = true;
    }
    batch_add_change(t->builder, c);
    if (unlikely(compare_change(t, e) != 0))
        return -1;
    if (unlikely(batch_builder_full(t->builder)))
        append_full(t);
    return 0;
}

static struct slice present(const struct buf *b)
{
    static const uint8_t empty;
    return (struct slice){b->p ? b->p : &empty, b->n};
}

static int encode(struct row_out *out, const struct table *table, const struct tuple *tuple,
                  const struct tuple *old, enum row_part part, struct err *e)
{
    row_out_clear(out);
    return row_encode(out, table->map, tuple, old, part, e);
}

static void give_back(struct transaction *t)
{
    row_out_fini(&t->key);
    row_out_fini(&t->before);
    row_out_fini(&t->after);
    t->key = t->before = t->after = (struct row_out){0};
}

static void count(struct table *table, enum op op, size_t bytes)
{
    if (unlikely(!table->bytes[op]))
        relations_find_metrics(table);
    metric_add(table->changes[op], 1);
    metric_add(table->bytes[op], (int64_t)bytes);
}

static int row_change(struct transaction *t, const struct pgoutput_message *m, struct table *table,
                      size_t bytes, char **owned, struct err *e)
{
    const struct pgoutput_row *row = &m->row;
    struct change c = {.op = m->kind == PGOUTPUT_INSERT   ? OP_INSERT
                             : m->kind == PGOUTPUT_UPDATE ? OP_UPDATE
                                                          : OP_DELETE,
                       .relation = table->relation->id};
    const struct tuple *old = row->old_kind ? &row->old : NULL;
    const struct tuple *full = row->old_kind == PGOUTPUT_OLD_FULL ? &row->old : NULL;
    if (table->has_key) { // the row's identity before the change
        if (encode(&t->key, table, old ? old : &row->new, NULL, ROW_KEY, e) != 0)
            return -1;
        c.key = present(&t->key.row);
        c.exact_key = buf_slice(&t->key.exact);
    }
    if (full) {
        if (encode(&t->before, table, full, NULL, ROW_BEFORE, e) != 0)
            return -1;
        c.before = present(&t->before.row);
        c.exact_before = buf_slice(&t->before.exact);
    }
    if (c.op != OP_DELETE) {
        if (encode(&t->after, table, &row->new, full, ROW_AFTER, e) != 0)
            return -1;
        c.after = present(&t->after.row);
        c.exact = buf_slice(&t->after.exact);
        c.unchanged = buf_slice(&t->after.unchanged);
    }
    count(table, c.op, bytes);
    bool huge = c.key.n + c.before.n + c.after.n > KEEP_BUFFER_BYTES;
    if (unlikely(huge) && owned) {
        PQfreemem(*owned);
        *owned = NULL;
    }
    int r = add_change(t, table, &c, e);
    if (unlikely(huge))
        give_back(t);
    return r;
}

static int on_row(struct transaction *t, const struct pgoutput_message *m, size_t bytes,
                  char **owned, struct err *e)
{
    struct table *table;
    if (unlikely(relations_table(t->o.relations, m->row.relid, &table, e) != 0))
        return -1;
    begin_entry(t);
    if (!table->kept) {
        batch_skip_change(t->builder);
        return 0;
    }
    if (unlikely((int64_t)bytes > t->o.source->row_bytes_max))
        return err_set(e, ERR_DATA,
                       "table %s: a row of %zu bytes at %X/%X is larger than row_bytes_max (%lld); "
                       "remedy: raise it, or exclude the large column",
                       table->relation->table, bytes, LSN_ARG(t->begin.lsn),
                       (long long)t->o.source->row_bytes_max);
    if (unlikely(row_change(t, m, table, bytes, owned, e) != 0))
        return err_wrap(e, "table %s at %X/%X: ", table->relation->table, LSN_ARG(t->begin.lsn));
    return 0;
}

static int on_truncate(struct transaction *t, const struct pgoutput_truncate *m, size_t bytes,
                       struct err *e)
{
    buf_clear(&t->scratch);
    if (m->cascade)
        wire_uint(&t->scratch, 1, 1);
    if (m->restart_identity)
        wire_uint(&t->scratch, 2, 1);
    for (uint32_t i = 0; i < m->n; i++) {
        const char *name = relations_name(t->o.relations, pgoutput_truncate_relid(m, i));
        if (name)
            wire_string(&t->scratch, 3, name);
    }
    begin_entry(t);
    for (uint32_t i = 0; i < m->n; i++) {
        struct table *table;
        if (relations_table(t->o.relations, pgoutput_truncate_relid(m, i), &table, e) != 0)
            return -1;
        if (!table->kept) {
            batch_skip_change(t->builder);
            continue;
        }
        struct change c = {.op = OP_TRUNCATE, .relation = table->relation->id};
        c.truncate = present(&t->scratch);
        count(table, OP_TRUNCATE, bytes / m->n); // the message is of all of them
        if (add_change(t, table, &c, e) != 0)
            return -1;
    }
    return 0;
}

static int add_message(struct transaction *t, const struct pgoutput_message *m, struct err *e)
{
    buf_clear(&t->scratch);
    wire_string(&t->scratch, 1, m->message.prefix);
    wire_bytes(&t->scratch, 2, m->message.content.p, m->message.content.n);
    if (m->message.transactional)
        wire_uint(&t->scratch, 3, 1);
    struct change c = {.op = OP_MESSAGE};
    c.message = buf_slice(&t->scratch);
    begin_entry(t);
    return add_change(t, NULL, &c, e);
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
    append_full(t);
}

static int on_begin(struct transaction *t, const struct pgoutput_message *m, struct err *e)
{
    if (t->open)
        return err_set(e, ERR_DATA, "transaction %X/%X begins inside of %X/%X", LSN_ARG(m->txn.lsn),
                       LSN_ARG(t->begin.lsn));
    t->open = true;
    t->begun = t->appended = false;
    t->dropped = m->txn.lsn < t->drop_below;
    t->begin = (struct begin){
        .lsn = m->txn.lsn, .commit_time_us = m->txn.time + PG_EPOCH_US, .xid = m->txn.xid};
    buf_clear(&t->origin);
    if (t->dropped)
        return 0;
    transaction_passed(t, m->txn.lsn);
    compare_begin(t);
    return 0;
}

static int on_commit(struct transaction *t, const struct pgoutput_message *m, struct err *e)
{
    if (!t->open || m->txn.lsn != t->begin.lsn)
        return err_set(e, ERR_DATA, "commit of transaction %X/%X, which is not open",
                       LSN_ARG(m->txn.lsn));
    if (t->dropped) {
        t->open = false;
        metric_add(t->dropped_count, 1);
        // It counts as received, but is settled already.
        ack_end(t->ack, m->txn.end_lsn, true);
        return 0;
    }
    if (unlikely(t->cut_state == CUT_COMPARE)) // it ended before the change where it was cut
        return compare_differs(t, e);
    ended(t, m->txn.end_lsn);
    return 0;
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
    transaction_passed(t, lsn - 1);
    t->begin = (struct begin){.lsn = lsn - 1, .commit_time_us = send_time + PG_EPOCH_US};
    buf_clear(&t->origin);
    t->open = true;
    if (add_message(t, m, e) != 0)
        return -1;
    ended(t, lsn);
    return 0;
}

static int on_message(struct transaction *t, const struct pgoutput_message *m, int64_t send_time,
                      struct err *e)
{
    if (m->message.lsn == 0)
        return err_set(e, ERR_DATA, "logical message without a position");
    if (t->open && m->message.transactional)
        return t->dropped ? 0 : add_message(t, m, e);
    if (t->open || m->message.transactional)
        return err_set(e, ERR_DATA, "logical message at %X/%X in the wrong place",
                       LSN_ARG(m->message.lsn));
    return on_single_message(t, m, send_time, e);
}

static int outside(const struct pgoutput_message *m, struct err *e)
{
    return err_set(e, ERR_DATA, "pgoutput message '%c' outside of a transaction", m->kind);
}

int transaction_message(struct transaction *t, struct slice payload, int64_t send_time,
                        char **owned, struct err *e)
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
        return t->dropped ? 0 : on_row(t, &m, payload.n, owned, e);
    case PGOUTPUT_TRUNCATE:
        if (!t->open)
            return outside(&m, e);
        return t->dropped ? 0 : on_truncate(t, &m.truncate, payload.n, e);
    case PGOUTPUT_BEGIN:
        return on_begin(t, &m, e);
    case PGOUTPUT_COMMIT:
        return on_commit(t, &m, e);
    case PGOUTPUT_MESSAGE:
        return on_message(t, &m, send_time, e);
    case PGOUTPUT_RELATION:
        relations_see(t->o.relations, &m.relation, payload);
        return 0;
    case PGOUTPUT_TYPE:
        relations_see_type(t->o.relations, m.type.oid, m.type.schema, m.type.name);
        return 0;
    case PGOUTPUT_ORIGIN:
        if (!t->open || t->begun)
            return outside(&m, e);
        buf_clear(&t->origin);
        buf_puts(&t->origin, m.origin.name);
        t->begin.origin_lsn = m.origin.lsn;
        return 0;
    case PGOUTPUT_STREAM_ABORT:
        return 0; // 18 sends it unasked, of a transaction that we never heard of
    default:
        return err_set(e, ERR_DATA,
                       "pgoutput message '%c' (streaming or two-phase), which was not asked for; "
                       "remedy: use a slot of its own for rowcast",
                       m.kind);
    }
}
