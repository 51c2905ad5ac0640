// Rows of streamed transactions, encoded when they come: while a transaction is open our thread
// waits for the server, at its commit readers wait for us. What is kept in the spool is a change
// without its ordinal and relation, which is all that the commit adds to it.
//
// It is encoded for the version that its table has and will have, unless something is said of it
// until the commit (relations_foreseen.c). At the commit the Relation messages of the spool take
// their usual way, in the order of commits, and with them whatever follows: look-ups, new versions,
// what is told of them. A ready change asks for its table as any row does, and is taken only if
// that is now, by the Relation message and by the relation version, the one that it was encoded
// for; then its bytes are those that the row would give. If it is another (a publication was
// changed, or a schema renamed, or the snapshot found a newer version, while it was open), the
// connection is given up: the transaction comes again, and until it is over no row is encoded
// before its commit. So that happens once, and costs what a lost connection does.
//
// What cannot be foreseen, is not wanted, fails, or is large is kept as it came.
#include "source/transaction_inside.h"

#include "base/reader.h"

#include <uthash.h>

#define ROW_BYTES_MAX (64u << 10) // more would be in memory twice
#define EXPECTED_MAX  4096        // tables of all open transactions; rows of others are kept as is

struct expected {
    uint64_t key; // of the transaction's xid and the table's OID
    const struct table *table;
    UT_hash_handle hh;
};

struct head { // of a record; the rest of the change follows
    uint32_t relid;
    uint32_t bytes; // of the message, without the subxid
    uint32_t op;
};

static uint64_t key_of(const struct transaction *t, uint32_t relid)
{
    return (uint64_t)spool_xid(t->stream.segment) << 32 | relid;
}

static struct expected *find(struct transaction *t, uint32_t relid)
{
    uint64_t key = key_of(t, relid);
    struct expected *x = t->stream.last_expected;
    if (likely(x && x->key == key))
        return x;
    HASH_FIND(hh, t->stream.expected, &key, sizeof key, x);
    if (x)
        t->stream.last_expected = x;
    return x;
}

static void drop(struct transaction *t, struct expected *x)
{
    t->stream.last_expected = NULL;
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
    HASH_DEL(t->stream.expected, x);
    free(x);
}

void transaction_expect_nothing(struct transaction *t, uint32_t xid)
{
    struct expected *x, *next;
    HASH_ITER (hh, t->stream.expected, x, next) {
        if (xid == 0 || x->key >> 32 == xid)
            drop(t, x);
    }
}

void transaction_expect(struct transaction *t, struct slice body)
{
    struct reader r = reader_of(body.p, body.n);
    uint32_t relid = reader_be32(&r);
    struct expected *x = find(t, relid);
    const struct table *table = NULL;
    if (t->stream.raw_to == 0) {
        buf_clear(&t->scratch);
        buf_putc(&t->scratch, PGOUTPUT_RELATION);
        buf_put(&t->scratch, body.p, body.n);
        table = relations_foresee(t->o.relations, buf_slice(&t->scratch));
    }
    if (!table) {
        if (x)
            drop(t, x);
        return;
    }
    if (!x) {
        if (HASH_COUNT(t->stream.expected) >= EXPECTED_MAX)
            return;
        x = xcalloc(1, sizeof *x);
        x->key = key_of(t, relid);
        HASH_ADD(hh, t->stream.expected, key, sizeof x->key, x);
    }
    x->table = table;
}

bool transaction_make_ready(struct transaction *t, struct slice message, struct slice body,
                            struct slice *ret_record, uint32_t *ret_number)
{
    struct reader r = reader_of(body.p, body.n);
    const struct expected *x = find(t, reader_be32(&r));
    size_t bytes = body.n + 1;
    struct pgoutput_message m;
    struct change c;
    struct err e;
    if (!x || bytes > ROW_BYTES_MAX || (int64_t)bytes > t->o.source->row_bytes_max ||
        pgoutput_decode(&t->wire, message, &m, &e) != 0 ||
        transaction_encode(t, &m, x->table, &c, &e) != 0)
        return false;
    struct head h = {m.row.relid, (uint32_t)bytes, c.op};
    buf_clear(&t->scratch);
    buf_put(&t->scratch, &h, sizeof h);
    change_encode_rest(&t->scratch, &c);
    *ret_record = buf_slice(&t->scratch);
    *ret_number = x->table->foreseen;
    return true;
}

static int not_as_foreseen(struct transaction *t, const char *table, struct err *e)
{
    t->stream.raw_to = t->begin.lsn;
    return err_set(e, ERR_RETRY,
                   "table %s: something was said of it while transaction %X/%X was open, which is "
                   "read once more",
                   table, LSN_ARG(t->begin.lsn));
}

int transaction_ready(struct transaction *t, const struct spooled *m, struct err *e)
{
    struct head h;
    struct table *table;
    if (t->dropped)
        return 0;
    CHECK(m->message.n > sizeof h);
    memcpy(&h, m->message.p + 1, sizeof h);
    t->last_relid = h.relid;
    if (unlikely(relations_table(t->o.relations, h.relid, &table, e) != 0))
        return -1;
    if (unlikely(!relations_as_foreseen(t->o.relations, table, m->arrival)))
        return not_as_foreseen(t, relations_name(t->o.relations, h.relid), e);
    struct slice rest = {m->message.p + 1 + sizeof h, m->message.n - 1 - sizeof h};
    struct change c = {0};
    if (unlikely(*t->watched)) // the parts are asked for
        CHECK(change_decode(rest, &c) == 0);
    c.op = (enum op)h.op;
    c.relation = table->relation->id;
    c.rest = rest;
    transaction_begin_entry(t);
    transaction_count(table, c.op, h.bytes);
    if (unlikely(transaction_add(t, table, &c, e) != 0))
        return err_wrap(e, "table %s at %X/%X: ", table->relation->table, LSN_ARG(t->begin.lsn));
    return 0;
}
