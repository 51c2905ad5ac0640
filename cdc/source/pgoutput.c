#include "source/pgoutput.h"

#include "base/reader.h"

static void read_tuple(struct reader *r, struct value *values, struct tuple *ret_t)
{
    uint16_t n = reader_be16(r);
    if (n > COLUMNS_MAX) {
        r->failed = true;
        n = 0;
    }
    for (uint16_t i = 0; i < n; i++) {
        struct value *v = &values[i];
        v->state = reader_u8(r);
        v->text = NULL;
        v->n = 0;
        if (v->state == VALUE_TEXT || v->state == VALUE_BINARY) {
            v->n = reader_be32(r);
            v->text = (const char *)reader_take(r, v->n);
        } else if (v->state != VALUE_NULL && v->state != VALUE_UNCHANGED) {
            r->failed = true;
        }
        if (unlikely(r->failed))
            break;
    }
    *ret_t = (struct tuple){n, values};
}

static const char *read_schema(struct reader *r)
{
    const char *schema = reader_cstr(r);
    return *schema ? schema : "pg_catalog";
}

static void read_relation(struct reader *r, struct pgoutput *p, struct pgoutput_relation *rel)
{
    rel->relid = reader_be32(r);
    rel->schema = read_schema(r);
    rel->name = reader_cstr(r);
    rel->replica_identity = (char)reader_u8(r);
    rel->n = reader_be16(r);
    rel->columns = p->columns;
    // NOLINTNEXTLINE(bugprone-not-null-terminated-result): a slice, not a string
    if (rel->n > COLUMNS_MAX || !memchr("dnfi", rel->replica_identity, 4) || *rel->name == 0)
        r->failed = true;
    for (uint16_t i = 0; i < rel->n && !r->failed; i++) {
        struct pgoutput_column *c = &p->columns[i];
        c->identity = reader_u8(r) & 1;
        c->name = reader_cstr(r);
        c->type_oid = reader_be32(r);
        c->typmod = (int32_t)reader_be32(r);
        if (*c->name == 0)
            r->failed = true;
    }
}

static void read_row(struct reader *r, struct pgoutput *p, struct pgoutput_message *m)
{
    struct pgoutput_row *row = &m->row;
    row->relid = reader_be32(r);
    row->old_kind = PGOUTPUT_OLD_NONE;
    row->old = row->new = (struct tuple){0, NULL};
    uint8_t part = reader_u8(r);
    bool old = m->kind != PGOUTPUT_INSERT && (part == 'K' || part == 'O');
    if (old) {
        row->old_kind = (enum pgoutput_old)part;
        read_tuple(r, p->old_values, &row->old);
    }
    if (m->kind == PGOUTPUT_DELETE) {
        if (!old)
            r->failed = true;
        return;
    }
    if (old)
        part = reader_u8(r);
    if (part != 'N')
        r->failed = true;
    read_tuple(r, p->new_values, &row->new);
}

static void read_truncate(struct reader *r, struct pgoutput_truncate *t)
{
    t->n = reader_be32(r);
    uint8_t options = reader_u8(r);
    t->cascade = options & 1;
    t->restart_identity = options & 2;
    if (t->n > reader_left(r) / 4)
        r->failed = true;
    t->relids = reader_take(r, (size_t)t->n * 4);
}

uint32_t pgoutput_truncate_relid(const struct pgoutput_truncate *t, uint32_t i)
{
    CHECK(i < t->n);
    struct reader r = reader_of(t->relids + (size_t)i * 4, 4);
    return reader_be32(&r);
}

static void read_message(struct reader *r, struct pgoutput_message *m)
{
    m->message.transactional = reader_u8(r) & 1;
    m->message.lsn = reader_be64(r);
    m->message.prefix = reader_cstr(r);
    uint32_t n = reader_be32(r);
    const uint8_t *at = reader_take(r, n);
    m->message.content = (struct slice){at, at ? n : 0};
}

// lsn, end_lsn and time, as Commit and the messages of two-phase commit have them.
static void read_ending(struct reader *r, struct pgoutput_message *m)
{
    m->txn.lsn = reader_be64(r);
    m->txn.end_lsn = reader_be64(r);
    m->txn.time = (int64_t)reader_be64(r);
    if (m->txn.lsn == 0 || m->txn.end_lsn <= m->txn.lsn) // a record has a length
        r->failed = true;
}

static void read_txn(struct reader *r, struct pgoutput *p, struct pgoutput_message *m)
{
    switch (m->kind) {
    case PGOUTPUT_BEGIN:
        m->txn.lsn = reader_be64(r);
        m->txn.time = (int64_t)reader_be64(r);
        m->txn.xid = reader_be32(r);
        if (m->txn.lsn == 0)
            r->failed = true;
        break;
    case PGOUTPUT_COMMIT:
        reader_u8(r);
        read_ending(r, m);
        break;
    case PGOUTPUT_STREAM_START:
        m->txn.xid = reader_be32(r);
        m->txn.first_segment = reader_u8(r) == 1;
        p->in_segment = true;
        break;
    case PGOUTPUT_STREAM_STOP:
        p->in_segment = false;
        break;
    case PGOUTPUT_STREAM_COMMIT:
        m->txn.xid = reader_be32(r);
        reader_u8(r);
        read_ending(r, m);
        break;
    case PGOUTPUT_STREAM_ABORT:
        m->txn.xid = reader_be32(r);
        m->txn.abort_xid = reader_be32(r);
        if (reader_left(r)) { // with streaming 'parallel'
            m->txn.lsn = reader_be64(r);
            m->txn.time = (int64_t)reader_be64(r);
        }
        break;
    default: // two-phase commit
        if (m->kind != PGOUTPUT_BEGIN_PREPARE)
            reader_u8(r);
        if (m->kind == PGOUTPUT_ROLLBACK_PREPARED) {
            m->txn.lsn = reader_be64(r);
            m->txn.end_lsn = reader_be64(r);
            reader_be64(r); // prepare time
            m->txn.time = (int64_t)reader_be64(r);
        } else {
            read_ending(r, m);
        }
        m->txn.xid = reader_be32(r);
        m->txn.gid = reader_cstr(r);
    }
}

static bool carries_subxid(enum pgoutput_kind kind)
{
    // NOLINTNEXTLINE(bugprone-not-null-terminated-result): a slice, not a string
    return memchr("RYIUDTM", kind, 7);
}

static bool read_body(struct reader *r, struct pgoutput *p, struct pgoutput_message *m)
{
    m->subxid = p->in_segment && carries_subxid(m->kind) ? reader_be32(r) : 0;
    switch (m->kind) {
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        read_row(r, p, m);
        return true;
    case PGOUTPUT_ORIGIN:
        m->origin.lsn = reader_be64(r);
        m->origin.name = reader_cstr(r);
        return true;
    case PGOUTPUT_RELATION:
        read_relation(r, p, &m->relation);
        return true;
    case PGOUTPUT_TYPE:
        m->type.oid = reader_be32(r);
        m->type.schema = read_schema(r);
        m->type.name = reader_cstr(r);
        return true;
    case PGOUTPUT_TRUNCATE:
        read_truncate(r, &m->truncate);
        return true;
    case PGOUTPUT_MESSAGE:
        read_message(r, m);
        return true;
    case PGOUTPUT_BEGIN:
    case PGOUTPUT_COMMIT:
    case PGOUTPUT_STREAM_START:
    case PGOUTPUT_STREAM_STOP:
    case PGOUTPUT_STREAM_COMMIT:
    case PGOUTPUT_STREAM_ABORT:
    case PGOUTPUT_BEGIN_PREPARE:
    case PGOUTPUT_PREPARE:
    case PGOUTPUT_COMMIT_PREPARED:
    case PGOUTPUT_ROLLBACK_PREPARED:
    case PGOUTPUT_STREAM_PREPARE:
        memset(&m->txn, 0, sizeof m->txn);
        read_txn(r, p, m);
        return true;
    }
    return false;
}

int pgoutput_decode(struct pgoutput *p, struct slice bytes, struct pgoutput_message *ret_m,
                    struct err *e)
{
    struct reader r = reader_of(bytes.p, bytes.n);
    uint8_t kind = reader_u8(&r);
    ret_m->kind = (enum pgoutput_kind)kind;
    if (unlikely(!read_body(&r, p, ret_m)))
        return err_set(e, ERR_DATA, "pgoutput message of unknown kind 0x%02x (%zu bytes)", kind,
                       bytes.n);
    if (unlikely(!reader_done(&r)))
        return err_set(e, ERR_DATA, "malformed pgoutput message '%c' (%zu bytes, %s)", kind,
                       bytes.n, r.failed ? "broken" : "longer than it says");
    return 0;
}
