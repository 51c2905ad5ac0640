#include "source/transaction_inside.h"

#include "proto/wire.h"
#include "source/announce.h"

#define KEEP_BUFFER_BYTES (1u << 20) // larger scratch buffers are given back after use

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
    if (unlikely(*t->watched) && !snapshot_change(t->o.snapshot, t->begin.xid, c)) {
        batch_skip_change(t->builder); // the rows that were read have it
        return 0;
    }
    if (table && unlikely(!table->announced)) {
        announce(t->o.journal, t->builder, table->relation);
        table->announced = true;
    }
    batch_add_change(t->builder, c);
    if (unlikely(transaction_compare_change(t, e) != 0))
        return -1;
    if (unlikely(batch_builder_full(t->builder)))
        transaction_append_full(t);
    return 0;
}

static struct slice present(const struct buf *b)
{
    static const uint8_t empty;
    return (struct slice){b->p ? b->p : &empty, b->n};
}

static int encode(struct transaction *t, struct row_out *out, const struct table *table,
                  const struct tuple *tuple, const struct tuple *old, enum row_part part,
                  struct err *e)
{
    row_out_clear(out);
    if (likely(row_encode(out, table->map, tuple, old, part, e) == 0))
        return 0;
    if (e->class != ERR_RETRY)
        return -1;
    relations_give_up_binary(t->o.relations); // read again, as text it is what it would have been
    return err_wrap(e, "asking for values as text from now on: ");
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
        table_find_metrics(table);
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
        if (encode(t, &t->key, table, old ? old : &row->new, NULL, ROW_KEY, e) != 0)
            return -1;
        c.key = present(&t->key.row);
        c.exact_key = buf_slice(&t->key.exact);
    }
    if (full) {
        if (encode(t, &t->before, table, full, NULL, ROW_BEFORE, e) != 0)
            return -1;
        c.before = present(&t->before.row);
        c.exact_before = buf_slice(&t->before.exact);
    }
    if (c.op != OP_DELETE) {
        if (encode(t, &t->after, table, &row->new, full, ROW_AFTER, e) != 0)
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

int transaction_row(struct transaction *t, const struct pgoutput_message *m, size_t bytes,
                    char **owned, struct err *e)
{
    struct table *table;
    t->last_relid = m->row.relid;
    if (unlikely(relations_table(t->o.relations, m->row.relid, &table, e) != 0))
        return -1;
    begin_entry(t);
    if (!table->kept) {
        batch_skip_change(t->builder);
        return 0;
    }
    if (unlikely((int64_t)bytes > t->o.source->row_bytes_max))
        return err_set(e, ERR_DATA,
                       "table %s: a row of %zu bytes at %X/%X is larger than row-max (%lld)",
                       table->relation->table, bytes, LSN_ARG(t->begin.lsn),
                       (long long)t->o.source->row_bytes_max);
    if (unlikely(row_change(t, m, table, bytes, owned, e) != 0))
        return err_wrap(e, "table %s at %X/%X: ", table->relation->table, LSN_ARG(t->begin.lsn));
    return 0;
}

// Each event has all the names: one that stands there again and again would make very many of a
// small message.
static int check_distinct(const struct pgoutput_truncate *m, struct err *e)
{
    AUTO_FREE uint32_t *relids = xmalloc(((size_t)m->n + 1) * sizeof *relids);
    for (uint32_t i = 0; i < m->n; i++)
        relids[i] = pgoutput_truncate_relid(m, i);
    qsort(relids, m->n, sizeof *relids, u32_cmp);
    for (uint32_t i = 1; i < m->n; i++) {
        if (relids[i] == relids[i - 1])
            return err_set(e, ERR_DATA, "a truncate that names table OID %u twice", relids[i]);
    }
    return 0;
}

int transaction_truncate(struct transaction *t, const struct pgoutput_truncate *m, size_t bytes,
                         struct err *e)
{
    if (m->n > 1 && check_distinct(m, e) != 0)
        return -1;
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

int transaction_logical_message(struct transaction *t, const struct pgoutput_message *m,
                                struct err *e)
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
