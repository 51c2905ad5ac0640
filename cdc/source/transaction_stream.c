// Streamed transactions: what the server sends of them while they are open goes into a spool; at
// Stream Commit it is replayed as if it had come whole, in the order of commits as all others.
//
// The replay is done in portions, between which the caller does what else is due; nothing more is
// taken from the socket meanwhile. A transaction that the journal has already is replayed too, for
// what it says of tables: the server does not say that again.
#include "source/transaction_inside.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/reader.h"

#define OFF_US (INT64_C(3600) * 1000000) // streaming is not asked for again before

void transaction_stream_init(struct transaction *t)
{
    const struct source_options *o = t->o.source;
    t->stream.dir = xasprintf("%s/spool", o->spool_base ? o->spool_base : ".");
    t->stream.spools = spools_new(&(struct spools_options){
        .dir = t->stream.dir, .memory_bytes = o->spool_memory, .disk_bytes = o->spool_bytes});
    t->stream.count =
        metric_new(METRIC_COUNTER, "rowcast_streamed_transactions_total",
                   "Transactions that the server began to send before they were committed.", "", 1);
    static const char aborts[] = "rowcast_stream_aborts_total";
    static const char help[] = "What was sent and then aborted: transactions, subtransactions.";
    t->stream.aborts = metric_new(METRIC_COUNTER, aborts, help, "what=\"transaction\"", 1);
    t->stream.subaborts = metric_new(METRIC_COUNTER, aborts, help, "what=\"subtransaction\"", 1);
    t->stream.fallbacks =
        metric_new(METRIC_COUNTER, "rowcast_streaming_fallbacks_total",
                   "Connections given up because a spool had no room, or the server "
                   "could not decode what was open.",
                   "", 1);
}

void transaction_stream_fini(struct transaction *t)
{
    spools_free(t->stream.spools);
    buf_free(&t->stream.table);
    free(t->stream.dir);
}

void transaction_stream_lost(struct transaction *t)
{
    t->stream.segment = t->stream.replay = NULL;
    spools_clear(t->stream.spools);
}

bool transaction_streams(const struct transaction *t)
{
    return t->o.source->streaming && clock_mono_us() >= t->stream.again_at;
}

bool transaction_in_part(const struct transaction *t)
{
    return t->stream.segment;
}

bool transaction_replaying(const struct transaction *t)
{
    return t->stream.replay;
}

void transaction_stop_streaming(struct transaction *t)
{
    t->stream.again_at = clock_mono_us() + OFF_US;
    metric_add(t->stream.fallbacks, 1);
}

// A spool failed, with the cause in *e.
static int fall_back(struct transaction *t, uint32_t xid, struct err *e)
{
    transaction_stop_streaming(t);
    struct err cause = *e;
    return err_set(e, ERR_RETRY,
                   "spool of the open transaction %u: %.500s; going on without streaming for an "
                   "hour, in which PostgreSQL keeps large transactions on its own disk",
                   xid, cause.text);
}

// ---- while it is open ----

int transaction_stream_start(struct transaction *t, const struct pgoutput_message *m, struct err *e)
{
    uint32_t xid = m->txn.xid;
    struct spool *s = spools_find(t->stream.spools, xid);
    if (t->open)
        return err_set(e, ERR_DATA, "a part of transaction %u inside of %X/%X", xid,
                       LSN_ARG(t->begin.lsn));
    if (s && m->txn.first_segment) { // another one of this number
        spools_close(t->stream.spools, s);
        s = NULL;
    }
    if (!s && !m->txn.first_segment)
        return err_set(e, ERR_DATA, "transaction %u goes on, but its first part did not come", xid);
    if (!s && spools_count(t->stream.spools) >= SPOOLS_MAX)
        return err_set(e, ERR_DATA, "transaction %u begins while %u others are open: too many", xid,
                       SPOOLS_MAX);
    if (!s)
        metric_add(t->stream.count, 1);
    t->stream.segment = s ? s : spools_open(t->stream.spools, xid);
    if (!s) // the server says a table once a transaction
        buf_clear(&t->stream.table);
    return 0;
}

// Should the server fail at what comes next, it does not say in which table that was.
static void note_table(struct transaction *t, struct reader relation)
{
    reader_be32(&relation);
    const char *schema = reader_cstr(&relation), *name = reader_cstr(&relation);
    buf_clear(&t->stream.table);
    if (!relation.failed)
        table_quote(&t->stream.table, *schema ? schema : "pg_catalog", name);
}

int transaction_segment(struct transaction *t, struct slice payload, struct err *e)
{
    struct spool *s = t->stream.segment;
    struct reader r = reader_of(payload.p, payload.n);
    uint8_t kind = reader_u8(&r);
    uint32_t subxid = spool_xid(s), arrival = 0;
    switch (kind) {
    case PGOUTPUT_STREAM_STOP:
    case PGOUTPUT_ORIGIN:
        break;
    case PGOUTPUT_RELATION:
    case PGOUTPUT_TYPE:
        arrival = ++t->arrivals;
        subxid = reader_be32(&r);
        if (kind == PGOUTPUT_RELATION)
            note_table(t, r);
        break;
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
    case PGOUTPUT_TRUNCATE:
        subxid = reader_be32(&r);
        break;
    case PGOUTPUT_MESSAGE: // says the top-level one, whichever it is of
        reader_be32(&r);
        subxid = 0;
        break;
    default:
        return err_set(e, ERR_DATA, "pgoutput message 0x%02x in a part of transaction %u", kind,
                       spool_xid(s));
    }
    if (unlikely(r.failed || (kind == PGOUTPUT_STREAM_STOP && reader_left(&r))))
        return err_set(e, ERR_DATA, "malformed pgoutput message '%c' (%zu bytes)", kind, payload.n);
    if (unlikely(kind == PGOUTPUT_STREAM_STOP)) {
        t->stream.segment = NULL;
        t->wire.in_segment = false;
        return 0;
    }
    struct slice body = {r.p, reader_left(&r)};
    if (unlikely(spool_append(s, subxid, arrival, kind, body, e) != 0))
        return fall_back(t, spool_xid(s), e);
    return 0;
}

int transaction_stream_abort(struct transaction *t, const struct pgoutput_message *m, struct err *e)
{
    uint32_t xid = m->txn.xid, subxid = m->txn.abort_xid;
    struct spool *s = spools_find(t->stream.spools, xid);
    if (!s) // 18 sends it unasked, of a transaction that we never heard of
        return 0;
    if (subxid == xid) {
        metric_add(t->stream.aborts, 1);
        spools_close(t->stream.spools, s);
        return 0;
    }
    metric_add(t->stream.subaborts, 1);
    return spool_abort(s, subxid, e) == 0 ? 0 : fall_back(t, xid, e);
}

// ---- the replay ----

int transaction_stream_commit(struct transaction *t, const struct pgoutput_message *m,
                              struct err *e)
{
    struct spool *s = spools_find(t->stream.spools, m->txn.xid);
    if (!s)
        return err_set(e, ERR_DATA, "commit of transaction %u at %X/%X, which was not sent",
                       m->txn.xid, LSN_ARG(m->txn.lsn));
    if (transaction_begin(t, m, e) != 0)
        return -1;
    t->stream.replay = s;
    t->stream.end_lsn = m->txn.end_lsn;
    relations_replay(t->o.relations);
    return 0;
}

static int replayed(struct transaction *t, struct err *e)
{
    spools_close(t->stream.spools, t->stream.replay);
    t->stream.replay = NULL;
    relations_replayed(t->o.relations);
    return transaction_end(t, t->stream.end_lsn, e);
}

int transaction_replay(struct transaction *t, size_t budget, size_t *ret_bytes, struct err *e)
{
    size_t bytes = 0;
    while (bytes < budget && t->stream.replay) {
        struct spool *s = t->stream.replay;
        struct spooled m;
        int got = spool_next(s, &m, e);
        if (unlikely(got < 0))
            return fall_back(t, spool_xid(s), e);
        if (unlikely(got == 0 && replayed(t, e) != 0))
            return -1;
        if (unlikely(got == 0))
            break;
        if (unlikely(transaction_decode(t, m.message, m.arrival, 0, NULL, e) != 0))
            return -1;
        bytes += m.message.n;
    }
    *ret_bytes = bytes;
    return 0;
}
