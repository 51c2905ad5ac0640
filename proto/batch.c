#include "proto/batch.h"

#include "proto/wire.h"

#include <stdlib.h>

const char *op_name(enum op op)
{
    static const char *const names[] = {"none",     "insert", "update", "delete",
                                        "truncate", "read",   "message"};
    return (size_t)op < ARRAY_LEN(names) ? names[op] : "unknown";
}

const char *snapshot_step_name(enum snapshot_step step)
{
    static const char *const names[] = {"none", "begin", "end", "restart"};
    return (size_t)step < ARRAY_LEN(names) ? names[step] : "unknown";
}

struct batch *batch_ref(struct batch *b)
{
    uint32_t before = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    CHECK(before > 0);
    return b;
}

struct batch *batch_unref(struct batch *b)
{
    if (!b)
        return NULL;
    uint32_t before = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before == 1) {
        free(b->data - BATCH_HEADROOM);
        free(b->entries);
        free(b);
    }
    return NULL;
}

// ---- taking entries apart ----

static bool begin_decode(struct slice body, struct begin *ret_begin)
{
    struct reader r = reader_of(body.p, body.n);
    struct begin begin = {0};
    struct wire_field f;
    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            begin.lsn = f.v;
            break;
        case 2:
            begin.commit_time_us = unzigzag(f.v);
            break;
        case 3:
            begin.xid = (uint32_t)f.v;
            break;
        case 4:
            begin.origin = f.bytes;
            break;
        case 5:
            begin.origin_lsn = f.v;
            break;
        case 6:
            begin.continued = f.v != 0;
            break;
        case 7:
            begin.attempt = (uint32_t)f.v;
            break;
        case 8:
            begin.read = f.v != 0;
            break;
        default: // of a later version
            break;
        }
    }
    *ret_begin = begin;
    return reader_done(&r);
}

struct begin batch_begin(const struct batch *b, const struct entry *e)
{
    CHECK(e->kind == ENTRY_BEGIN);
    struct begin begin;
    bool whole = begin_decode(entry_body(b, e), &begin);
    CHECK(whole);
    return begin;
}

// The field `number` of a small message, 0 when it is absent or of another wire type.
static uint64_t number_field(struct slice body, uint32_t number, enum wire_type type)
{
    struct reader r = reader_of(body.p, body.n);
    struct wire_field f;
    uint64_t v = 0;
    while (wire_next(&r, &f)) {
        if (f.number == number && f.type == type)
            v = f.v;
    }
    return r.failed ? 0 : v;
}

static lsn_t lsn_field(struct slice body, uint32_t number)
{
    return number_field(body, number, WIRE_I64);
}

lsn_t batch_end_lsn(const struct batch *b, const struct entry *e)
{
    CHECK(e->kind == ENTRY_END);
    return lsn_field(entry_body(b, e), 2);
}

lsn_t batch_progress_lsn(const struct batch *b, const struct entry *e)
{
    CHECK(e->kind == ENTRY_PROGRESS);
    return lsn_field(entry_body(b, e), 1);
}

static bool mark_decode(struct slice body, struct snapshot_mark *ret_m)
{
    struct reader r = reader_of(body.p, body.n);
    struct snapshot_mark m = {0};
    struct wire_field f;
    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            m.at.lsn = f.v;
            break;
        case 2:
            m.at.ordinal = f.v;
            break;
        case 3:
            m.step = (enum snapshot_step)(f.v <= SNAPSHOT_RESTART ? f.v : SNAPSHOT_NONE);
            break;
        case 4:
            m.table = f.bytes;
            break;
        case 5:
            m.rows = f.v;
            break;
        case 6:
            m.reason = f.bytes;
            break;
        default: // of a later version
            break;
        }
    }
    *ret_m = m;
    return reader_done(&r) && m.at.ordinal >= ORDINAL_ASIDE;
}

struct snapshot_mark batch_snapshot_mark(const struct batch *b, const struct entry *e)
{
    CHECK(e->kind == ENTRY_SNAPSHOT);
    struct snapshot_mark m;
    bool whole = mark_decode(entry_body(b, e), &m);
    CHECK(whole);
    return m;
}

struct position batch_entry_position(const struct batch *b, const struct entry *e,
                                     const struct begin *begin)
{
    struct slice body = entry_body(b, e);
    switch (e->kind) {
    case ENTRY_CHANGE:
        return (struct position){begin->lsn, e->ordinal};
    case ENTRY_END:
        return (struct position){begin->lsn,
                                 begin->read ? number_field(body, 4, WIRE_VARINT) : ORDINAL_END};
    case ENTRY_PROGRESS:
        return position_before(lsn_field(body, 1));
    case ENTRY_SNAPSHOT:
        return batch_snapshot_mark(b, e).at;
    case ENTRY_GAP:
        return position_before(lsn_field(body, 2));
    case ENTRY_SCHEMA: // a filter may have taken its change: then with the end
        while (e < b->entries + b->entry_count && e->kind != ENTRY_CHANGE && e->kind != ENTRY_END)
            e++;
        if (e == b->entries + b->entry_count || e->kind == ENTRY_END)
            return (struct position){begin->lsn, ORDINAL_END};
        return (struct position){begin->lsn, e->ordinal};
    default:
        CHECK(!"an entry that has a position");
        return (struct position){0};
    }
}

// Grows a run of whole fields [from..to) to hold one more.
static void run_add(struct slice *run, const uint8_t *from, const uint8_t *to)
{
    if (!run->p)
        run->p = from;
    run->n = (size_t)(to - run->p);
}

int change_decode(struct slice body, struct change *ret_c)
{
    struct reader r = reader_of(body.p, body.n);
    struct change c = {.body = body};
    struct wire_field f;
    for (const uint8_t *at = r.p; wire_next(&r, &f); at = r.p) {
        switch (f.number) {
        case 1:
            c.op = (enum op)(f.v <= OP_MESSAGE ? f.v : OP_NONE);
            break;
        case 2:
            c.relation = (uint32_t)f.v;
            break;
        case 3:
            c.ordinal = f.v;
            break;
        case 4:
            c.key = f.bytes;
            break;
        case 5:
            c.before = f.bytes;
            break;
        case 6:
            c.after = f.bytes;
            break;
        case 7:
            c.unchanged = f.bytes;
            break;
        case 8:
            run_add(&c.exact, at, r.p);
            break;
        case 9:
            run_add(&c.exact_before, at, r.p);
            break;
        case 10:
            run_add(&c.exact_key, at, r.p);
            break;
        case 11:
            c.truncate = f.bytes;
            break;
        case 12:
            c.message = f.bytes;
            break;
        case 13:
            c.omitted = f.bytes;
            break;
        case 15:
            c.last = f.v != 0;
            break;
        default: // of a later version
            break;
        }
    }
    if (!reader_done(&r))
        return -1;
    *ret_c = c;
    return 0;
}

struct change batch_change(const struct batch *b, const struct entry *e)
{
    CHECK(e->kind == ENTRY_CHANGE);
    struct change c;
    int r = change_decode(entry_body(b, e), &c);
    CHECK(r == 0);
    return c;
}

bool change_exact(const struct change *c, uint32_t field, uint32_t number, struct slice *ret_text)
{
    const struct slice *run = field == 8   ? &c->exact
                              : field == 9 ? &c->exact_before
                                           : &c->exact_key;
    struct reader r = reader_of(run->p, run->n);
    struct wire_field f;
    while (wire_next(&r, &f)) {
        if (f.number != field || f.type != WIRE_LEN)
            continue;
        struct reader inner = reader_of(f.bytes.p, f.bytes.n);
        struct wire_field g;
        uint64_t n = 0;
        struct slice text = {(const uint8_t *)"", 0};
        while (wire_next(&inner, &g)) {
            if (g.number == 1)
                n = g.v;
            else if (g.number == 2 && g.type == WIRE_LEN)
                text = g.bytes;
        }
        if (!inner.failed && n == number) {
            *ret_text = text;
            return true;
        }
    }
    return false;
}

bool change_unchanged(const struct change *c, uint32_t number)
{
    struct reader r = reader_of(c->unchanged.p, c->unchanged.n);
    while (!r.failed && reader_left(&r) > 0) {
        if (reader_varint(&r) == number && !r.failed)
            return true;
    }
    return false;
}

// ---- a batch from bytes ----

struct parse {
    struct batch *b;
    size_t cap;
    struct begin begin;
    bool in_txn;
    bool started; // saw a change, an end or a progress
};

static void parse_position(struct parse *p, struct position at)
{
    if (!p->started)
        p->b->first = at;
    p->started = true;
    p->b->last = at;
}

static uint32_t relation_id(struct slice body)
{
    struct reader r = reader_of(body.p, body.n);
    struct wire_field f;
    while (wire_next(&r, &f)) {
        if (f.number == 1)
            return (uint32_t)f.v;
    }
    return 0;
}

static void parse_begin(struct parse *p)
{
    struct batch *b = p->b;
    if (b->entry_count == 1 && p->begin.continued) {
        b->flags |= BATCH_CONTINUED;
        b->txn_lsn = p->begin.lsn;
    }
    p->in_txn = true;
    if (p->begin.read)
        b->flags |= BATCH_ASIDE;
    b->attempt = p->begin.attempt;
    b->commit_time_us = p->begin.commit_time_us;
    if (p->begin.xid && (b->xid_min == 0 || p->begin.xid < b->xid_min))
        b->xid_min = p->begin.xid;
    if (p->begin.xid > b->xid_max)
        b->xid_max = p->begin.xid;
}

static bool parse_body(struct parse *p, struct entry *e, struct slice body)
{
    struct change c;
    struct snapshot_mark m;
    switch (e->kind) {
    case ENTRY_BEGIN:
        if (!begin_decode(body, &p->begin))
            return false;
        parse_begin(p);
        return true;
    case ENTRY_CHANGE:
        if (change_decode(body, &c) != 0 || !p->in_txn ||
            (c.ordinal >= ORDINAL_ASIDE) != p->begin.read)
            return false;
        e->op = (uint8_t)c.op;
        e->relation = c.relation;
        e->ordinal = c.ordinal;
        p->b->change_count++;
        parse_position(p, (struct position){p->begin.lsn, c.ordinal});
        return true;
    case ENTRY_END:
        if (!p->in_txn)
            return false;
        p->in_txn = false;
        p->b->end_count++;
        parse_position(p, batch_entry_position(p->b, e, &p->begin));
        return true;
    case ENTRY_RELATION:
        e->relation = relation_id(body);
        p->b->flags |= BATCH_RELATION;
        return true;
    case ENTRY_SCHEMA:
        e->relation = relation_id(body);
        p->b->flags |= BATCH_RELATION;
        return p->in_txn;
    case ENTRY_PROGRESS:
        parse_position(p, position_before(lsn_field(body, 1)));
        return true;
    case ENTRY_SNAPSHOT:
        if (!mark_decode(body, &m) || p->in_txn)
            return false;
        p->b->flags |= BATCH_ASIDE;
        parse_position(p, m.at);
        return true;
    case ENTRY_GAP:
        if (p->in_txn)
            return false;
        p->b->flags |= BATCH_ASIDE;
        parse_position(p, batch_entry_position(p->b, e, &p->begin));
        return true;
    default: // a restart, or of a later version
        return true;
    }
}

static struct entry *entry_push(struct parse *p)
{
    struct batch *b = p->b;
    if (b->entry_count == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        b->entries = xrealloc(b->entries, p->cap * sizeof *b->entries);
    }
    struct entry *e = &b->entries[b->entry_count++];
    *e = (struct entry){0};
    return e;
}

static bool parse_entries(struct parse *p, size_t n)
{
    struct batch *b = p->b;
    struct reader r = reader_of(b->data, n);
    struct wire_field outer, inner;
    for (const uint8_t *at = r.p; wire_next(&r, &outer); at = r.p) {
        if (outer.number != 1 || outer.type != WIRE_LEN)
            return false;
        struct reader in = reader_of(outer.bytes.p, outer.bytes.n);
        if (!wire_next(&in, &inner) || inner.type != WIRE_LEN || !reader_done(&in) ||
            inner.number > UINT8_MAX)
            return false;
        struct entry *e = entry_push(p);
        e->off = (uint32_t)(at - b->data);
        e->body = (uint32_t)(inner.bytes.p - b->data);
        e->end = (uint32_t)(r.p - b->data);
        e->kind = (uint8_t)inner.number;
        if (!parse_body(p, e, inner.bytes))
            return false;
    }
    return reader_done(&r);
}

int batch_parse(uint8_t *data, size_t n, struct batch **ret_b, struct err *e)
{
    struct batch *b = xcalloc(1, sizeof *b);
    b->refs = 1;
    b->data = data + BATCH_HEADROOM;
    b->n = n;
    struct parse p = {.b = b};
    if (n > UINT32_MAX || !parse_entries(&p, n) || b->entry_count == 0) {
        batch_unref(b);
        return err_set(e, ERR_DATA, "a batch of %zu bytes is malformed", n);
    }
    if (p.in_txn) {
        b->flags |= BATCH_PARTIAL;
        b->txn_lsn = p.begin.lsn;
    }
    if (b->change_count == 0 && b->end_count == 0 && !(b->flags & BATCH_ASIDE))
        b->flags |= BATCH_PROGRESS;
    b->memory = sizeof *b + BATCH_HEADROOM + n + p.cap * sizeof *b->entries;
    *ret_b = b;
    return 0;
}
