// Builds batches. What is open lies behind what is whole:
//
//   data:  [headroom][whole transactions, progress ..][Begin, changes of the open transaction ..]
//                                                     ^ whole_n, whole_entries
//
// Taking a batch seals the whole part and moves the rest to the front of a fresh buffer; when there
// is no whole part, the open one may be sealed as PARTIAL, and a Begin{continued} opens the next.
#include "proto/batch.h"

#include "base/clock.h"
#include "proto/wire.h"

#include <xxhash.h>

#define LAST_FIELD_SIZE 2    // tag and value of Change.last, always at the end
#define TAG_ENTRY       0x0a // Batch.entry
#define TAG_OF(kind)    ((uint8_t)((kind) << 3 | WIRE_LEN))

struct summary { // what a sealed batch says of itself
    struct position first, last;
    bool started;
    uint32_t change_count, end_count, xid_min, xid_max, attempt;
    int64_t commit_time_us;
    uint32_t flags;
};

struct batch_builder {
    size_t size;
    struct buf data; // BATCH_HEADROOM bytes, then entries
    struct entry *entries;
    size_t entry_count, entry_cap;
    size_t whole_n, whole_entries;
    struct summary whole, open; // of the whole part; of the whole and the open part together
    lsn_t watermark;

    bool in_txn;
    struct begin begin;
    struct buf origin; // begin.origin's bytes
    uint64_t ordinal;  // of the next change
    uint64_t stored;   // changes of the open transaction that were stored, in all batches
    uint64_t hash;
    size_t last_at;   // offset of the value of the last change's `last`; 0: not in this batch
    bool sealed_part; // a part of the open transaction is sealed already
};

static void fresh_data(struct batch_builder *bb)
{
    bb->data = (struct buf){0};
    buf_grow(&bb->data, BATCH_HEADROOM + bb->size + bb->size / 4);
    memset(bb->data.p, 0, BATCH_HEADROOM);
    bb->data.n = BATCH_HEADROOM;
}

struct batch_builder *batch_builder_new(size_t size)
{
    CHECK(size >= 64 && size <= UINT32_MAX / 4);
    struct batch_builder *bb = xcalloc(1, sizeof *bb);
    bb->size = size;
    fresh_data(bb);
    bb->whole_n = bb->data.n;
    return bb;
}

void batch_builder_free(struct batch_builder *bb)
{
    if (!bb)
        return;
    buf_free(&bb->data);
    buf_free(&bb->origin);
    free(bb->entries);
    free(bb);
}

void batch_builder_reset(struct batch_builder *bb)
{
    bb->data.n = BATCH_HEADROOM;
    bb->entry_count = 0;
    bb->whole_n = BATCH_HEADROOM;
    bb->whole_entries = 0;
    bb->whole = bb->open = (struct summary){0};
    bb->in_txn = bb->sealed_part = false;
    bb->last_at = 0;
    bb->stored = bb->hash = bb->ordinal = 0;
    bb->watermark = 0; // positions may have gone back
}

uint64_t batch_builder_txn_changes(const struct batch_builder *bb)
{
    return bb->stored;
}

uint64_t batch_builder_txn_hash(const struct batch_builder *bb)
{
    return bb->hash;
}

bool batch_builder_full(const struct batch_builder *bb)
{
    return bb->data.n - BATCH_HEADROOM >= bb->size;
}

// ---- entries ----

// Opens an entry whose inner message has n bytes; returns its index entry, body set.
static struct entry *entry_open(struct batch_builder *bb, enum entry_kind kind, size_t n)
{
    size_t inner = 1 + varint_size(n) + n;
    size_t total = 1 + varint_size(inner) + inner;
    CHECK(bb->data.n + total <= UINT32_MAX); // a row is at most 1 GiB
    if (bb->entry_count == bb->entry_cap) {
        bb->entry_cap = bb->entry_cap ? bb->entry_cap * 2 : 256;
        bb->entries = xrealloc(bb->entries, bb->entry_cap * sizeof *bb->entries);
    }
    struct entry *e = &bb->entries[bb->entry_count++];
    uint8_t *start = buf_room(&bb->data, total), *at = start;
    *at++ = TAG_ENTRY;
    at = varint_write(at, inner);
    *at++ = TAG_OF(kind);
    at = varint_write(at, n);
    uint32_t off = (uint32_t)(bb->data.n - BATCH_HEADROOM);
    *e = (struct entry){.off = off,
                        .body = off + (uint32_t)(at - start),
                        .end = off + (uint32_t)total,
                        .kind = (uint8_t)kind};
    bb->data.n += (size_t)(at - start);
    return e;
}

static struct entry *entry_put(struct batch_builder *bb, enum entry_kind kind, const struct buf *b)
{
    struct entry *e = entry_open(bb, kind, b->n);
    buf_put(&bb->data, b->p, b->n);
    return e;
}

static void moved_to(struct batch_builder *bb, struct position at)
{
    if (!bb->open.started)
        bb->open.first = at;
    bb->open.started = true;
    bb->open.last = at;
}

// What is built so far is whole.
static void mark_whole(struct batch_builder *bb)
{
    bb->whole_n = bb->data.n;
    bb->whole_entries = bb->entry_count;
    bb->whole = bb->open;
}

static void put_begin(struct batch_builder *bb, bool continued)
{
    const struct begin *b = &bb->begin;
    AUTO_BUF struct buf m = {0};
    wire_fixed64(&m, 1, b->lsn);
    wire_uint(&m, 2, zigzag(b->commit_time_us));
    if (b->xid)
        wire_uint(&m, 3, b->xid);
    if (b->origin.n) {
        wire_bytes(&m, 4, bb->origin.p, bb->origin.n);
        if (b->origin_lsn)
            wire_fixed64(&m, 5, b->origin_lsn);
    }
    if (continued)
        wire_uint(&m, 6, 1);
    if (b->attempt)
        wire_uint(&m, 7, b->attempt);
    if (b->read) {
        wire_uint(&m, 8, 1);
        bb->open.flags |= BATCH_ASIDE;
    }
    entry_put(bb, ENTRY_BEGIN, &m);
    if (continued)
        bb->open.flags |= BATCH_CONTINUED;
    bb->open.attempt = b->attempt;
    bb->open.commit_time_us = b->commit_time_us;
    if (b->xid && (bb->open.xid_min == 0 || b->xid < bb->open.xid_min))
        bb->open.xid_min = b->xid;
    if (b->xid > bb->open.xid_max)
        bb->open.xid_max = b->xid;
}

void batch_add_begin(struct batch_builder *bb, const struct begin *begin)
{
    CHECK(!bb->in_txn && !begin->continued && begin->lsn > 0);
    CHECK(begin->read == (begin->ordinal >= ORDINAL_ASIDE));
    bb->in_txn = true;
    bb->sealed_part = false;
    bb->begin = *begin;
    buf_clear(&bb->origin);
    buf_put(&bb->origin, begin->origin.p, begin->origin.n);
    bb->begin.origin = buf_slice(&bb->origin);
    bb->ordinal = begin->ordinal;
    bb->stored = bb->hash = 0;
    bb->last_at = 0;
    put_begin(bb, false);
}

void batch_add_relation(struct batch_builder *bb, const struct relation *r)
{
    CHECK(bb->in_txn);
    struct entry *e = entry_open(bb, ENTRY_RELATION, r->encoded.n);
    e->relation = r->id;
    buf_put(&bb->data, r->encoded.p, r->encoded.n);
    bb->open.flags |= BATCH_RELATION;
}

void batch_add_schema_change(struct batch_builder *bb, uint32_t relation, struct slice body)
{
    CHECK(bb->in_txn);
    struct entry *e = entry_open(bb, ENTRY_SCHEMA, body.n);
    e->relation = relation;
    buf_put(&bb->data, body.p, body.n);
    bb->open.flags |= BATCH_RELATION;
}

struct position batch_builder_next(const struct batch_builder *bb)
{
    CHECK(bb->in_txn);
    return (struct position){bb->begin.lsn, bb->ordinal};
}

// ---- changes ----

static size_t bytes_size(const struct slice *s)
{
    return s->p ? 1 + varint_size(s->n) + s->n : 0;
}

static uint8_t *bytes_write(uint8_t *at, uint8_t tag, const struct slice *s)
{
    if (!s->p)
        return at;
    *at++ = tag;
    at = varint_write(at, s->n);
    if (s->n)
        memcpy(at, s->p, s->n);
    return at + s->n;
}

static uint8_t *raw_write(uint8_t *at, const struct slice *s)
{
    if (s->n)
        memcpy(at, s->p, s->n);
    return at + s->n;
}

static size_t change_size(const struct change *c, uint64_t ordinal)
{
    return 2 + (c->relation ? 1 + varint_size(c->relation) : 0) + 1 + varint_size(ordinal) +
           bytes_size(&c->key) + bytes_size(&c->before) + bytes_size(&c->after) +
           (c->unchanged.n ? bytes_size(&c->unchanged) : 0) + c->exact.n + c->exact_before.n +
           c->exact_key.n + bytes_size(&c->truncate) + bytes_size(&c->message) + LAST_FIELD_SIZE;
}

uint64_t batch_add_change(struct batch_builder *bb, const struct change *c)
{
    CHECK(bb->in_txn && c->op != OP_NONE);
    uint64_t ordinal = bb->ordinal++;
    CHECK(bb->begin.read || ordinal < ORDINAL_END);
    size_t n = change_size(c, ordinal);
    struct entry *e = entry_open(bb, ENTRY_CHANGE, n);
    e->op = (uint8_t)c->op;
    e->relation = c->relation;
    e->ordinal = ordinal;
    uint8_t *body = bb->data.p + bb->data.n, *at = body;
    *at++ = 1 << 3;
    *at++ = (uint8_t)c->op;
    if (c->relation) {
        *at++ = 2 << 3;
        at = varint_write(at, c->relation);
    }
    *at++ = 3 << 3;
    at = varint_write(at, ordinal);
    at = bytes_write(at, 4 << 3 | WIRE_LEN, &c->key);
    at = bytes_write(at, 5 << 3 | WIRE_LEN, &c->before);
    at = bytes_write(at, 6 << 3 | WIRE_LEN, &c->after);
    if (c->unchanged.n)
        at = bytes_write(at, 7 << 3 | WIRE_LEN, &c->unchanged);
    at = raw_write(at, &c->exact);
    at = raw_write(at, &c->exact_before);
    at = raw_write(at, &c->exact_key);
    at = bytes_write(at, 11 << 3 | WIRE_LEN, &c->truncate);
    at = bytes_write(at, 12 << 3 | WIRE_LEN, &c->message);
    bb->hash = XXH3_64bits_withSeed(body, (size_t)(at - body), bb->hash);
    *at++ = 15 << 3;
    *at++ = 0; // set by batch_add_end where this is the last one
    CHECK((size_t)(at - body) == n);
    bb->data.n += n;
    bb->last_at = bb->data.n - 1;
    bb->stored++;
    bb->open.change_count++;
    moved_to(bb, (struct position){bb->begin.lsn, ordinal});
    return ordinal;
}

void batch_skip_change(struct batch_builder *bb)
{
    CHECK(bb->in_txn);
    bb->ordinal++;
}

bool batch_add_end(struct batch_builder *bb, lsn_t end_lsn)
{
    CHECK(bb->in_txn);
    bb->in_txn = false;
    bb->watermark = u64_max(bb->watermark, end_lsn);
    if (bb->stored == 0) { // drop its Begin and whatever relations came with it
        bb->data.n = bb->whole_n;
        bb->entry_count = bb->whole_entries;
        bb->open = bb->whole;
        return false;
    }
    if (bb->last_at)
        bb->data.p[bb->last_at] = 1;
    AUTO_BUF struct buf m = {0};
    wire_fixed64(&m, 1, bb->begin.lsn);
    wire_fixed64(&m, 2, end_lsn);
    wire_uint(&m, 3, bb->ordinal - bb->begin.ordinal);
    if (bb->begin.read)
        wire_uint(&m, 4, bb->ordinal);
    entry_put(bb, ENTRY_END, &m);
    bb->open.end_count++;
    moved_to(bb, (struct position){bb->begin.lsn, bb->begin.read ? bb->ordinal : ORDINAL_END});
    mark_whole(bb);
    return true;
}

void batch_add_progress(struct batch_builder *bb, lsn_t lsn)
{
    CHECK(!bb->in_txn);
    AUTO_BUF struct buf m = {0};
    wire_fixed64(&m, 1, lsn);
    entry_put(bb, ENTRY_PROGRESS, &m);
    bb->watermark = u64_max(bb->watermark, lsn);
    moved_to(bb, position_before(lsn));
    mark_whole(bb);
}

void batch_add_snapshot_mark(struct batch_builder *bb, const struct snapshot_mark *mark)
{
    CHECK(!bb->in_txn && mark->at.ordinal >= ORDINAL_ASIDE);
    AUTO_BUF struct buf m = {0};
    wire_fixed64(&m, 1, mark->at.lsn);
    wire_uint(&m, 2, mark->at.ordinal);
    wire_uint(&m, 3, mark->step);
    wire_bytes(&m, 4, mark->table.p, mark->table.n);
    if (mark->rows)
        wire_uint(&m, 5, mark->rows);
    if (mark->reason.n)
        wire_bytes(&m, 6, mark->reason.p, mark->reason.n);
    entry_put(bb, ENTRY_SNAPSHOT, &m);
    bb->open.flags |= BATCH_ASIDE;
    moved_to(bb, mark->at);
    mark_whole(bb);
}

void batch_builder_set_watermark(struct batch_builder *bb, lsn_t watermark)
{
    bb->watermark = u64_max(bb->watermark, watermark);
}

void batch_add_gap(struct batch_builder *bb, lsn_t from, lsn_t to, const char *reason)
{
    CHECK(!bb->in_txn);
    AUTO_BUF struct buf m = {0};
    wire_fixed64(&m, 1, from);
    wire_fixed64(&m, 2, to);
    wire_string(&m, 3, reason);
    entry_put(bb, ENTRY_GAP, &m);
    bb->open.flags |= BATCH_ASIDE;
    moved_to(bb, position_before(to));
    mark_whole(bb);
}

// ---- sealing ----

// A batch of the first n bytes and `count` entries, which go over to it (or are copied when they
// fill little of their buffer). The builder's buffers are then as if emptied.
static struct batch *seal(struct batch_builder *bb, size_t n, size_t count, const struct summary *s)
{
    struct batch *b = xcalloc(1, sizeof *b);
    b->refs = 1;
    bool small = n < bb->data.cap / 2;
    size_t cap = small ? n : bb->data.cap;
    uint8_t *p = small ? xmalloc(n) : bb->data.p;
    if (small)
        memcpy(p, bb->data.p, n);
    b->data = p + BATCH_HEADROOM;
    b->n = n - BATCH_HEADROOM;
    b->entries = xmalloc(count * sizeof *b->entries);
    memcpy(b->entries, bb->entries, count * sizeof *b->entries);
    b->entry_count = count;
    b->memory = sizeof *b + cap + count * sizeof *b->entries;
    b->flags = s->flags;
    b->first = s->first;
    b->last = s->last;
    b->change_count = s->change_count;
    b->end_count = s->end_count;
    b->xid_min = s->xid_min;
    b->xid_max = s->xid_max;
    b->attempt = s->attempt;
    b->commit_time_us = s->commit_time_us;
    b->watermark = bb->watermark;
    b->sealed_us = clock_wall_us();
    if (!small)
        bb->data = (struct buf){0};
    return b;
}

// Moves what follows the sealed part (if anything) to the front.
static void keep_rest(struct batch_builder *bb, const uint8_t *rest, size_t rest_n, size_t sealed_n,
                      size_t sealed_count)
{
    uint32_t shift = (uint32_t)(sealed_n - BATCH_HEADROOM);
    if (!bb->data.p)
        fresh_data(bb);
    bb->data.n = BATCH_HEADROOM;
    if (rest_n) {
        memmove(buf_room(&bb->data, rest_n), rest, rest_n);
        bb->data.n += rest_n;
    }
    bb->entry_count -= sealed_count;
    memmove(bb->entries, bb->entries + sealed_count, bb->entry_count * sizeof *bb->entries);
    for (size_t i = 0; i < bb->entry_count; i++) {
        bb->entries[i].off -= shift;
        bb->entries[i].body -= shift;
        bb->entries[i].end -= shift;
    }
    bb->whole_n = BATCH_HEADROOM;
    bb->whole_entries = 0;
    bb->whole = (struct summary){0};
    if (bb->last_at)
        bb->last_at -= shift;
}

static struct batch *take_whole(struct batch_builder *bb)
{
    size_t n = bb->whole_n, count = bb->whole_entries, rest_n = bb->data.n - n;
    // The rest may be large only where one transaction fills the buffer; it moves once.
    uint8_t *rest = NULL;
    if (rest_n) {
        rest = xmalloc(rest_n);
        memcpy(rest, bb->data.p + n, rest_n);
    }
    struct summary all = bb->open, whole = bb->whole;
    struct batch *b = seal(bb, n, count, &whole);
    if (b->change_count == 0 && b->end_count == 0 && !(b->flags & BATCH_ASIDE))
        b->flags |= BATCH_PROGRESS;
    if (b->flags & BATCH_CONTINUED)
        b->txn_lsn = b->first.lsn;
    keep_rest(bb, rest, rest_n, n, count);
    free(rest);
    bb->open = (struct summary){0};
    if (bb->in_txn) {
        bb->open.xid_min = bb->open.xid_max = bb->begin.xid;
        bb->open.attempt = bb->begin.attempt;
        bb->open.commit_time_us = bb->begin.commit_time_us;
        bb->open.flags = bb->begin.read ? BATCH_ASIDE : 0;
        bb->open.change_count = all.change_count - whole.change_count;
        for (size_t i = 0; i < bb->entry_count; i++) {
            const struct entry *e = &bb->entries[i];
            if (e->kind == ENTRY_RELATION || e->kind == ENTRY_SCHEMA)
                bb->open.flags |= BATCH_RELATION;
            else if (e->kind == ENTRY_CHANGE)
                moved_to(bb, (struct position){bb->begin.lsn, e->ordinal});
        }
    }
    return b;
}

static struct batch *take_partial(struct batch_builder *bb)
{
    CHECK(!bb->begin.read); // what would be cut off it does not come again
    struct batch *b = seal(bb, bb->data.n, bb->entry_count, &bb->open);
    b->flags |= BATCH_PARTIAL;
    b->txn_lsn = bb->begin.lsn;
    b->txn_hash = bb->hash;
    b->txn_changes = bb->stored;
    bb->last_at = 0;
    keep_rest(bb, NULL, 0, BATCH_HEADROOM, bb->entry_count);
    bb->open = (struct summary){0};
    bb->sealed_part = true;
    put_begin(bb, true);
    return b;
}

struct batch *batch_builder_take(struct batch_builder *bb, bool partial)
{
    if (bb->whole_entries > 0)
        return take_whole(bb);
    if (partial && bb->in_txn && bb->open.change_count > 0)
        return take_partial(bb);
    return NULL;
}
