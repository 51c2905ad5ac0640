// A coordinator of snapshots with a journal that takes notes and chunks that are made by hand. A
// test that includes it defines the functions of the journal that are called.
#pragma once

#include "snapshot_rows.h"

#include "base/metrics.h"
#include "source/snapshot/snapshot.h"

#include <stdio.h>

// ---- a journal that takes notes ----

struct journal {
    struct catalog *catalog;
    struct buf story; // "begin 1:a 2:b end(2) .." of what was appended
    struct position last;
    lsn_t appended;
    bool no_room;
    struct journal_cut cut;
    struct buf side;
    bool has_side;
    size_t side_synced; // bytes
};

struct catalog *journal_catalog(struct journal *j)
{
    return j->catalog;
}
struct position journal_last(struct journal *j)
{
    return j->last;
}
struct cursor journal_latest(struct journal *j)
{
    return (struct cursor){.at = j->last};
}
lsn_t journal_appended(struct journal *j)
{
    return j->appended;
}
bool journal_has_room(struct journal *j, const char **ret_why)
{
    (void)ret_why;
    return !j->no_room;
}
struct journal_cut journal_pending_cut(struct journal *j)
{
    return j->cut;
}
int journal_side_read(struct journal *j, const char *name, struct buf *ret, bool *ret_found,
                      struct err *e)
{
    (void)name, (void)e;
    buf_put(ret, j->side.p, j->side.n);
    *ret_found = j->has_side;
    return 0;
}
int journal_side_replace(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    (void)name, (void)e;
    struct buf now = {0};
    buf_put(&now, bytes.p, bytes.n);
    buf_free(&j->side);
    j->side = now;
    j->has_side = true;
    j->side_synced = now.n;
    return 0;
}
int journal_side_sync(struct journal *j, const char *name, struct err *e)
{
    (void)name, (void)e;
    j->side_synced = j->side.n;
    return 0;
}
int journal_side_append(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    (void)name, (void)e;
    buf_put(&j->side, bytes.p, bytes.n);
    j->has_side = true;
    return 0;
}

const struct relation *journal_told(struct journal *j, uint32_t oid, const char *table)
{
    (void)j, (void)oid, (void)table;
    return NULL;
}
void journal_tell(struct journal *j, uint32_t id, struct position at)
{
    (void)j, (void)id, (void)at;
}

static inline void tell_row(struct buf *story, struct slice after)
{
    struct reader r = reader_of(after.p, after.n);
    struct wire_field f;
    AUTO_BUF struct buf note = {0};
    unsigned id = 0;
    while (wire_next(&r, &f)) {
        if (f.number == 1)
            id = (unsigned)f.v;
        if (f.number == 2)
            buf_put(&note, f.bytes.p, f.bytes.n);
    }
    buf_printf(story, "%u:%s ", id, buf_cstr(&note));
}

// The last line says that a table begins, and is synced: its check, then the kind.
static inline void begin_is_durable(const struct journal *j)
{
    size_t line = j->side.n - 1;
    assert_int_equal(j->side_synced, j->side.n);
    while (line > 0 && j->side.p[line - 1] != '\n')
        line--;
    assert_int_equal(j->side.p[line + 17], 'B');
}

void journal_append(struct journal *j, struct batch *b)
{
    assert_true(b->flags & (BATCH_ASIDE | BATCH_PROGRESS));
    assert_true((b->flags & BATCH_PROGRESS) || b->first.ordinal >= ORDINAL_ASIDE);
    assert_true(position_cmp(b->first, j->last) > 0);
    j->last = b->last;
    BATCH_FOREACH (b, e) {
        if (e->kind == ENTRY_SNAPSHOT) {
            struct snapshot_mark m = batch_snapshot_mark(b, e);
            if (m.step != SNAPSHOT_END) // whoever sees it can count on the end
                begin_is_durable(j);
            buf_printf(&j->story, "%s", snapshot_step_name(m.step));
            if (m.step == SNAPSHOT_END)
                buf_printf(&j->story, "(%u)", (unsigned)m.rows);
            buf_putc(&j->story, ' ');
        }
        if (e->kind != ENTRY_CHANGE)
            continue;
        struct change c = batch_change(b, e);
        assert_int_equal(c.op, OP_READ);
        assert_int_equal(c.unchanged.n, 0);
        tell_row(&j->story, c.after);
    }
    batch_unref(b);
}

// ---- chunks that are made here ----

struct fixture {
    struct source_options source;
    struct health health;
    struct journal journal;
    struct snapshot *s;
    struct chunk_order orders[16]; // given, not answered
    size_t order_n;
    struct chunk *ready[16];
    size_t ready_n;
    bool keyless;
    uint64_t filenode;
    const char *terms;
    const struct relation *renewed;
    lsn_t wal;
};

static inline void take_order(void *arg, struct chunk_order *o)
{
    struct fixture *f = arg;
    assert_true(f->order_n < ARRAY_LEN(f->orders));
    f->orders[f->order_n++] = *o;
}

static inline struct chunk *give_chunk(void *arg)
{
    struct fixture *f = arg;
    if (f->ready_n == 0)
        return NULL;
    struct chunk *c = f->ready[0];
    f->ready_n--;
    for (size_t i = 0; i < f->ready_n; i++)
        f->ready[i] = f->ready[i + 1];
    return c;
}

static inline void cancel(void *arg)
{
    struct fixture *f = arg;
    for (size_t i = 0; i < f->order_n; i++)
        chunk_order_fini(&f->orders[i]);
    for (size_t i = 0; i < f->ready_n; i++)
        chunk_free(f->ready[i]);
    f->order_n = f->ready_n = 0;
}

static inline size_t pending(void *arg)
{
    return ((struct fixture *)arg)->order_n;
}

static inline size_t threads(void *arg)
{
    (void)arg;
    return 1;
}

static inline int renew(void *arg, const struct table_info *info, const struct relation **ret_r,
                        struct err *e)
{
    struct fixture *f = arg;
    (void)info, (void)e;
    *ret_r = f->renewed ? f->renewed : catalog_latest(f->journal.catalog, "public.t");
    return 0;
}

static inline int wal_lsn(void *arg, lsn_t *ret_lsn, struct err *e)
{
    (void)e;
    *ret_lsn = ((struct fixture *)arg)->wal;
    return 0;
}

static inline void begin_process(struct fixture *f, bool fresh)
{
    struct err e;
    f->s = snapshot_new(&(struct snapshot_options){
        .source = &f->source,
        .journal = &f->journal,
        .health = &f->health,
        .chunks = {f, take_order, give_chunk, cancel, pending, threads},
        .renew = renew,
        .wal_lsn = wal_lsn,
        .arg = f,
    });
    snapshot_table(f->s, "public.t", NULL);
    assert_int_equal(snapshot_prepare(f->s, fresh, 1, &e), 0);
    snapshot_start(f->s, false, 0);
}

static inline struct fixture *setup(bool keyless)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->source = (struct source_options){.snapshot = SNAPSHOT_MODE_INITIAL, .batch_bytes = 4096};
    health_init(&f->health);
    f->keyless = keyless;
    f->filenode = 77;
    f->terms = "all";
    f->wal = 5000;
    f->journal.catalog = catalog_new();
    f->journal.last = (struct position){999, ORDINAL_END};
    f->journal.appended = 1000;
    catalog_add(f->journal.catalog, make_relation(1, keyless, false));
    begin_process(f, true);
    return f;
}

static inline void teardown(struct fixture *f)
{
    snapshot_free(f->s, true);
    catalog_free(f->journal.catalog);
    buf_free(&f->journal.story);
    buf_free(&f->journal.side);
    pthread_mutex_destroy(&f->health.lock);
    free(f);
}

// The process ends without a word; nothing was given back.
static inline void kill_process(struct fixture *f)
{
    snapshot_free(f->s, false);
    cancel(f);
}

static inline void step(struct fixture *f, lsn_t passed)
{
    snapshot_step(f->s, passed);
}

// Takes the i-th order out; its chunk is to be filled and given back by `answer`.
static inline struct chunk *chunk_of(struct fixture *f, size_t i)
{
    assert_true(i < f->order_n);
    struct chunk *c = xcalloc(1, sizeof *c);
    c->order = f->orders[i];
    memmove(f->orders + i, f->orders + i + 1, (--f->order_n - i) * sizeof f->orders[0]);
    c->end = true;
    return c;
}

static inline void answer(struct fixture *f, struct chunk *c)
{
    f->ready[f->ready_n++] = c;
}

// Answers the only order, which asks for a plan: one part of `pages` pages.
static inline void answer_plan(struct fixture *f, uint64_t pages)
{
    assert_int_equal(f->order_n, 1);
    assert_int_equal(f->orders[0].kind, CHUNK_PLAN);
    struct chunk *c = chunk_of(f, 0);
    struct chunk_plan *p = c->plan = xcalloc(1, sizeof *p);
    p->n = 1;
    struct chunk_table *t = p->tables = xcalloc(1, sizeof *t);
    t->table = xstrdup("public.t");
    t->terms = xstrdup(f->terms);
    t->info = (struct table_info){
        .oid = 16384, .schema = xstrdup("public"), .name = xstrdup("t"), .replica_identity = 'd'};
    t->part_count = 1;
    t->parts = xcalloc(1, sizeof *t->parts);
    t->parts[0] = (struct chunk_part){.oid = 16384,
                                      .table = xstrdup("public.t"),
                                      .filenode = f->filenode,
                                      .pages = pages,
                                      .step = 10,
                                      .rows = -1,
                                      .kind = f->keyless ? CHUNK_WHOLE : CHUNK_PAGES};
    answer(f, c);
}

// The same where a plan may not hold for a change that came meanwhile, and is asked for once more.
static inline void answer_plans(struct fixture *f, uint64_t pages, lsn_t passed)
{
    answer_plan(f, pages);
    step(f, passed);
    if (f->orders[0].kind == CHUNK_PLAN)
        answer_plan(f, pages);
}

static inline void see(struct chunk *c, uint64_t xmin, uint64_t xmax, uint64_t running,
                       lsn_t insert)
{
    c->xmin = xmin;
    c->xmax = xmax;
    if (running) {
        c->xip = xcalloc(1, sizeof *c->xip);
        c->xip[0] = running;
        c->xip_n = 1;
    }
    c->insert_lsn = insert;
}

static inline void put_row(struct fixture *f, struct chunk *c, uint32_t id, const char *note)
{
    struct row_bytes r = row_bytes(id, note);
    c->rows = xrealloc(c->rows, (c->n + 1) * sizeof *c->rows);
    struct chunk_row *row = &c->rows[c->n++];
    *row = (struct chunk_row){.at = (uint32_t)c->data.n, .after_n = (uint32_t)r.after.n};
    if (!f->keyless) {
        row->key_n = (uint32_t)r.key.n;
        buf_put(&c->data, r.key.p, r.key.n);
    }
    buf_put(&c->data, r.after.p, r.after.n);
    row_bytes_fini(&r);
}

// A change of the stream, of relation version `relation`. note "=": not told, it is large.
static inline bool change(struct fixture *f, uint32_t xid, uint32_t relation, enum op op,
                          uint32_t id, const char *note)
{
    static const uint8_t note_number = 2;
    bool unchanged = note && strcmp(note, "=") == 0;
    struct row_bytes r = row_bytes(id, unchanged ? NULL : note);
    struct change c = {.op = op, .relation = relation};
    if (op != OP_TRUNCATE && !f->keyless)
        c.key = buf_slice(&r.key);
    if (op == OP_INSERT || op == OP_UPDATE)
        c.after = buf_slice(&r.after);
    if (op == OP_DELETE && f->keyless)
        c.before = buf_slice(&r.after);
    if (unchanged)
        c.unchanged = (struct slice){&note_number, 1};
    bool kept = snapshot_change(f->s, xid, &c);
    row_bytes_fini(&r);
    return kept;
}

// An update that gives the row another key, without its large value.
static inline bool change_key_to(struct fixture *f, uint32_t xid, uint32_t relation, uint32_t old,
                                 uint32_t id)
{
    static const uint8_t note_number = 2;
    struct row_bytes was = row_bytes(old, NULL), r = row_bytes(id, NULL);
    struct change c = {.op = OP_UPDATE,
                       .relation = relation,
                       .key = buf_slice(&was.key),
                       .after = buf_slice(&r.after),
                       .unchanged = {&note_number, 1}};
    bool kept = snapshot_change(f->s, xid, &c);
    row_bytes_fini(&was);
    row_bytes_fini(&r);
    return kept;
}

static inline void expect(struct fixture *f, const char *story)
{
    assert_string_equal(buf_cstr(&f->journal.story), story);
}

// Until something is ordered: some orders are given after a while.
static inline void wait_order(struct fixture *f, lsn_t passed)
{
    for (int i = 0; i < 5000 && f->order_n == 0; i++) {
        struct timespec wait = {.tv_nsec = 1000000};
        nanosleep(&wait, NULL);
        step(f, passed);
    }
    assert_true(f->order_n > 0);
}

// Up to the chunk's order, which covers all of the table.
static inline struct chunk *ordered(struct fixture *f)
{
    step(f, 1000);
    answer_plan(f, 5);
    wait_order(f, 1000);
    return chunk_of(f, 0);
}
