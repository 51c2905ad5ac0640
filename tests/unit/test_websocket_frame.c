// Frames: what a selection gets of a batch, how frames are cut, put together and shared, and what
// is left out of a row that is too large.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "proto/schema_change.h"
#include "proto/wire.h"
#include "sinks/websocket/frame.h"
#include "sinks/websocket/omit.h"

struct fixture {
    struct catalog *catalog;
    struct batch_builder *bb;
    struct frame_maker fm;
    struct selection *list;
    uint64_t key;
};

static struct relation *table(uint32_t id, const char *name)
{
    struct relation *r = xcalloc(1, sizeof *r);
    r->id = id;
    r->schema = xstrdup("public");
    r->name = xstrdup(name);
    r->replica_identity = 'd';
    r->column_count = 2;
    r->columns = xcalloc(2, sizeof *r->columns);
    r->columns[0] = (struct column){.name = xstrdup("id"),
                                    .type = xstrdup("integer"),
                                    .base_type = xstrdup("integer"),
                                    .number = 1,
                                    .kind = KIND_INT32,
                                    .key = true};
    r->columns[1] = (struct column){.name = xstrdup("body"),
                                    .type = xstrdup("text"),
                                    .base_type = xstrdup("text"),
                                    .number = 2,
                                    .kind = KIND_STRING};
    relation_seal(r);
    return r;
}

static int setup(void **state)
{
    struct fixture *x = xcalloc(1, sizeof *x);
    x->catalog = catalog_new();
    catalog_add(x->catalog, table(1, "a"));
    catalog_add(x->catalog, table(2, "b"));
    x->bb = batch_builder_new(64 << 10);
    frame_maker_init(&x->fm, x->catalog, 1 << 20);
    x->fm.borrow = true;
    x->fm.json.stream_id = 0xabc;
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    frame_maker_fini(&x->fm);
    batch_builder_free(x->bb);
    while (x->list)
        selection_put(&x->list, x->list);
    catalog_free(x->catalog);
    free(x);
    return 0;
}

static struct selection *selected(struct fixture *x, bool text, const char *glob)
{
    struct request q;
    struct err e;
    AUTO_BUF struct buf argument = {0};
    request_init(&q);
    if (glob) {
        buf_printf(&argument, "table=%s", glob);
        assert_int_equal(request_argument(&q, buf_cstr(&argument), &e), REQUEST_OK);
    }
    struct selection *sel = selection_get(&x->list, &q, text);
    request_fini(&q);
    return sel;
}

static void add_insert(struct fixture *x, uint32_t relation, size_t size)
{
    AUTO_BUF struct buf row = {0}, key = {0};
    char *body = xmalloc(size + 1);
    memset(body, 'x', size);
    x->key++;
    wire_uint(&key, 1, x->key);
    wire_uint(&row, 1, x->key);
    wire_bytes(&row, 2, body, size);
    struct change c = {
        .op = OP_INSERT, .relation = relation, .key = buf_slice(&key), .after = buf_slice(&row)};
    batch_add_change(x->bb, &c);
    free(body);
}

static void add_read(struct fixture *x, uint32_t relation)
{
    AUTO_BUF struct buf key = {0};
    wire_uint(&key, 1, ++x->key);
    struct change c = {
        .op = OP_READ, .relation = relation, .key = buf_slice(&key), .after = buf_slice(&key)};
    batch_add_change(x->bb, &c);
}

static void add_transaction(struct fixture *x, lsn_t lsn, uint32_t relation, int changes)
{
    batch_add_begin(x->bb, &(struct begin){.lsn = lsn, .xid = 7, .commit_time_us = 1});
    for (int i = 0; i < changes; i++)
        add_insert(x, relation, 10);
    assert_true(batch_add_end(x->bb, lsn + 8));
}

static struct frame *made(struct fixture *x, struct frame_key key, struct batch *const *batches,
                          size_t count, struct position skip)
{
    struct frame *f;
    struct err e;
    assert_int_equal(frame_make(&x->fm, &key, batches, count, skip, &f, &e), 0);
    return f;
}

static size_t occurrences(const struct frame *f, const char *what)
{
    size_t n = 0;
    const uint8_t *at = f->data, *end = f->data + f->n;
    while (at && (at = memmem(at, (size_t)(end - at), what, strlen(what)))) {
        n++;
        at++;
    }
    return n;
}

// The frame as a batch: it must be one that can be read alone.
static struct batch *read_back(const struct frame *f)
{
    uint8_t *data = xmalloc(BATCH_HEADROOM + f->n);
    memcpy(data + BATCH_HEADROOM, f->data, f->n);
    struct batch *b;
    struct err e;
    assert_int_equal(batch_parse(data, f->n, &b, &e), 0);
    return b;
}

static void everything_is_the_batch_itself(void **state)
{
    struct fixture *x = *state;
    add_transaction(x, 100, 1, 3);
    struct batch *b = batch_builder_take(x->bb, false);
    struct frame_key key = {selected(x, false, NULL), 0, true};
    struct frame *f = made(x, key, &b, 1, (struct position){0});
    assert_ptr_equal(f->data, b->data);
    assert_int_equal(f->n, b->n);
    assert_int_equal(f->passed, 108);
    assert_int_equal(f->told, 108);
    assert_int_equal(f->changes, 3);
    assert_int_equal(f->use_count, 1);
    assert_false(f->open);
    struct frame *again = frame_find(&x->fm, &key, &b, 1);
    assert_ptr_equal(f, again);
    frame_unref(again);
    frame_unref(f);
    batch_unref(b);
}

static void a_filter_takes_its_changes_and_their_end(void **state)
{
    struct fixture *x = *state;
    add_transaction(x, 100, 1, 2);
    add_transaction(x, 200, 2, 1);
    batch_add_progress(x->bb, 300);
    struct batch *b = batch_builder_take(x->bb, false);
    for (int text = 0; text <= 1; text++) {
        struct frame_key key = {selected(x, text, "b"), 0, false};
        struct frame *f = made(x, key, &b, 1, (struct position){0});
        assert_int_equal(f->changes, 1);
        assert_int_equal(f->told, 208);
        assert_int_equal(f->passed, 300); // the progress is for the subscription to tell
        if (text) {
            assert_int_equal(occurrences(f, "\"op\":\"insert\""), 1);
            assert_int_equal(occurrences(f, "\"type\":\"end\""), 1);
            assert_int_equal(occurrences(f, "progress"), 0);
        } else {
            struct batch *copy = read_back(f);
            assert_int_equal(copy->entry_count, 3); // begin, change, end
            assert_int_equal(copy->first.lsn, 200);
            batch_unref(copy);
        }
        frame_unref(f);
    }
    lsn_t passed = 0;
    assert_true(frame_nothing(&x->fm, selected(x, true, "c"), b, &passed));
    assert_int_equal(passed, 300);
    assert_false(frame_nothing(&x->fm, selected(x, true, "a"), b, &passed));
    batch_unref(b);
}

// A transaction over two batches: who got something of its first part gets its end.
static void an_end_in_a_later_batch(void **state)
{
    struct fixture *x = *state;
    batch_add_begin(x->bb, &(struct begin){.lsn = 100, .xid = 7});
    add_insert(x, 1, 10);
    struct batch *one = batch_builder_take(x->bb, true);
    add_insert(x, 2, 10);
    assert_true(batch_add_end(x->bb, 108));
    struct batch *two = batch_builder_take(x->bb, false);
    struct selection *sel = selected(x, true, "a");
    struct frame *f = made(x, (struct frame_key){sel, 0, false}, &one, 1, (struct position){0});
    assert_true(f->got && f->open);
    frame_unref(f);
    f = made(x, (struct frame_key){sel, 0, true}, &two, 1, (struct position){0});
    assert_int_equal(f->changes, 0);
    assert_int_equal(occurrences(f, "\"type\":\"end\""), 1);
    assert_false(f->got || f->open);
    frame_unref(f);
    f = made(x, (struct frame_key){sel, 0, false}, &two, 1, (struct position){0});
    assert_null(f->data);
    frame_unref(f);
    batch_unref(one);
    batch_unref(two);
}

static void what_was_had_is_left_out(void **state)
{
    struct fixture *x = *state;
    add_transaction(x, 100, 1, 3);
    add_transaction(x, 200, 1, 1);
    struct batch *b = batch_builder_take(x->bb, false);
    struct frame_key key = {selected(x, false, NULL), 0, true};
    struct frame *f = made(x, key, &b, 1, (struct position){100, 1});
    assert_int_equal(f->changes, 2);
    struct batch *copy = read_back(f);
    assert_true(batch_begin(copy, &copy->entries[0]).continued);
    assert_int_equal(copy->first.ordinal, 2);
    assert_int_equal(copy->end_count, 2);
    batch_unref(copy);
    assert_null(frame_find(&x->fm, &key, &b, 1)); // nobody else's
    frame_unref(f);
    // The end was had too: the transaction is gone altogether.
    f = made(x, key, &b, 1, (struct position){100, ORDINAL_END});
    assert_int_equal(f->changes, 1);
    frame_unref(f);
    batch_unref(b);
}

static void a_large_batch_is_cut(void **state)
{
    struct fixture *x = *state;
    batch_add_begin(x->bb, &(struct begin){.lsn = 100, .xid = 7});
    for (int i = 0; i < 10; i++)
        add_insert(x, 1, 100 << 10);
    assert_true(batch_add_end(x->bb, 108));
    struct batch *b = batch_builder_take(x->bb, false);
    for (int text = 0; text <= 1; text++) {
        struct frame_key key = {selected(x, text, NULL), 0, true};
        uint32_t changes = 0, frames = 0;
        do {
            struct frame *f = made(x, key, &b, 1, (struct position){0});
            assert_in_range(f->n, 1, FRAME_LARGE_BYTES + 1000);
            if (!text) {
                struct batch *copy = read_back(f);
                assert_int_equal(batch_begin(copy, &copy->entries[0]).continued, key.entry > 0);
                batch_unref(copy);
            }
            changes += f->changes;
            frames++;
            key.entry = f->next_entry;
            key.got = f->got;
            frame_unref(f);
        } while (key.entry > 0);
        assert_int_equal(changes, 10);
        assert_int_equal(frames, 5);
    }
    batch_unref(b);
}

static void small_batches_go_together(void **state)
{
    struct fixture *x = *state;
    struct batch *b[3];
    for (int i = 0; i < 3; i++) {
        add_transaction(x, 100 * (unsigned)(i + 1), 1 + i % 2, 1);
        b[i] = batch_builder_take(x->bb, false);
        b[i]->seq = (uint64_t)i + 1;
    }
    for (int text = 0; text <= 1; text++) {
        struct frame_key key = {selected(x, text, NULL), 0, true};
        struct frame *f = made(x, key, b, 3, (struct position){0});
        assert_int_equal(f->changes, 3);
        assert_int_equal(f->more_count, 2);
        assert_int_equal(f->passed, 308);
        assert_int_equal(f->use_count, 2);
        struct frame *same = frame_find(&x->fm, &key, b, 3);
        assert_ptr_equal(same, f);
        assert_null(frame_find(&x->fm, &key, b, 2)); // it has more than this one may take
        frame_unref(same);
        frame_unref(f);
    }
    for (int i = 0; i < 3; i++)
        batch_unref(b[i]);
}

static void a_row_that_is_too_large(void **state)
{
    struct fixture *x = *state;
    x->fm.frame_bytes_max = 64 << 10;
    batch_add_begin(x->bb, &(struct begin){.lsn = 100, .xid = 7});
    add_insert(x, 1, 100 << 10);
    add_insert(x, 1, 10);
    assert_true(batch_add_end(x->bb, 108));
    struct batch *b = batch_builder_take(x->bb, false);
    int64_t omitted = metric_get(x->fm.omitted);
    struct frame_key key = {selected(x, true, NULL), 0, true};
    struct frame *f = made(x, key, &b, 1, (struct position){0});
    assert_int_equal(occurrences(f, "\"omitted\":[\"body\"]"), 1);
    assert_int_equal(f->changes, 2);
    frame_unref(f);
    key.sel = selected(x, false, NULL);
    f = made(x, key, &b, 1, (struct position){0});
    struct batch *copy = read_back(f);
    struct change c = batch_change(copy, &copy->entries[1]);
    assert_int_equal(c.omitted.n, 1);
    assert_int_equal(c.omitted.p[0], 2);
    assert_int_equal(c.key.n, 2);
    assert_int_equal(c.after.n, 2);
    batch_unref(copy);
    frame_unref(f);
    assert_int_equal(metric_get(x->fm.omitted) - omitted, 1); // once, whatever the forms
    batch_unref(b);
}

// Behind transaction 500: a snapshot of b (a mark, 3 rows, a mark), a gap.
static struct batch *existing_rows(struct fixture *x)
{
    struct snapshot_mark mark = {
        .at = {500, ORDINAL_ASIDE}, .step = SNAPSHOT_BEGIN, .table = slice_of("public.b")};
    batch_add_snapshot_mark(x->bb, &mark);
    batch_add_begin(x->bb, &(struct begin){.lsn = 500, .read = true, .ordinal = ORDINAL_ASIDE + 1});
    for (int i = 0; i < 3; i++)
        add_read(x, 2);
    batch_add_end(x->bb, 0);
    mark.at.ordinal = ORDINAL_ASIDE + 5;
    mark.step = SNAPSHOT_END;
    batch_add_snapshot_mark(x->bb, &mark);
    batch_add_gap(x->bb, 600, 700, "lost");
    struct batch *b = batch_builder_take(x->bb, false);
    assert_non_null(b);
    return b;
}

// Counts of what a selection gets behind `skip`: marks, reads, ends, gaps.
static void given(struct fixture *x, struct batch *b, struct frame_key key, struct position skip,
                  const char *want)
{
    struct frame *f = made(x, key, &b, 1, skip);
    char found[64] = "nothing";
    if (f->data && key.sel->text) {
        snprintf(found, sizeof found, "%zu %zu %zu %zu", occurrences(f, "\"type\":\"snapshot\""),
                 occurrences(f, "\"op\":\"read\""), occurrences(f, "\"type\":\"end\""),
                 occurrences(f, "\"type\":\"gap\""));
    } else if (f->data) {
        struct batch *back = read_back(f);
        size_t n[16] = {0};
        BATCH_FOREACH (back, e)
            n[e->kind]++;
        snprintf(found, sizeof found, "%zu %zu %zu %zu", n[ENTRY_SNAPSHOT], n[ENTRY_CHANGE],
                 n[ENTRY_END], n[ENTRY_GAP]);
        batch_unref(back);
    }
    assert_string_equal(found, want);
    assert_int_equal(f->last.lsn, 699);
    assert_int_equal(f->passed, 700);
    assert_false(f->open);
    frame_unref(f);
}

static void existing_rows_and_marks(void **state)
{
    struct fixture *x = *state;
    struct batch *b = existing_rows(x);
    struct position before = {500, ORDINAL_END}, inside = {500, ORDINAL_ASIDE + 2},
                    last_row = {500, ORDINAL_ASIDE + 3}, behind = {500, ORDINAL_ASIDE + 5};
    for (int text = 0; text < 2; text++) {
        struct selection *all = selected(x, text, NULL), *a = selected(x, text, "a"),
                         *of_b = selected(x, text, "b");
        given(x, b, (struct frame_key){.sel = all}, before, "2 3 1 1");
        given(x, b, (struct frame_key){.sel = of_b}, before, "2 3 1 1");
        given(x, b, (struct frame_key){.sel = of_b}, inside, "1 1 1 1");
        given(x, b, (struct frame_key){.sel = of_b}, last_row, "1 0 1 1");
        given(x, b, (struct frame_key){.sel = of_b}, behind, "0 0 0 1");
        given(x, b, (struct frame_key){.sel = a}, before, "0 0 0 1"); // a gap is everybody's
        struct request q;
        struct err e;
        request_init(&q);
        assert_int_equal(request_argument(&q, "op=insert", &e), REQUEST_OK);
        struct selection *inserts = selection_get(&x->list, &q, text);
        request_fini(&q);
        given(x, b, (struct frame_key){.sel = inserts}, before, "0 0 0 1"); // marks go with reads
    }
    batch_unref(b);
}

// Table b, renamed to c, in a transaction of two rows: how many schema changes, changes and ends.
static void renamed(struct fixture *x, struct batch *b, struct selection *sel, struct position skip,
                    const char *want)
{
    struct frame *f = made(x, (struct frame_key){.sel = sel}, &b, 1, skip);
    char found[64] = "nothing";
    if (f->data && sel->text) {
        snprintf(found, sizeof found, "%zu %zu %zu", occurrences(f, "\"type\":\"schema_change\""),
                 occurrences(f, "\"op\":"), occurrences(f, "\"type\":\"end\""));
    } else if (f->data) {
        struct batch *back = read_back(f);
        size_t n[16] = {0};
        BATCH_FOREACH (back, e)
            n[e->kind]++;
        snprintf(found, sizeof found, "%zu %zu %zu", n[ENTRY_SCHEMA], n[ENTRY_CHANGE],
                 n[ENTRY_END]);
        batch_unref(back);
    }
    assert_string_equal(found, want);
    frame_unref(f);
}

static void a_schema_change_goes_with_its_change(void **state)
{
    struct fixture *x = *state;
    AUTO_BUF struct buf body = {0};
    catalog_add(x->catalog, table(3, "c"));
    schema_change_encode(&body, catalog_get(x->catalog, 2), catalog_get(x->catalog, 3));
    batch_add_begin(x->bb, &(struct begin){.lsn = 100, .xid = 7});
    add_insert(x, 1, 10);
    batch_add_schema_change(x->bb, 3, buf_slice(&body));
    batch_add_relation(x->bb, catalog_get(x->catalog, 3));
    add_insert(x, 3, 10);
    batch_add_end(x->bb, 108);
    struct batch *b = batch_builder_take(x->bb, false);
    struct position none = {0, 0}, before = {100, 0}, behind = {100, 1};
    for (int text = 0; text < 2; text++) {
        struct selection *all = selected(x, text, NULL), *a = selected(x, text, "a"),
                         *of_c = selected(x, text, "c"), *of_b = selected(x, text, "b");
        renamed(x, b, all, none, "1 2 1");
        renamed(x, b, all, before, "1 1 1"); // its change was not had
        renamed(x, b, all, behind, "0 0 1");
        renamed(x, b, a, none, "0 1 1");
        renamed(x, b, of_c, none, "1 1 1");
        renamed(x, b, of_b, none, "1 0 1"); // that its table has another name now
        struct request q;
        struct err e;
        request_init(&q);
        assert_int_equal(request_argument(&q, "table=c", &e), REQUEST_OK);
        assert_int_equal(request_argument(&q, "op=delete", &e), REQUEST_OK);
        struct selection *deletes = selection_get(&x->list, &q, text);
        request_fini(&q);
        renamed(x, b, deletes, none, "1 0 1"); // whatever the operations
        lsn_t passed;
        assert_false(frame_nothing(&x->fm, deletes, b, &passed));
    }
    batch_unref(b);
}

// A progress that is asked for does not take a cursor back from where rows were read.
static void a_progress_never_goes_back(void **state)
{
    struct fixture *x = *state;
    struct selection *text = selected(x, true, "a"), *bytes = selected(x, false, "a");
    struct position aside = {499, ORDINAL_ASIDE + 7};
    struct frame *f = frame_progress(&x->fm, text, 500, aside);
    assert_int_equal(occurrences(f, "0000000000000abc.0.1f3.10000000007"), 1);
    frame_unref(f);
    f = frame_progress(&x->fm, bytes, 500, aside);
    struct batch *b = read_back(f);
    struct slice body = entry_body(b, &b->entries[0]);
    struct reader r = reader_of(body.p, body.n);
    struct wire_field field = {0};
    while (wire_next(&r, &field))
        ;
    assert_int_equal(field.number, 2);
    assert_int_equal(field.v, ORDINAL_ASIDE + 7);
    batch_unref(b);
    frame_unref(f);
    f = frame_progress(&x->fm, text, 600, aside); // it has moved on since
    assert_int_equal(occurrences(f, "0000000000000abc.0.257.ffffffffff"), 1);
    frame_unref(f);
}

static void small_frames(void **state)
{
    struct fixture *x = *state;
    struct selection *text = selected(x, true, "a"), *bytes = selected(x, false, "a");
    struct frame *f = frame_restart(text, 0x16B3748);
    static const char restart[] =
        "{\"type\":\"batch\",\"entries\":[{\"type\":\"restart\",\"lsn\":\"0/16B3748\"}]}";
    assert_int_equal(f->n, strlen(restart));
    assert_memory_equal(f->data, restart, f->n);
    frame_unref(f);
    f = frame_progress(&x->fm, bytes, 500, (struct position){400, ORDINAL_END});
    struct batch *b = read_back(f);
    assert_int_equal(batch_progress_lsn(b, &b->entries[0]), 500);
    batch_unref(b);
    frame_unref(f);
    f = frame_relations(&x->fm, bytes, (uint32_t[]){1, 2}, 2);
    b = read_back(f);
    assert_int_equal(b->entry_count, 2);
    assert_int_equal(b->entries[1].relation, 2);
    batch_unref(b);
    frame_unref(f);
    f = frame_relations(&x->fm, text, (uint32_t[]){99}, 1); // not in the catalog
    assert_null(f->data);
    frame_unref(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_is_the_batch_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(a_filter_takes_its_changes_and_their_end, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_in_a_later_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_had_is_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_batch_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(small_batches_go_together, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_that_is_too_large, setup, teardown),
        cmocka_unit_test_setup_teardown(existing_rows_and_marks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_schema_change_goes_with_its_change, setup, teardown),
        cmocka_unit_test_setup_teardown(a_progress_never_goes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(small_frames, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
