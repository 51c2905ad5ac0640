// A transaction that was cut, because the connection or the process was lost inside it, and comes
// again: the same, or with other content.
#include "journal_fixture.h"

#define LSN   0x9000
#define ROWS  5
#define PARTS 30 // several segments of the small options

// Appends `parts` parts of an open transaction.
static void append_parts(struct fixture *f, size_t parts, uint64_t seed)
{
    for (size_t i = 0; i < parts; i++)
        journal_append(f->j, partial_batch(f, ROWS, 200, seed + i * ROWS));
}

static void append_end(struct fixture *f)
{
    batch_add_end(f->bb, LSN + 0x10);
    journal_append(f->j, take(f, false));
}

static void live_cut(struct fixture *f, size_t changes)
{
    uint64_t hash = batch_builder_txn_hash(f->bb);
    struct journal_cut cut = journal_cut(f->j);
    batch_builder_reset(f->bb);
    assert_int_equal(cut.lsn, LSN);
    assert_int_equal(cut.changes, changes);
    assert_true(cut.hash == hash);
    assert_int_equal(cut.attempt, 0);
}

// The consumer's view when the transaction came again unchanged: nothing twice, nothing missing.
static void come_again_alike(struct fixture *f, struct journal_reader *r, struct seen *had,
                             size_t parts)
{
    journal_hold(f->j);
    begin_txn(f, LSN, 0);
    append_parts(f, parts, 1);
    if (r)
        expect_tail(r);
    assert_true(batch_builder_txn_hash(f->bb) == journal_pending_cut(f->j).hash);
    journal_cut_done(f->j);
    journal_release(f->j);
    append_parts(f, 3, 1 + parts * ROWS);
    append_end(f);
    if (r)
        assert_int_equal(seen_read(had, r), 0);
    struct seen all = {0};
    seen_all(&all, f);
    assert_int_equal(all.n, 1 + (parts + 3) * ROWS);
    if (r)
        seen_equal(&all, had);
    assert_int_equal(journal_pending_cut(f->j).lsn, 0);
    seen_free(&all);
}

static void cut_and_come_again(struct fixture *f, bool written)
{
    struct seen had = {0};
    journal_append(f->j, txn_batch(f, 1, 10));
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    begin_txn(f, LSN, 0);
    append_parts(f, PARTS, 1);
    if (written) {
        wait_written(f);
        assert_true(segments_count(&f->j->segments) > 1);
    }
    assert_int_equal(seen_read(&had, r), 0);
    live_cut(f, PARTS * ROWS);
    assert_int_equal(journal_latest(f->j).at.lsn, 0x1000);
    expect_tail(r);
    come_again_alike(f, r, &had, PARTS);
    journal_reader_close(r);
    seen_free(&had);
}

static void cut_live(void **state)
{
    cut_and_come_again(*state, true);
}

static void cut_before_it_is_written(void **state)
{
    cut_and_come_again(*state, false);
}

static void a_reader_in_the_middle_goes_on(void **state)
{
    struct fixture *f = *state;
    struct seen had = {0};
    journal_append(f->j, txn_batch(f, 1, 10));
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    begin_txn(f, LSN, 0);
    append_parts(f, PARTS, 1);
    wait_written(f);
    for (int i = 0; i < 4; i++) { // from files: memory holds less
        struct batch *b = next_batch(r);
        seen_batch(&had, b, journal_reader_skip(r));
        batch_unref(b);
    }
    live_cut(f, PARTS * ROWS);
    come_again_alike(f, r, &had, PARTS);
    journal_reader_close(r);
    seen_free(&had);
}

static void cut_at_open(void **state)
{
    struct fixture *f = *state;
    struct seen had = {0};
    journal_append(f->j, txn_batch(f, 1, 10));
    lsn_t watermark = journal_appended(f->j);
    begin_txn(f, LSN, 0);
    append_parts(f, PARTS, 1);
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    seen_read(&had, r);
    struct cursor c = journal_latest(f->j);
    journal_reader_close(r);
    uint64_t hash = batch_builder_txn_hash(f->bb);
    batch_builder_reset(f->bb);
    for (int i = 0; i < 3; i++) { // it stays until it is answered
        fixture_close(f);
        fixture_open(f, small_options(f));
        struct journal_cut cut = journal_pending_cut(f->j);
        assert_int_equal(cut.lsn, LSN);
        assert_int_equal(cut.changes, PARTS * ROWS);
        assert_true(cut.hash == hash);
        assert_int_equal(journal_watermark(f->j), watermark);
        assert_int_equal(journal_latest(f->j).at.lsn, 0x1000);
    }
    fixture_claim(f);
    r = reader_from(f, FROM_POSITION, &c); // the client comes back with its cursor
    expect_tail(r);
    come_again_alike(f, r, &had, PARTS);
    journal_reader_close(r);
    fixture_close(f);
    fixture_open(f, small_options(f));
    assert_int_equal(journal_pending_cut(f->j).lsn, 0);
    seen_free(&had);
}

// The connection is lost again while the transaction is held.
static void cut_while_held(void **state)
{
    struct fixture *f = *state;
    struct seen had = {0};
    journal_append(f->j, txn_batch(f, 1, 10));
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    begin_txn(f, LSN, 0);
    append_parts(f, 10, 1);
    seen_read(&had, r);
    live_cut(f, 10 * ROWS);
    struct journal_cut first = journal_pending_cut(f->j);
    for (int reopened = 0; reopened < 2; reopened++) {
        journal_hold(f->j);
        begin_txn(f, LSN, 0);
        append_parts(f, 4, 1);
        wait_written(f);
        batch_builder_reset(f->bb);
        if (reopened) {
            struct cursor c = {.at = had.at[had.n - 1]};
            journal_reader_close(r);
            fixture_close(f);
            fixture_open(f, small_options(f));
            r = reader_from(f, FROM_POSITION, &c);
        } else {
            journal_cut(f->j);
        }
        struct journal_cut cut = journal_pending_cut(f->j); // what readers saw, not what was held
        assert_int_equal(cut.changes, first.changes);
        assert_true(cut.hash == first.hash);
        expect_tail(r);
    }
    come_again_alike(f, r, &had, 10);
    journal_reader_close(r);
    seen_free(&had);
}

// It comes again with other content: whoever stands inside starts it anew, others do not notice.
static void other_content(struct fixture *f, bool reopened, size_t read_parts, size_t rows)
{
    struct seen had = {0}, other = {0}, all = {0};
    journal_append(f->j, txn_batch(f, 1, 10));
    begin_txn(f, LSN, 0);
    append_parts(f, 12, 1);
    wait_written(f);
    struct journal_reader *inside = reader_from(f, FROM_EARLIEST, NULL);
    struct journal_reader *outside = reader_from(f, FROM_EARLIEST, NULL);
    for (size_t i = 0; i < 1 + read_parts; i++) {
        struct batch *b = next_batch(inside);
        seen_batch(&had, b, journal_reader_skip(inside));
        batch_unref(b);
    }
    struct batch *b = next_batch(outside);
    seen_batch(&other, b, journal_reader_skip(outside));
    batch_unref(b);
    live_cut(f, 12 * ROWS);
    if (reopened) {
        struct cursor c = {.at = had.at[had.n - 1]}, d = {.at = {0x1000, ORDINAL_END}};
        journal_reader_close(inside);
        journal_reader_close(outside);
        fixture_close(f);
        fixture_open(f, small_options(f));
        inside = reader_from(f, FROM_POSITION, &c);
        outside = reader_from(f, FROM_POSITION, &d);
    }
    begin_txn(f, LSN, 1);
    for (size_t i = 0; i < rows; i++)
        journal_append(f->j, partial_batch(f, 1, 300, 1000 + i));
    journal_cut_done(f->j);
    append_end(f);
    assert_int_equal(seen_read(&had, inside), read_parts > 0 ? 1 : 0);
    assert_int_equal(seen_read(&other, outside), 0);
    seen_all(&all, f);
    assert_int_equal(all.n, 1 + rows);
    seen_equal(&all, &had);
    seen_equal(&all, &other);
    journal_reader_close(inside);
    journal_reader_close(outside);
    seen_free(&had);
    seen_free(&other);
    seen_free(&all);
}

static void other_content_live(void **state)
{
    other_content(*state, false, 5, 7);
}

static void other_content_longer(void **state)
{
    other_content(*state, false, 11, 90);
}

static void other_content_after_reopen(void **state)
{
    other_content(*state, true, 5, 70);
}

static void other_content_shorter_after_reopen(void **state)
{
    other_content(*state, true, 12, 3);
}

// Decoded again, nothing of it is left.
static void nothing_comes_again(void **state)
{
    struct fixture *f = *state;
    struct seen had = {0};
    journal_append(f->j, txn_batch(f, 1, 10));
    begin_txn(f, LSN, 0);
    append_parts(f, 3, 1);
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    seen_read(&had, r);
    live_cut(f, 3 * ROWS);
    journal_cut_done(f->j);
    f->lsn = LSN + 0x100;
    journal_append(f->j, txn_batch(f, 2, 10));
    assert_int_equal(seen_read(&had, r), 1);
    assert_int_equal(had.n, 3);
    journal_reader_close(r);
    seen_free(&had);
}

static void held_batches_are_not_seen(void **state)
{
    struct fixture *f = *state;
    struct seen had = {0};
    journal_append(f->j, txn_batch(f, 1, 10));
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    seen_read(&had, r);
    journal_hold(f->j);
    for (int i = 0; i < 200; i++)
        journal_append(f->j, txn_batch(f, 2, 200));
    expect_tail(r);
    wait_written(f);
    assert_true(f->j->tail.bytes <= f->j->o.memory_bytes); // they do not pile up
    struct journal_reader *late = reader_from(f, FROM_NOW, NULL);
    assert_int_equal(journal_reader_start(late).at.lsn, 0x1000);
    expect_tail(late);
    journal_release(f->j);
    seen_read(&had, r);
    assert_int_equal(had.n, 401);
    batch_unref(next_batch(late));
    journal_reader_close(late);
    journal_reader_close(r);
    seen_free(&had);
}

// The transaction is all that retention left.
static void cut_when_it_is_all_that_is_kept(void **state)
{
    struct fixture *f = *state;
    struct journal_options o = *small_options(f);
    o.retain_bytes = 50000;
    fixture_close(f);
    fixture_open(f, &o);
    fixture_claim(f);
    journal_append(f->j, txn_batch(f, 1, 10));
    lsn_t watermark = journal_appended(f->j);
    begin_txn(f, LSN, 0);
    append_parts(f, 150, 1);
    wait_written(f);
    struct cursor before = {.at = {0x1000, ORDINAL_END}};
    batch_builder_reset(f->bb);
    fixture_close(f);
    for (int i = 0; i < 2; i++) {
        fixture_open(f, &o);
        assert_int_equal(journal_watermark(f->j), watermark);
        assert_int_equal(journal_pending_cut(f->j).changes, 150 * ROWS);
        assert_int_equal(segments_count(&f->j->segments), 0);
        if (i == 0)
            fixture_close(f);
    }
    begin_txn(f, LSN, 0);
    append_parts(f, 2, 1);
    journal_cut_done(f->j);
    append_end(f);
    wait_written(f);
    struct seen all = {0};
    seen_all(&all, f);
    assert_int_equal(all.n, 2 * ROWS);
    before.stream_id = journal_latest(f->j).stream_id;
    before.timeline = 1;
    assert_int_equal(journal_check_cursor(f->j, &before), CURSOR_EXPIRED);
    seen_free(&all);
}

static void reads(struct fixture *f, enum journal_from from, const struct cursor *c, size_t rows)
{
    struct seen got = {0};
    struct journal_reader *r = reader_from(f, from, c);
    assert_int_equal(seen_read(&got, r), 0);
    assert_int_equal(got.n, rows);
    journal_reader_close(r);
    seen_free(&got);
}

// The same while running: whoever had all before it goes on, and it is read as a whole.
static void cut_live_when_it_is_all_that_is_kept(void **state)
{
    struct fixture *f = *state;
    struct journal_options o = *small_options(f);
    o.retain_bytes = 40000;
    fixture_close(f);
    fixture_open(f, &o);
    journal_append(f->j, txn_batch(f, 1, 10));
    struct cursor before = journal_latest(f->j);
    begin_txn(f, LSN, 0);
    append_parts(f, 150, 1);
    wait_written(f);
    assert_true(wait_until(bytes_at_most, f, o.retain_bytes));
    live_cut(f, 150 * ROWS);
    assert_int_equal(segments_count(&f->j->segments), 0);
    struct cursor latest = journal_latest(f->j);
    assert_int_equal(journal_check_cursor(f->j, &before), CURSOR_OK);
    assert_int_equal(journal_check_cursor(f->j, &latest), CURSOR_OK);
    for (size_t rows = 0; rows <= 2 * ROWS; rows += 2 * ROWS) { // nothing yet, then two parts
        if (rows) {
            begin_txn(f, LSN, 0);
            append_parts(f, 2, 1);
        }
        reads(f, FROM_EARLIEST, NULL, rows);
        reads(f, FROM_NOW, NULL, rows);
        reads(f, FROM_POSITION, &before, rows);
    }
    batch_builder_reset(f->bb);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(cut_live),
        TEST(cut_before_it_is_written),
        TEST(a_reader_in_the_middle_goes_on),
        TEST(cut_at_open),
        TEST(cut_while_held),
        TEST(other_content_live),
        TEST(other_content_longer),
        TEST(other_content_after_reopen),
        TEST(other_content_shorter_after_reopen),
        TEST(nothing_comes_again),
        TEST(held_batches_are_not_seen),
        TEST(cut_when_it_is_all_that_is_kept),
        TEST(cut_live_when_it_is_all_that_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
