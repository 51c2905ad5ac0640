#include "base/log.h"
#include "proto/schema_change.h"
#include "proto/wire.h"
#include "sinks/websocket/frame_view.h"
#include "sinks/websocket/omit.h"

// ---- making ----

struct making {
    struct frame_maker *fm;
    struct frame *f;
    struct selection *sel;
    struct position skip;
    struct buf *out;
    const struct batch *b;
    const struct entry *begin; // of the transaction that the loop stands in
    bool begin_put;            // it is in this frame
    bool begin_continued;      // some of its changes are not
    lsn_t lsn;                 // its commit LSN
};

static void separate(struct making *m)
{
    if (m->out->p[m->out->n - 1] != '[')
        buf_putc(m->out, ',');
}

static void open_text(struct buf *out, const struct selection *sel)
{
    buf_puts(out, "{\"type\":\"batch\",");
    if (*sel->id) {
        buf_puts(out, "\"id\":");
        json_string(out, sel->id, strlen(sel->id));
        buf_putc(out, ',');
    }
    buf_puts(out, "\"entries\":[");
}

static void open_frame(struct frame *f, const struct selection *sel)
{
    buf_room(&f->own, FRAME_HEADROOM);
    f->own.n = FRAME_HEADROOM;
    if (sel->text)
        open_text(&f->own, sel);
}

// `empty`: nothing was put into it.
static void close_frame(struct frame *f, const struct selection *sel, size_t empty)
{
    if (f->own.n == empty) {
        buf_free(&f->own);
        return;
    }
    if (sel->text)
        buf_puts(&f->own, "]}");
    f->data = f->own.p + FRAME_HEADROOM;
    f->n = f->own.n - FRAME_HEADROOM;
}

static void put_begin(struct making *m)
{
    CHECK(m->begin); // batch_parse refuses a change or an end outside a transaction
    if (m->begin_put || m->sel->text)
        return;
    m->begin_put = true;
    if (!m->begin_continued) {
        buf_put(m->out, m->b->data + m->begin->off, m->begin->end - m->begin->off);
        return;
    }
    AUTO_BUF struct buf body = {0}, entry = {0};
    struct slice bytes = entry_body(m->b, m->begin);
    buf_put(&body, bytes.p, bytes.n);
    wire_uint(&body, 6, 1); // continued
    wire_bytes(&entry, ENTRY_BEGIN, body.p, body.n);
    wire_bytes(m->out, 1, entry.p, entry.n);
}

static int put_change(struct making *m, const struct batch *b, const struct entry *e,
                      struct err *err)
{
    if (!m->sel->text) {
        buf_put(m->out, b->data + e->off, e->end - e->off);
        return 0;
    }
    separate(m);
    return json_change(m->out, &m->fm->json, b, e, err);
}

// The change with values above `limit` left out, as a batch of Begin and Change.
static int reduced(struct making *m, const struct entry *e, size_t limit, struct batch **ret_b,
                   struct err *err)
{
    AUTO_BUF struct buf change = {0}, entry = {0}, all = {0};
    change_omit(&change, entry_body(m->b, e), limit);
    wire_bytes(&entry, ENTRY_CHANGE, change.p, change.n);
    buf_put(&all, m->b->data + m->begin->off, m->begin->end - m->begin->off);
    wire_bytes(&all, 1, entry.p, entry.n);
    uint8_t *data = xmalloc(BATCH_HEADROOM + all.n);
    memcpy(data + BATCH_HEADROOM, all.p, all.n);
    return batch_parse(data, all.n, ret_b, err);
}

// Counted and logged once, however many forms and selections it is rendered for.
static void note_omitted(struct making *m, const struct entry *e)
{
    struct position at = {m->lsn, e->ordinal};
    if (position_cmp(at, m->fm->omitted_at) <= 0)
        return;
    m->fm->omitted_at = at;
    metric_add(m->fm->omitted, 1);
    char lsn[LSN_TEXT_MAX];
    const struct relation *r = catalog_get(m->fm->catalog, e->relation);
    log_warn("a change is too large for a frame: sending it without its large columns",
             "sink=websocket lsn=%s seq=%lu table=%s bytes=%u frame_bytes_max=%zu",
             lsn_text(m->lsn, lsn), (unsigned long)e->ordinal, log_quote(r ? r->table : ""),
             e->end - e->body, m->fm->frame_bytes_max);
}

// A change that is too large, with as much of it as fits.
static int put_reduced(struct making *m, const struct entry *e, size_t start, struct err *err)
{
    static const size_t limits[] = {1024, 64, 0};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct batch *b;
        m->out->n = start;
        if (reduced(m, e, limits[i], &b, err) != 0)
            return -1;
        int r = put_change(m, b, &b->entries[1], err);
        batch_unref(b);
        if (r != 0)
            return -1;
        if (m->out->n - start <= m->fm->frame_bytes_max)
            break; // after the last one: the key alone may be larger, and stays
    }
    if (e->op == OP_MESSAGE && m->sel->text) {
        m->out->n--; // json_change does not know that a message's content can be left out
        buf_puts(m->out, ",\"omitted\":[\"content\"]}");
    }
    note_omitted(m, e);
    return 0;
}

static int make_change(struct making *m, const struct entry *e, struct err *err)
{
    struct position at = {m->lsn, e->ordinal};
    bool wanted = selection_wants(m->sel, m->fm->catalog, e->relation, e->op);
    m->f->open = true;
    m->f->last = at;
    if (position_cmp(at, m->skip) <= 0) {
        m->f->got = m->f->got || wanted;
        m->begin_continued = true;
        return 0;
    }
    if (!wanted)
        return 0;
    put_begin(m);
    size_t start = m->out->n;
    bool large = e->end - e->body > m->fm->frame_bytes_max;
    if (!large && put_change(m, m->b, e, err) != 0)
        return -1;
    if ((large || m->out->n - start > m->fm->frame_bytes_max) && put_reduced(m, e, start, err) != 0)
        return -1;
    ids_add(&m->f->uses, &m->f->use_count, e->relation);
    m->f->changes++;
    m->f->got = true;
    return 0;
}

// It concerns whoever wants the table, under its new name or the one before, whatever operations.
static bool schema_change_wanted(const struct making *m, const struct entry *e)
{
    struct schema_change s = batch_schema_change(m->b, e);
    return selection_wants_table(m->sel, s.table, OP_NONE) ||
           (s.table_before.n && selection_wants_table(m->sel, s.table_before, OP_NONE));
}

static int make_schema_change(struct making *m, const struct entry *e, struct err *err)
{
    struct position at = batch_entry_position(m->b, e, &m->fm->json.begin);
    if (position_cmp(at, m->skip) <= 0 || !schema_change_wanted(m, e))
        return 0;
    put_begin(m);
    m->f->got = true;
    ids_add(&m->f->uses, &m->f->use_count, e->relation);
    if (!m->sel->text) {
        buf_put(m->out, m->b->data + e->off, e->end - e->off);
        return 0;
    }
    separate(m);
    return json_schema_change(m->out, &m->fm->json, m->b, e, err);
}

static void make_begin(struct making *m, const struct entry *e)
{
    struct begin begin = batch_begin(m->b, e);
    m->begin = e;
    m->begin_put = m->begin_continued = false;
    m->lsn = begin.lsn;
    if (!begin.continued)
        m->f->got = false;
    json_context_begin(&m->fm->json, m->b, e);
}

static void make_end(struct making *m, const struct entry *e)
{
    struct position at = batch_entry_position(m->b, e, &m->fm->json.begin);
    m->f->passed = u64_max(m->f->passed, batch_end_lsn(m->b, e));
    m->f->last = at;
    if (m->f->got && position_cmp(at, m->skip) > 0) {
        put_begin(m);
        if (m->sel->text) {
            separate(m);
            json_end(m->out, &m->fm->json, m->b, e);
        } else {
            buf_put(m->out, m->b->data + e->off, e->end - e->off);
        }
        m->f->told = m->f->passed;
    }
    m->f->open = m->f->got = false;
}

static bool mark_wanted(const struct making *m, const struct entry *e)
{
    switch (e->kind) {
    case ENTRY_PROGRESS:
        return m->sel->everything; // else told once a second at most, by the subscription
    case ENTRY_SNAPSHOT:
        return selection_wants_table(m->sel, batch_snapshot_mark(m->b, e).table, OP_READ);
    default: // a gap
        return true;
    }
}

// What stands outside of transactions: a progress, a snapshot's mark, a gap.
static void make_mark(struct making *m, const struct entry *e)
{
    struct position at = batch_entry_position(m->b, e, NULL);
    m->f->passed = u64_max(m->f->passed, entry_passed(m->b, e));
    m->f->last = at;
    if (position_cmp(at, m->skip) <= 0 || !mark_wanted(m, e))
        return;
    m->f->told = m->f->passed;
    if (!m->sel->text) {
        buf_put(m->out, m->b->data + e->off, e->end - e->off);
        return;
    }
    separate(m);
    if (e->kind == ENTRY_PROGRESS)
        json_progress(m->out, &m->fm->json, batch_progress_lsn(m->b, e), m->f->last);
    else if (e->kind == ENTRY_SNAPSHOT)
        json_snapshot_mark(m->out, &m->fm->json, m->b, e);
    else
        json_gap(m->out, &m->fm->json, m->b, e);
}

// The frame has used another shape of this one's table already. A frame's relations are told before
// it, so it can have one shape of each table only.
static bool reshaped(const struct making *m, uint32_t id)
{
    const struct frame *f = m->f;
    const struct relation *r =
        ids_have(f->uses, f->use_count, id) ? NULL : catalog_get(m->fm->catalog, id);
    for (uint32_t i = 0; r && i < f->use_count; i++) {
        const struct relation *used = catalog_get(m->fm->catalog, f->uses[i]);
        if (used && strcmp(used->table, r->table) == 0)
            return true;
    }
    return false;
}

// Takes the entries of one batch from `from` on; stops where the frame is large enough, or where a
// table has changed its shape.
static int make_batch(struct making *m, const struct batch *b, uint32_t from, struct err *err)
{
    size_t limit = size_min(FRAME_LARGE_BYTES, m->fm->frame_bytes_max);
    bool cut = b->n > limit || m->sel->text;
    m->b = b;
    m->begin = NULL;
    m->f->next_entry = 0;
    for (uint32_t i = 0; i < b->entry_count; i++) {
        const struct entry *e = &b->entries[i];
        if (i < from) { // in the frames before; only its transaction matters
            if (e->kind == ENTRY_BEGIN) {
                bool got = m->f->got;
                make_begin(m, e);
                m->f->got = got;
            }
            m->begin_continued = m->begin_continued || e->kind == ENTRY_CHANGE;
            continue;
        }
        size_t used = m->out->n - FRAME_HEADROOM;
        bool row = e->kind == ENTRY_CHANGE || e->kind == ENTRY_SCHEMA;
        size_t next = row ? size_min(e->end - e->off, limit) : 0;
        // Not between a schema change and the change that it belongs to.
        bool cuts = i == from || b->entries[i - 1].kind != ENTRY_SCHEMA;
        if ((cut && cuts && m->f->changes > 0 && used + next > limit) ||
            (row && reshaped(m, e->relation))) {
            m->f->next_entry = i;
            return 0;
        }
        if (e->kind == ENTRY_CHANGE) {
            if (make_change(m, e, err) != 0)
                return -1;
        } else if (e->kind == ENTRY_SCHEMA) {
            if (make_schema_change(m, e, err) != 0)
                return -1;
        } else if (e->kind == ENTRY_BEGIN) {
            make_begin(m, e);
        } else if (e->kind == ENTRY_END) {
            make_end(m, e);
        } else if (e->kind == ENTRY_PROGRESS || e->kind == ENTRY_SNAPSHOT || e->kind == ENTRY_GAP) {
            make_mark(m, e);
        } // relations are sent by need, as sessions differ
    }
    return 0;
}

static void make_borrowed(struct frame *f, const struct frame_view *v)
{
    f->borrowed = batch_ref(v->b);
    f->data = v->b->data;
    f->n = v->b->n;
    f->open = v->b->flags & BATCH_PARTIAL;
    f->got = f->open;
    f->passed = f->told = v->passed;
    f->last = v->b->last;
    f->changes = v->b->change_count;
    for (uint32_t i = 0; i < v->relation_count; i++)
        ids_add(&f->uses, &f->use_count, v->relations[i]);
}

// Not a batch with shapes in it: those are told by need, and noted for each connection.
static bool borrows(const struct frame_maker *fm, const struct frame_key *key,
                    const struct batch *b, size_t count)
{
    return fm->borrow && key->sel->everything && !key->sel->text && key->entry == 0 &&
           !(b->flags & BATCH_RELATION) &&
           b->n <= size_min(FRAME_LARGE_BYTES, fm->frame_bytes_max) &&
           (count == 1 || b->n >= FRAME_SMALL_BYTES);
}

static int make_own(struct making *m, struct batch *const *batches, size_t count, struct err *err)
{
    struct frame *f = m->f;
    open_frame(f, m->sel);
    f->more = count > 1 ? xmalloc((count - 1) * sizeof(struct batch *)) : NULL;
    m->out = &f->own;
    size_t empty = f->own.n;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && (f->next_entry > 0 || f->own.n + batches[i]->n > FRAME_SMALL_BYTES))
            break;
        if (i > 0)
            f->more[f->more_count++] = batch_ref(batches[i]);
        if (make_batch(m, batches[i], i == 0 ? f->key.entry : 0, err) != 0)
            return -1;
    }
    close_frame(f, m->sel, empty);
    return 0;
}

int frame_make(struct frame_maker *fm, const struct frame_key *key, struct batch *const *batches,
               size_t count, struct position skip, struct frame **ret_f, struct err *e)
{
    CHECK(count >= 1 && count <= FRAME_BATCHES_MAX);
    bool mine, skips = position_cmp(batches[0]->first, skip) <= 0;
    struct frame_view *v = view_get(fm, batches[0], &mine);
    struct frame *f = frame_new(key);
    int r = 0;
    if (!skips && borrows(fm, key, batches[0], count)) {
        make_borrowed(f, v);
    } else {
        struct making m = {.fm = fm, .f = f, .sel = key->sel, .skip = skip};
        r = make_own(&m, batches, count, e);
    }
    if (r == 0 && batches[0]->sealed_us && !(batches[0]->flags & BATCH_ASIDE))
        f->commit_time_us = batches[0]->commit_time_us;
    if (r == 0 && !mine && !skips)
        view_keep(fm, v, f);
    if (mine)
        view_free(v);
    if (r != 0) {
        frame_unref(f);
        return -1;
    }
    *ret_f = f;
    return 0;
}

// ---- small ones ----

static struct frame *small_new(const struct selection *sel)
{
    struct frame *f = frame_new(&(struct frame_key){0});
    open_frame(f, sel);
    return f;
}

struct frame *frame_relations(struct frame_maker *fm, const struct selection *sel,
                              const uint32_t *ids, size_t count)
{
    struct frame *f = small_new(sel);
    size_t empty = f->own.n;
    for (size_t i = 0; i < count; i++) {
        const struct relation *r = catalog_get(fm->catalog, ids[i]);
        if (!r)
            continue;
        if (sel->text) {
            if (f->own.n > empty)
                buf_putc(&f->own, ',');
            json_relation(&f->own, r);
        } else {
            AUTO_BUF struct buf entry = {0};
            wire_bytes(&entry, ENTRY_RELATION, r->encoded.p, r->encoded.n);
            wire_bytes(&f->own, 1, entry.p, entry.n);
        }
    }
    close_frame(f, sel, empty);
    return f;
}

// An entry whose message has an LSN, and an ordinal if it is not 0.
static void put_place(struct buf *out, enum entry_kind kind, lsn_t lsn, uint64_t ordinal)
{
    AUTO_BUF struct buf body = {0}, entry = {0};
    wire_fixed64(&body, 1, lsn);
    if (ordinal)
        wire_uint(&body, 2, ordinal);
    wire_bytes(&entry, kind, body.p, body.n);
    wire_bytes(out, 1, entry.p, entry.n);
}

struct frame *frame_restart(const struct selection *sel, lsn_t lsn)
{
    struct frame *f = small_new(sel);
    if (sel->text)
        buf_printf(&f->own, "{\"type\":\"restart\",\"lsn\":\"" LSN_FMT "\"}", LSN_ARG(lsn));
    else
        put_place(&f->own, ENTRY_RESTART, lsn, 0);
    close_frame(f, sel, 0);
    return f;
}

struct frame *frame_progress(struct frame_maker *fm, const struct selection *sel, lsn_t lsn,
                             struct position at)
{
    struct frame *f = small_new(sel);
    struct position whole = position_before(lsn);
    bool aside = at.ordinal >= ORDINAL_ASIDE && at.lsn == whole.lsn;
    if (sel->text)
        json_progress(&f->own, &fm->json, lsn, aside ? at : whole);
    else
        put_place(&f->own, ENTRY_PROGRESS, lsn, aside ? at.ordinal : 0);
    close_frame(f, sel, 0);
    f->told = lsn;
    return f;
}
