// The coordinator of snapshots, with a journal that takes notes and chunks that are made here: what
// is ordered, when it is emitted, what is laid over it, and what survives the end of the process.
#include "snapshot_fixture.h"

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
    wait_order(f, 1200); // again after a while
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

// The older of two queries comes back last: what only the newer one saw is laid over it.
static void the_older_chunk_comes_last(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    step(f, 1000);
    answer_plan(f, 20); // two chunks
    step(f, 1000);
    struct chunk *newer = chunk_of(f, 1), *older = chunk_of(f, 0);
    assert_true(change(f, 702, 1, OP_DELETE, 1, NULL));
    see(newer, 703, 703, 0, 1000);
    answer(f, newer);
    step(f, 1000);
    see(older, 702, 703, 702, 1000);
    put_row(f, older, 1, "stale");
    answer(f, older);
    step(f, 2000);
    expect(f, "begin end(0) ");
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
    snapshot_start(f->s, false, 0);
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

// A row that was held and changed without its large value, and that is not found again: it moved.
static void a_held_row_that_moved(struct fixture *f, struct chunk *c, bool killed)
{
    see(c, 700, 700, 0, 1100);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1050);
    assert_true(change(f, 701, 1, OP_UPDATE, 1, "="));
    if (killed) {
        kill_process(f);
        begin_process(f, false);
    } else {
        snapshot_lost(f->s);
        snapshot_start(f->s, false, 0);
    }
    step(f, 1100);
    answer_plan(f, 5);
    step(f, 1100);
    c = chunk_of(f, 0);
    see(c, 702, 702, 0, 1200);
    answer(f, c);
    step(f, 1200);
    c = chunk_of(f, 0);
    assert_int_equal(c->order.kind, CHUNK_LIST);
    assert_int_equal(c->order.key_n, 1);
    see(c, 702, 702, 0, 1300);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 1300);
    expect(f, "begin 1:one end(1) ");
}

static void a_held_row_moves_before_the_connection_is_lost(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    a_held_row_that_moved(f, ordered(f), false);
    teardown(f);
}

static void a_held_row_moves_before_the_process_is_killed(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    a_held_row_that_moved(f, ordered(f), true);
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

// The newest transaction of all runs, was journaled by the process before, and is not in the list.
static void what_runs_since_before_the_process_is_waited_for(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    die(f);
    cancel(f);
    begin_process(f, false);
    struct chunk *c = ordered(f);
    see(c, 700, 700, 0, 1100);
    c->next_xid = 701;
    put_row(f, c, 1, "stale");
    answer(f, c);
    step(f, 1100);
    expect(f, "begin ");
    wait_order(f, 1100);
    c = chunk_of(f, 0);
    see(c, 701, 701, 0, 1100);
    c->next_xid = 701;
    put_row(f, c, 1, "new");
    answer(f, c);
    step(f, 1100);
    expect(f, "begin 1:new end(1) ");
    teardown(f);
}

// Consumers of the process before may have been told of progress that its journal lost.
static void what_is_put_in_stands_behind_what_was_shown(void **state)
{
    (void)state;
    struct fixture *f = setup(false);
    die(f);
    f->order_n = 0;
    begin_process(f, false);
    snapshot_lost(f->s);
    snapshot_start(f->s, false, 3000);
    step(f, 2000);
    expect(f, "");
    assert_int_equal(f->order_n, 0);
    step(f, 3000);
    assert_int_equal(f->order_n, 1);
    assert_true(position_cmp(f->journal.last, position_before(3000)) >= 0);
    teardown(f);
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
    snapshot_start(f->s, true, 0);
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
    wait_order(f, 1000);
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
    snapshot_start(f->s, false, 0);
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

// It was altered between the plan and the query.
static void a_bag_of_another_shape_is_read_after_all(void **state)
{
    (void)state;
    struct fixture *f = setup(true);
    struct chunk *c = ordered(f);
    c->status = CHUNK_SHAPE;
    answer(f, c);
    step(f, 1000);
    step(f, 5000);
    answer_plan(f, 5);
    wait_order(f, 5000);
    c = chunk_of(f, 0);
    assert_int_equal(c->order.kind, CHUNK_WHOLE);
    see(c, 701, 701, 0, 5100);
    put_row(f, c, 1, "one");
    answer(f, c);
    step(f, 5100);
    expect(f, "begin 1:one end(1) ");
    teardown(f);
}

// The snapshot is of no use, and reading all of the table would take long: it is given up.
static void a_bag_that_cannot_be_used_is_given_up(void **state)
{
    (void)state;
    struct fixture *f = setup(true);
    snapshot_transaction(f->s, 701);
    struct chunk *whole = ordered(f), *part = xcalloc(1, sizeof *part);
    part->order = whole->order;
    part->status = CHUNK_MORE;
    see(part, 701, 703, 701, 0); // 701 is in the journal
    put_row(f, part, 1, "one");
    answer(f, part);
    free(whole); // still under way, until it is cancelled
    step(f, 1000);
    assert_int_equal(f->order_n, 0);
    wait_order(f, 1000);
    assert_int_equal(f->orders[0].kind, CHUNK_PLAN);
    expect(f, "");
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_waits_for_the_stream),
        cmocka_unit_test(the_head_of_a_page_is_not_waited_for),
        cmocka_unit_test(a_transaction_about_to_be_visible_is_waited_for),
        cmocka_unit_test(a_hot_table_comes_to_its_end),
        cmocka_unit_test(the_older_chunk_comes_last),
        cmocka_unit_test(a_large_value_is_asked_for),
        cmocka_unit_test(a_large_value_of_a_row_that_is_gone),
        cmocka_unit_test(after_a_truncation_nothing_is_left_to_read),
        cmocka_unit_test(held_rows_are_read_again_after_a_lost_connection),
        cmocka_unit_test(a_held_row_moves_before_the_connection_is_lost),
        cmocka_unit_test(a_held_row_moves_before_the_process_is_killed),
        cmocka_unit_test(what_runs_since_before_the_process_is_waited_for),
        cmocka_unit_test(what_is_put_in_stands_behind_what_was_shown),
        cmocka_unit_test(what_was_emitted_is_not_read_again),
        cmocka_unit_test(what_the_journal_lost_is_read_again),
        cmocka_unit_test(a_rewritten_table_is_begun_again),
        cmocka_unit_test(a_new_shape_begins_the_table_again),
        cmocka_unit_test(a_table_is_asked_for_while_it_runs),
        cmocka_unit_test(a_bag_is_exact_from_its_mark_on),
        cmocka_unit_test(a_bag_is_begun_again_after_a_lost_connection),
        cmocka_unit_test(a_bag_of_another_shape_is_read_after_all),
        cmocka_unit_test(a_bag_that_cannot_be_used_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
