// The coordinator of snapshots under schedules that come about rarely.
#include "snapshot_fixture.h"

// Up to two chunks of ten pages; the first has come and is in the journal.
static void read_half(struct fixture *f)
{
    step(f, 1000);
    answer_plan(f, 20);
    step(f, 1000);
    assert_int_equal(f->order_n, 2);
    struct chunk *c = chunk_of(f, 0);
    see(c, 700, 700, 0, 1100);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1100);
    expect(f, "begin 1:one ");
}

// A row moves into pages that were read, before the next process may order anything.
static void a_row_moves_before_reading_goes_on(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    read_half(f);
    kill_process(f);
    begin_process(f, false);
    snapshot_lost(f->s);
    snapshot_start(f->s, false, 3000);
    step(f, 1500);
    assert_int_equal(f->order_n, 0);
    assert_true(*snapshot_watching(f->s));
    assert_true(change(f, 710, 1, OP_UPDATE, 9, "="));
    step(f, 3000);
    answer_plan(f, 20);
    step(f, 3000);
    struct chunk *c = chunk_of(f, 0);
    assert_int_equal(c->order.place_from, CHUNK_PLACE(10, 0));
    see(c, 711, 711, 0, 3000);
    answer(f, c);
    step(f, 3000);
    assert_int_equal(f->order_n, 1);
    c = chunk_of(f, 0);
    assert_int_equal(c->order.kind, CHUNK_LIST);
    see(c, 711, 711, 0, 3000);
    put_row(f, c, 9, "large");
    answer(f, c);
    step(f, 3000);
    expect(f, "begin 1:one 9:large end(2) ");
    teardown(f);
}

// The row that is asked for has this key in the stream only: the query cannot find it yet.
static void a_wanted_key_is_not_visible_yet(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    struct chunk *c = ordered(f);
    see(c, 705, 705, 0, 1100);
    answer(f, c);
    assert_true(change(f, 702, 1, OP_UPDATE, 8, "=")); // seen: it has moved to where was read
    assert_true(change_key_to(f, 706, 1, 8, 9));
    step(f, 1100);
    c = chunk_of(f, 0);
    assert_int_equal(c->order.kind, CHUNK_LIST);
    see(c, 706, 707, 706, 1100); // none of key 9
    answer(f, c);
    step(f, 1200);
    expect(f, "begin ");
    wait_order(f, 1200);
    c = chunk_of(f, 0);
    assert_int_equal(c->order.kind, CHUNK_LIST);
    assert_int_equal(c->order.key_n, 1);
    see(c, 707, 707, 0, 1200);
    put_row(f, c, 9, "large");
    answer(f, c);
    step(f, 1200);
    expect(f, "begin 9:large end(1) ");
    teardown(f);
}

// It gets a key between the plan and the query: its pages are read, all of them.
static void a_bag_gets_a_key(void **state)
{
    (void)state;
    struct fixture *f = setup(true);
    struct chunk *c = ordered(f);
    assert_int_equal(c->order.kind, CHUNK_WHOLE);
    c->status = CHUNK_SHAPE;
    answer(f, c);
    step(f, 1000);
    catalog_add(f->journal.catalog, make_relation(2, false, false));
    f->renewed = catalog_get(f->journal.catalog, 2);
    f->keyless = false;
    step(f, 5000);
    answer_plans(f, 5, 5000);
    wait_order(f, 5000);
    c = chunk_of(f, 0);
    assert_int_equal(c->order.kind, CHUNK_PAGES);
    assert_int_equal(c->order.place_from, 0);
    assert_int_equal(c->order.place_to, CHUNK_PLACE(5, 0));
    chunk_free(c);
    teardown(f);
}

// None of the rows that were read was published: now they may be.
static void a_filter_is_dropped(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    step(f, 1000);
    answer_plan(f, 20);
    step(f, 1000);
    struct chunk *c = chunk_of(f, 0);
    see(c, 700, 700, 0, 1100);
    answer(f, c);
    step(f, 1100);
    c = chunk_of(f, 0);
    c->status = CHUNK_STALE;
    answer(f, c);
    f->terms = "others";
    step(f, 1100);
    step(f, f->wal);
    answer_plans(f, 20, f->wal);
    step(f, f->wal);
    c = chunk_of(f, 0);
    assert_int_equal(c->order.place_from, 0);
    chunk_free(c);
    teardown(f);
}

// It changes while nobody is there to see it.
static void a_filter_is_dropped_between_two_processes(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    read_half(f);
    kill_process(f);
    f->terms = "others";
    begin_process(f, false);
    step(f, 1100);
    answer_plans(f, 20, 1100);
    step(f, 1100);
    struct chunk *c = chunk_of(f, 0);
    assert_int_equal(c->order.place_from, 0);
    chunk_free(c);
    expect(f, "begin 1:one restart ");
    teardown(f);
}

// As for a table with a key: the stream says nothing of a page's head.
static void a_bag_does_not_wait_for_the_head_of_a_page(void **state)
{
    (void)state;
    struct fixture *f = setup(true);
    struct chunk *c = ordered(f);
    see(c, 703, 703, 0, 8192 + 24);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 8191);
    expect(f, "begin 1:one ");
    step(f, 8192);
    expect(f, "begin 1:one end(1) ");
    teardown(f);
}

// What it did not see and let pass is journaled before the next mark, and may not be visible yet.
static void a_bag_is_begun_again_while_a_commit_waits(void **state)
{
    (void)state;
    struct fixture *f = setup(true);
    struct chunk *c = ordered(f);
    see(c, 703, 703, 0, 2000);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1000);
    expect(f, "begin 1:one ");
    assert_true(change(f, 704, 1, OP_INSERT, 2, "two"));
    snapshot_lost(f->s);
    snapshot_start(f->s, false, 0);
    c = ordered(f);
    see(c, 704, 705, 704, 2000);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1000);
    expect(f, "begin 1:one ");
    wait_order(f, 1000);
    answer_plan(f, 5);
    wait_order(f, 1000);
    c = chunk_of(f, 0);
    see(c, 705, 705, 0, 2000);
    put_row(f, c, 1, "one");
    put_row(f, c, 2, "two");
    answer(f, c);
    step(f, 2000);
    expect(f, "begin 1:one restart 1:one 2:two end(2) ");
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_moves_before_reading_goes_on),
        cmocka_unit_test(a_wanted_key_is_not_visible_yet),
        cmocka_unit_test(a_bag_gets_a_key),
        cmocka_unit_test(a_filter_is_dropped),
        cmocka_unit_test(a_filter_is_dropped_between_two_processes),
        cmocka_unit_test(a_bag_does_not_wait_for_the_head_of_a_page),
        cmocka_unit_test(a_bag_is_begun_again_while_a_commit_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
