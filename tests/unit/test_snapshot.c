// The coordinator of snapshots, with a journal that takes notes and chunks that are made here: what
// is ordered, when it is emitted, what is laid over it, and what survives the end of the process.
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

static void tell_row(struct buf *story, struct slice after)
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

void journal_append(struct journal *j, struct batch *b)
{
    assert_true(b->flags & BATCH_ASIDE);
    assert_true(b->first.ordinal >= ORDINAL_ASIDE);
    assert_true(position_cmp(b->first, j->last) > 0);
    j->last = b->last;
    BATCH_FOREACH (b, e) {
        if (e->kind == ENTRY_SNAPSHOT) {
            struct snapshot_mark m = batch_snapshot_mark(b, e);
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
    const struct relation *renewed;
    lsn_t wal;
};

static void take_order(void *arg, struct chunk_order *o)
{
    struct fixture *f = arg;
    assert_true(f->order_n < ARRAY_LEN(f->orders));
    f->orders[f->order_n++] = *o;
}

static struct chunk *give_chunk(void *arg)
{
    struct fixture *f = arg;
    if (f->ready_n == 0)
        return NULL;
    struct chunk *c = f->ready[0];
    memmove(f->ready, f->ready + 1, --f->ready_n * sizeof f->ready[0]);
    return c;
}

static void cancel(void *arg)
{
    struct fixture *f = arg;
    for (size_t i = 0; i < f->order_n; i++)
        chunk_order_fini(&f->orders[i]);
    for (size_t i = 0; i < f->ready_n; i++)
        chunk_free(f->ready[i]);
    f->order_n = f->ready_n = 0;
}

static size_t pending(void *arg)
{
    return ((struct fixture *)arg)->order_n;
}

static size_t threads(void *arg)
{
    (void)arg;
    return 1;
}

static int renew(void *arg, const struct table_info *info, const struct relation **ret_r,
                 struct err *e)
{
    struct fixture *f = arg;
    (void)info, (void)e;
    *ret_r = f->renewed ? f->renewed : catalog_latest(f->journal.catalog, "public.t");
    return 0;
}

static int wal_lsn(void *arg, lsn_t *ret_lsn, struct err *e)
{
    (void)e;
    *ret_lsn = ((struct fixture *)arg)->wal;
    return 0;
}

static void begin_process(struct fixture *f, bool fresh)
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
    snapshot_start(f->s, false);
}

static struct fixture *setup(bool keyless)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->source = (struct source_options){.snapshot = SNAPSHOT_MODE_INITIAL, .batch_bytes = 4096};
    health_init(&f->health);
    f->keyless = keyless;
    f->filenode = 77;
    f->wal = 5000;
    f->journal.catalog = catalog_new();
    f->journal.last = (struct position){999, ORDINAL_END};
    f->journal.appended = 1000;
    catalog_add(f->journal.catalog, make_relation(1, keyless, false));
    begin_process(f, true);
    return f;
}

static void teardown(struct fixture *f)
{
    snapshot_free(f->s, true);
    catalog_free(f->journal.catalog);
    buf_free(&f->journal.story);
    buf_free(&f->journal.side);
    pthread_mutex_destroy(&f->health.lock);
    free(f);
}

static void step(struct fixture *f, lsn_t passed)
{
    snapshot_step(f->s, passed);
}

// Takes the i-th order out; its chunk is to be filled and given back by `answer`.
static struct chunk *chunk_of(struct fixture *f, size_t i)
{
    assert_true(i < f->order_n);
    struct chunk *c = xcalloc(1, sizeof *c);
    c->order = f->orders[i];
    memmove(f->orders + i, f->orders + i + 1, (--f->order_n - i) * sizeof f->orders[0]);
    c->end = true;
    return c;
}

static void answer(struct fixture *f, struct chunk *c)
{
    f->ready[f->ready_n++] = c;
}

// Answers the only order, which asks for a plan: one part of `pages` pages.
static void answer_plan(struct fixture *f, uint64_t pages)
{
    assert_int_equal(f->order_n, 1);
    assert_int_equal(f->orders[0].kind, CHUNK_PLAN);
    struct chunk *c = chunk_of(f, 0);
    struct chunk_plan *p = c->plan = xcalloc(1, sizeof *p);
    p->n = 1;
    struct chunk_table *t = p->tables = xcalloc(1, sizeof *t);
    t->table = xstrdup("public.t");
    t->terms = xstrdup("all");
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

static void see(struct chunk *c, uint64_t xmin, uint64_t xmax, uint64_t running, lsn_t insert)
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

static void put_row(struct fixture *f, struct chunk *c, uint32_t id, const char *note)
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
static bool change(struct fixture *f, uint32_t xid, uint32_t relation, enum op op, uint32_t id,
                   const char *note)
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

static void expect(struct fixture *f, const char *story)
{
    assert_string_equal(buf_cstr(&f->journal.story), story);
}

// Up to the chunk's order, which covers all of the table.
static struct chunk *ordered(struct fixture *f)
{
    step(f, 1000);
    answer_plan(f, 5);
    step(f, 1000);
    return chunk_of(f, 0);
}

// ---- tables with a key ----

static void a_chunk_waits_for_the_stream(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    assert_true(snapshot_busy(f->s));
    struct chunk *c = ordered(f);
    expect(f, "begin ");
    assert_true(*snapshot_watching(f->s));
    see(c, 700, 705, 702, 2000);
    put_row(f, c, 1, "one");
    put_row(f, c, 2, "two");
    put_row(f, c, 3, "three");
    assert_true(change(f, 703, 1, OP_UPDATE, 1, "seen")); // before it came, but seen by it
    assert_true(change(f, 702, 1, OP_UPDATE, 2, "="));    // not seen: the held value stays
    answer(f, c);
    step(f, 1500);
    assert_int_equal(*snapshot_due(f->s), 2000);
    assert_true(change(f, 706, 1, OP_DELETE, 3, NULL));
    assert_true(change(f, 707, 1, OP_INSERT, 9, "nine")); // in the stream
    step(f, 1999);
    expect(f, "begin ");
    f->journal.no_room = true;
    step(f, 2000);
    expect(f, "begin ");
    f->journal.no_room = false;
    f->journal.cut.lsn = 5000; // a reader may stand inside of it
    step(f, 2000);
    expect(f, "begin ");
    f->journal.cut.lsn = 0;
    step(f, 2000);
    expect(f, "begin 1:one 2:two end(2) ");
    assert_false(snapshot_busy(f->s));
    assert_false(*snapshot_watching(f->s));
    teardown(f);
}

// An insert position right behind a page's head is where the page begins, for the stream.
static void the_head_of_a_page_is_not_waited_for(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    struct chunk *c = ordered(f);
    see(c, 700, 700, 0, 8192 + 24);
    answer(f, c);
    step(f, 8191);
    expect(f, "begin ");
    step(f, 8192);
    expect(f, "begin end(0) ");
    teardown(f);
}

// It was journaled before the table was begun, and the chunk's query did not see it.
static void a_transaction_about_to_be_visible_is_waited_for(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    snapshot_transaction(f->s, 701);
    struct chunk *c = ordered(f);
    see(c, 701, 705, 701, 1100);
    put_row(f, c, 1, "stale");
    answer(f, c);
    step(f, 1200);
    expect(f, "begin ");
    assert_true(snapshot_deadline(f->s) < INT64_MAX);
    for (int i = 0; i < 1000 && f->order_n == 0; i++) { // ordered again after a while
        struct timespec wait = {.tv_nsec = 1000000};
        nanosleep(&wait, NULL);
        step(f, 1200);
    }
    c = chunk_of(f, 0);
    assert_int_equal(c->order.place_to, CHUNK_PLACE(5, 0));
    see(c, 705, 705, 0, 1100);
    put_row(f, c, 1, "fresh");
    answer(f, c);
    step(f, 1200);
    expect(f, "begin 1:fresh end(1) ");
    teardown(f);
}

// A hot table whose transactions are always in WAL a little before they are visible.
static void a_hot_table_comes_to_its_end(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    step(f, 1000);
    answer_plan(f, 100); // ten chunks
    for (uint32_t i = 0; i < 10; i++) {
        step(f, 1000 + 10 * i);
        struct chunk *c = chunk_of(f, 0);
        assert_true(change(f, 800 + i, 1, OP_UPDATE, i, "hot")); // journaled, then not seen
        see(c, 800 + i, 801 + i, 800 + i, 1000 + 10 * i);
        put_row(f, c, i, "old");
        answer(f, c);
        step(f, 1000 + 10 * i);
    }
    step(f, 2000);
    expect(f, "begin 0:hot 1:hot 2:hot 3:hot 4:hot 5:hot 6:hot 7:hot 8:hot 9:hot end(10) ");
    teardown(f);
}

// A large value that did not change, of a row that no chunk held: it is asked for by its key.
static void a_large_value_is_asked_for(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    struct chunk *c = ordered(f);
    assert_true(change(f, 702, 1, OP_UPDATE, 8, "="));
    assert_true(change(f, 703, 1, OP_UPDATE, 9, "="));
    assert_true(change(f, 704, 1, OP_UPDATE, 9, "whole")); // the stream has it now
    see(c, 705, 705, 0, 1100);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1100);
    assert_int_equal(f->order_n, 1);
    c = chunk_of(f, 0);
    assert_int_equal(c->order.kind, CHUNK_LIST);
    assert_int_equal(c->order.key_n, 1);
    see(c, 706, 706, 0, 1200);
    put_row(f, c, 8, "large");
    answer(f, c);
    step(f, 1199);
    assert_true(change(f, 710, 1, OP_UPDATE, 8, "=")); // held: laid over, not asked for again
    step(f, 1200);
    expect(f, "begin 1:one 8:large end(2) ");
    teardown(f);
}

// The row is gone when it is asked for: its delete is in the stream.
static void a_large_value_of_a_row_that_is_gone(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    struct chunk *c = ordered(f);
    assert_true(change(f, 702, 1, OP_UPDATE, 8, "="));
    see(c, 705, 705, 0, 1100);
    answer(f, c);
    step(f, 1100);
    c = chunk_of(f, 0);
    see(c, 706, 706, 0, 1200);
    answer(f, c);
    step(f, 1200);
    expect(f, "begin end(0) ");
    teardown(f);
}

static void after_a_truncation_nothing_is_left_to_read(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    step(f, 1000);
    answer_plan(f, 100);
    step(f, 1000);
    struct chunk *c = chunk_of(f, 0);
    see(c, 700, 700, 0, 1100);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1000);
    assert_true(change(f, 701, 1, OP_TRUNCATE, 0, NULL));
    while (f->order_n) { // what is under way is of no use
        c = chunk_of(f, 0);
        see(c, 700, 700, 0, 1100);
        put_row(f, c, 2, "two");
        answer(f, c);
    }
    step(f, 1100);
    expect(f, "begin end(0) ");
    teardown(f);
}

static void held_rows_are_read_again_after_a_lost_connection(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    struct chunk *c = ordered(f);
    see(c, 700, 700, 0, 1100);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1050);
    snapshot_lost(f->s);
    snapshot_start(f->s, false);
    step(f, 1100);
    answer_plan(f, 5);
    step(f, 1100);
    c = chunk_of(f, 0);
    see(c, 701, 701, 0, 1200);
    put_row(f, c, 1, "new");
    answer(f, c);
    step(f, 1200);
    expect(f, "begin 1:new end(1) ");
    teardown(f);
}

// ---- after the end of the process ----

static void die(struct fixture *f)
{
    snapshot_free(f->s, false);
}

// Reads the first of two chunks, and asks for a row of which a large value is missing.
static void read_half(struct fixture *f)
{
    step(f, 1000);
    answer_plan(f, 20);
    step(f, 1000);
    assert_int_equal(f->order_n, 2);
    struct chunk *c = chunk_of(f, 0);
    assert_int_equal(c->order.place_to, CHUNK_PLACE(10, 0));
    assert_true(change(f, 690, 1, OP_UPDATE, 8, "="));
    see(c, 700, 700, 0, 1100);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1100);
    expect(f, "begin 1:one ");
}

static void what_was_emitted_is_not_read_again(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    read_half(f);
    die(f);
    begin_process(f, false);
    step(f, 1100);
    answer_plan(f, 20);
    step(f, 1100);
    assert_int_equal(f->order_n, 1);
    struct chunk *c = chunk_of(f, 0);
    assert_int_equal(c->order.place_from, CHUNK_PLACE(10, 0));
    see(c, 700, 700, 0, 1100);
    put_row(f, c, 2, "two");
    answer(f, c);
    step(f, 1100);
    c = chunk_of(f, 0); // remembered
    assert_int_equal(c->order.kind, CHUNK_LIST);
    see(c, 700, 700, 0, 1100);
    put_row(f, c, 8, "large");
    answer(f, c);
    step(f, 1100);
    expect(f, "begin 1:one 2:two 8:large end(3) ");
    die(f);
    begin_process(f, false);
    assert_false(snapshot_busy(f->s));
    teardown(f);
}

// The journal lost what was emitted last: that is read again.
static void what_the_journal_lost_is_read_again(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    read_half(f);
    die(f);
    f->journal.last = (struct position){999, ORDINAL_ASIDE}; // it has the mark only
    begin_process(f, false);
    step(f, 1100);
    answer_plan(f, 20);
    step(f, 1100);
    struct chunk *c = chunk_of(f, 0);
    assert_int_equal(c->order.place_from, 0);
    chunk_free(c);
    snapshot_lost(f->s);
    teardown(f);
}

// Another file: its pages say nothing of those that were read.
static void a_rewritten_table_is_begun_again(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    read_half(f);
    struct chunk *c = chunk_of(f, 0);
    c->status = CHUNK_STALE;
    answer(f, c);
    f->filenode = 78;
    step(f, 1100);
    step(f, f->wal);
    answer_plan(f, 5);
    step(f, f->wal);
    answer_plan(f, 5);
    step(f, f->wal);
    expect(f, "begin 1:one restart ");
    c = chunk_of(f, 0);
    assert_int_equal(c->order.place_from, 0);
    see(c, 700, 700, 0, 1100);
    put_row(f, c, 1, "other");
    answer(f, c);
    step(f, f->wal);
    expect(f, "begin 1:one restart 1:other end(1) ");
    teardown(f);
}

static void a_new_shape_begins_the_table_again(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    read_half(f);
    catalog_add(f->journal.catalog, make_relation(2, false, true));
    assert_true(change(f, 720, 2, OP_INSERT, 30, "x"));
    answer(f, chunk_of(f, 0)); // of the old shape
    step(f, 1100);
    answer_plan(f, 5);
    step(f, 1100);
    struct chunk *c = chunk_of(f, 0);
    assert_int_equal(c->order.relation->id, 2);
    see(c, 721, 721, 0, 1100);
    answer(f, c);
    step(f, 1100);
    expect(f, "begin 1:one restart end(0) ");
    teardown(f);
}

static void a_table_is_asked_for_while_it_runs(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    f->source.snapshot = SNAPSHOT_MODE_NEVER;
    AUTO_BUF struct buf out = {0};
    struct err e;
    assert_int_equal(snapshot_request(f->s, "t", &out, &e), -1);
    assert_non_null(strstr(e.text, "is being read already"));
    struct chunk *c = ordered(f);
    see(c, 700, 700, 0, 1000);
    answer(f, c);
    step(f, 1000);
    expect(f, "begin end(0) ");
    assert_int_equal(snapshot_request(f->s, "nothing", &out, &e), -1);
    assert_non_null(strstr(e.text, "no table that is published"));
    buf_clear(&out);
    assert_int_equal(snapshot_request(f->s, "public.*", &out, &e), 0);
    assert_string_equal(buf_cstr(&out), "public.t: queued\n");
    c = ordered(f);
    see(c, 700, 700, 0, 1000);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1000);
    expect(f, "begin end(0) begin 1:one end(1) ");
    snapshot_lost(f->s);
    snapshot_start(f->s, true);
    assert_int_equal(snapshot_request(f->s, "t", &out, &e), -1);
    assert_non_null(strstr(e.text, "standby"));
    teardown(f);
}

// ---- tables without one ----

static void a_bag_is_exact_from_its_mark_on(void **state)
{
    (void)state;
    struct fixture *f = setup(true);
    step(f, 1000);
    answer_plan(f, 5);
    step(f, 1000);
    struct chunk_order order = f->orders[0];
    assert_int_equal(order.kind, CHUNK_WHOLE);
    assert_true(change(f, 701, 1, OP_INSERT, 5, "seen"));
    assert_true(change(f, 705, 1, OP_INSERT, 6, "not seen"));
    assert_true(change(f, 705, 1, OP_DELETE, 2, "two"));
    struct chunk *part = xcalloc(1, sizeof *part);
    part->order = order;
    part->status = CHUNK_MORE;
    see(part, 703, 703, 0, 0);
    put_row(f, part, 1, "one");
    answer(f, part);
    step(f, 1000);
    expect(f, "begin 6:not seen 1:one ");
    assert_false(change(f, 702, 1, OP_INSERT, 3, "three")); // it is among those read
    assert_true(change(f, 706, 1, OP_INSERT, 7, "seven"));
    struct chunk *c = chunk_of(f, 0);
    see(c, 703, 703, 0, 2000);
    put_row(f, c, 2, "two"); // deleted before the mark
    put_row(f, c, 3, "three");
    put_row(f, c, 5, "seen");
    answer(f, c);
    step(f, 1999);
    expect(f, "begin 6:not seen 1:one 3:three 5:seen ");
    step(f, 2000);
    expect(f, "begin 6:not seen 1:one 3:three 5:seen end(4) ");
    teardown(f);
}

static void a_bag_is_begun_again_after_a_lost_connection(void **state)
{
    (void)state;
    struct fixture *f = setup(true);
    struct chunk *c = ordered(f);
    see(c, 703, 703, 0, 2000);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1000);
    expect(f, "begin 1:one ");
    snapshot_lost(f->s);
    snapshot_start(f->s, false);
    assert_true(change(f, 702, 1, OP_INSERT, 3, "three")); // no mark stands: nothing is left out
    c = ordered(f);
    see(c, 710, 710, 0, 2000);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1000);
    expect(f, "begin 1:one restart 1:one ");
    step(f, 2000);
    expect(f, "begin 1:one restart 1:one end(1) ");
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_waits_for_the_stream),
        cmocka_unit_test(the_head_of_a_page_is_not_waited_for),
        cmocka_unit_test(a_transaction_about_to_be_visible_is_waited_for),
        cmocka_unit_test(a_hot_table_comes_to_its_end),
        cmocka_unit_test(a_large_value_is_asked_for),
        cmocka_unit_test(a_large_value_of_a_row_that_is_gone),
        cmocka_unit_test(after_a_truncation_nothing_is_left_to_read),
        cmocka_unit_test(held_rows_are_read_again_after_a_lost_connection),
        cmocka_unit_test(what_was_emitted_is_not_read_again),
        cmocka_unit_test(what_the_journal_lost_is_read_again),
        cmocka_unit_test(a_rewritten_table_is_begun_again),
        cmocka_unit_test(a_new_shape_begins_the_table_again),
        cmocka_unit_test(a_table_is_asked_for_while_it_runs),
        cmocka_unit_test(a_bag_is_exact_from_its_mark_on),
        cmocka_unit_test(a_bag_is_begun_again_after_a_lost_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
