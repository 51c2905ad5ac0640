// Declared breaks of continuity: where the gap stands, which cursors go on, what open readers are
// told, and that a crash in between leaves nothing silent.
#include "journal_fixture.h"

#include "journal/identity.h"

static struct journal_identity identity(const struct fixture *f)
{
    struct journal_identity id;
    assert_true(journal_identity(f->j, &id));
    return id;
}

static struct journal_identity other_timeline(const struct fixture *f, uint32_t timeline, lsn_t end)
{
    struct journal_identity id = identity(f);
    id.before = (struct timelines){.n = 1, .items = {{id.timeline, end}}};
    id.timeline = timeline;
    return id;
}

// The gap that the batch is; its ends.
static void expect_gap(struct batch *b, lsn_t from, lsn_t to, const char *reason)
{
    assert_int_equal(b->entries[0].kind, ENTRY_GAP);
    struct batch_builder *bb = batch_builder_new(64);
    batch_add_gap(bb, from, to, reason);
    struct batch *same = batch_builder_take(bb, false);
    assert_int_equal(b->n, same->n);
    assert_memory_equal(b->data, same->data, b->n);
    batch_unref(same);
    batch_builder_free(bb);
    batch_unref(b);
}

static void reopen(struct fixture *f)
{
    fixture_close(f);
    fixture_open(f, small_options(f));
}

// What was told in a transaction that did not get into the journal, and then lay in a gap.
static void what_a_gap_took_was_not_told(void **state)
{
    struct fixture *f = *state;
    struct err e;
    add_relation(f, 1);
    add_relation(f, 2);
    journal_tell(f->j, 1, (struct position){0x1000, 0});
    journal_append(f->j, txn_batch(f, 1, 10)); // 0x1000
    journal_tell(f->j, 2, (struct position){0x1100, 0});
    reopen(f);
    assert_int_equal(journal_gap(f->j, 0x2000, "given up", &e), 0);
    journal_untell(f->j);
    assert_non_null(journal_told(f->j, 1001, "public.t1"));
    assert_null(journal_told(f->j, 1002, "public.t2"));
}

static void a_gap_is_read_through(void **state)
{
    struct fixture *f = *state;
    struct err e;
    journal_append(f->j, txn_batch(f, 1, 10)); // 0x1000 to 0x1010
    struct cursor before = journal_latest(f->j);
    struct journal_reader *connected = reader_from(f, FROM_POSITION, &before);
    expect_tail(connected);
    assert_int_equal(journal_gap(f->j, 0x1010, "nothing", &e), -1);
    assert_int_equal(e.class, ERR_USAGE);
    assert_int_equal(journal_gap(f->j, 0x2000, "skipped", &e), 0);
    wait_written(f);
    f->lsn = 0x2000;
    journal_append(f->j, txn_batch(f, 1, 10));
    expect_gap(next_batch(connected), 0x1010, 0x2000, "skipped");
    struct batch *b = next_batch(connected);
    assert_int_equal(b->first.lsn, 0x2000);
    batch_unref(b);
    journal_reader_close(connected);
    assert_int_equal(identity(f).generation, 1);
    assert_int_equal(journal_check_cursor(f->j, &before), CURSOR_OK);
    wait_written(f);
    reopen(f);
    char reason[GAP_REASON_MAX];
    assert_false(journal_gap_missing(f->j, reason));
}

static void a_break_begins_a_generation(void **state)
{
    struct fixture *f = *state;
    struct err e;
    journal_append(f->j, txn_batch(f, 1, 10));
    struct journal_identity id = identity(f);
    struct cursor before = journal_latest(f->j), c = before;
    uint32_t version = journal_identity_version(f->j);
    // A slot that a server made somewhere behind us.
    assert_int_equal(journal_break(f->j, &id, 0x1010, "slot lost", &e), -1);
    assert_int_equal(e.class, ERR_USAGE);
    assert_int_equal(journal_identity_version(f->j), version);
    assert_int_equal(journal_break(f->j, &id, 0x3000, "slot lost", &e), 0);
    assert_true(version != journal_identity_version(f->j));
    wait_written(f);              // nobody sees it before
    for (int i = 0; i < 2; i++) { // now, and opened again
        assert_int_equal(identity(f).generation, 2);
        assert_true(identity(f).stream_id != id.stream_id);
        assert_int_equal(journal_check_cursor(f->j, &before), CURSOR_OK);
        c.at = (struct position){0x1010, 0}; // in the gap, of another journal
        assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_EXPIRED);
        c.at = (struct position){0x3000, 2}; // behind it
        assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_OK);
        struct journal_reader *r = reader_from(f, FROM_POSITION, &before);
        expect_gap(next_batch(r), 0x1010, 0x3000, "slot lost");
        expect_tail(r);
        journal_reader_close(r);
        char reason[GAP_REASON_MAX];
        assert_true(journal_stream_ended(f->j, id.stream_id, reason));
        assert_string_equal(reason, "slot lost");
        assert_false(journal_stream_ended(f->j, identity(f).stream_id, reason));
        wait_written(f);
        reopen(f);
    }
}

static void starting_over_goes_back(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct batch *b;
    f->lsn = 0x9000;
    for (int i = 0; i < 200; i++)
        journal_append(f->j, txn_batch(f, 5, 100));
    wait_written(f);
    assert_true(segments_count(&f->j->segments) > 2);
    lsn_t had = journal_appended(f->j);
    struct cursor before = journal_latest(f->j);
    struct journal_reader *connected = reader_from(f, FROM_EARLIEST, NULL);
    batch_unref(next_batch(connected));
    struct journal_identity id = other_timeline(f, 2, 0x800);
    uint32_t era = journal_era(f->j);
    assert_int_equal(journal_start_over(f->j, &id, 0x1000, "restored", &e), 0);
    assert_true(era != journal_era(f->j));
    assert_int_equal(journal_reader_next(connected, &b, &e), READ_OTHER_STREAM);
    assert_false(journal_reader_at_tail(connected));
    journal_reader_close(connected);
    f->lsn = 0x1000;
    batch_builder_reset(f->bb); // as at the end of each connection
    journal_append(f->j, txn_batch(f, 1, 10));
    wait_written(f);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(identity(f).timeline, 2);
        assert_int_equal(identity(f).generation, 2);
        assert_int_equal(journal_check_cursor(f->j, &before), CURSOR_OTHER_STREAM);
        struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
        struct cursor start = journal_reader_start(r);
        assert_int_equal(journal_check_cursor(f->j, &start), CURSOR_OK);
        expect_gap(next_batch(r), had, 0x1000, "restored");
        b = next_batch(r);
        assert_int_equal(b->first.lsn, 0x1000);
        batch_unref(b);
        expect_tail(r);
        journal_reader_close(r);
        wait_written(f);
        assert_int_equal(segments_count(&f->j->segments), 1);
        reopen(f);
    }
    assert_int_equal(journal_watermark(f->j), 0x1010);
}

// Killed between any two steps: the gap is still to be told, with both ends.
static void a_crash_leaves_the_gap_to_be_told(void **state)
{
    struct fixture *f = *state;
    struct err e;
    char reason[GAP_REASON_MAX];
    journal_append(f->j, txn_batch(f, 1, 10));
    wait_written(f);
    struct lineage l = f->j->lineage;
    struct journal_identity id = identity(f);
    id.generation++;
    l.past[l.n++] = (struct generation){id.stream_id, 0x1010, 0x500, true};
    l.dropping = true;
    snprintf(l.reason, sizeof l.reason, "restored");
    id.stream_id = identity_stream_id(&l, id.name, id.generation);
    assert_int_equal(identity_set(f->j, &id, &l, &e), 0); // and then it is killed
    reopen(f);
    assert_int_equal(segments_count(&f->j->segments), 0);
    assert_int_equal(journal_appended(f->j), 0);
    assert_false(f->j->lineage.dropping);
    assert_true(journal_gap_missing(f->j, reason));
    assert_string_equal(reason, "restored");
    reopen(f); // and again
    assert_true(journal_gap_missing(f->j, reason));
    assert_int_equal(journal_gap(f->j, 0x600, reason, &e), 0);
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    wait_written(f);
    expect_gap(next_batch(r), 0x1010, 0x600, "restored");
    journal_reader_close(r);
    assert_false(journal_gap_missing(f->j, reason));
}

static void a_blank_one_is_forgotten(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct batch *b;
    bool blank;
    for (lsn_t lsn = 0x1000; lsn < 0x1400; lsn += 0x100) {
        batch_add_progress(f->bb, lsn);
        journal_append(f->j, take(f, false));
    }
    struct cursor before = journal_latest(f->j);
    assert_int_equal(journal_blank(f->j, &blank, &e), 0);
    assert_true(blank);
    struct journal_reader *r = reader_from(f, FROM_NOW, NULL);
    assert_int_equal(journal_forget(f->j, &e), 0);
    assert_int_equal(journal_reader_next(r, &b, &e), READ_EXPIRED);
    journal_reader_close(r);
    batch_add_progress(f->bb, 0x5000);
    journal_append(f->j, take(f, false));
    assert_int_equal(journal_check_cursor(f->j, &before), CURSOR_EXPIRED);
    assert_int_equal(identity(f).generation, 1);
    f->lsn = 0x5000;
    journal_append(f->j, txn_batch(f, 1, 10));
    assert_int_equal(journal_blank(f->j, &blank, &e), 0);
    assert_false(blank);
}

static void an_adopted_source_keeps_the_stream(void **state)
{
    struct fixture *f = *state;
    struct err e;
    journal_append(f->j, txn_batch(f, 1, 10));
    struct journal_identity id = other_timeline(f, 3, 0x1100);
    assert_int_equal(journal_claim(f->j, &id, &e), 0);
    struct cursor before = journal_latest(f->j);
    id.system_id = 77;
    id.database_oid = 78;
    id.timeline = 1;
    id.before.n = 0;
    assert_int_equal(journal_claim(f->j, &id, &e), -1);
    assert_int_equal(journal_adopt(f->j, &id, 0x8000, &e), 0);
    assert_int_equal(journal_appended(f->j), 0x8000);
    wait_written(f);
    reopen(f);
    assert_int_equal(journal_claim(f->j, &id, &e), 0);
    assert_true(identity(f).stream_id == before.stream_id);
    assert_int_equal(identity(f).system_id, 77);
    assert_int_equal(journal_check_cursor(f->j, &before), CURSOR_OK);
    // The generations after it are still those of the first source.
    assert_int_equal(journal_break(f->j, &id, 0x9000, "lost", &e), 0);
    assert_true(identity(f).stream_id == identity_stream_id(&f->j->lineage, "test", 2));
    assert_int_equal(f->j->lineage.system_id, 7);
}

// Of every ancestor, up to where it was left.
static void timelines_are_kept(void **state)
{
    struct fixture *f = *state;
    struct err e;
    f->lsn = 0x5000;
    journal_append(f->j, txn_batch(f, 1, 10));
    struct journal_identity id = identity(f);
    id.timeline = TIMELINES_MAX + 10;
    for (uint32_t i = 1; i <= TIMELINES_MAX; i++) {
        id.before.items[id.before.n].timeline = i;
        id.before.items[id.before.n++].end = 0x5000 + 0x100 * i;
    }
    assert_int_equal(journal_claim(f->j, &id, &e), 0);
    wait_written(f);
    reopen(f);
    struct cursor c = {.stream_id = id.stream_id};
    for (c.timeline = 1; c.timeline <= TIMELINES_MAX; c.timeline++) {
        c.at = position_before(0x5000 + 0x100 * c.timeline);
        assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_OK);
        c.at.lsn++;
        assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_OTHER_TIMELINE);
    }
    // One more: the oldest is forgotten.
    id.before = (struct timelines){.n = 1, .items = {{id.timeline, 0x90000}}};
    id.timeline++;
    assert_int_equal(journal_claim(f->j, &id, &e), 0);
    c.at = position_before(0x5100);
    c.timeline = 1;
    assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_OTHER_TIMELINE);
    c.timeline = 2;
    assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_OK);
}

// As many generations as are kept, and one more; with reasons that are too long for a line.
static void generations_are_kept(void **state)
{
    struct fixture *f = *state;
    struct err e;
    char reason[3 * GAP_REASON_MAX];
    memset(reason, 'x', sizeof reason);
    reason[10] = '\n';
    reason[sizeof reason - 1] = 0;
    journal_append(f->j, txn_batch(f, 1, 10));
    struct cursor first = journal_latest(f->j), second = {0};
    for (lsn_t i = 1; i <= GENERATIONS_MAX + 1; i++) {
        struct journal_identity id = identity(f);
        assert_int_equal(journal_break(f->j, &id, 0x2000 * i, reason, &e), 0);
        if (i == 1)
            second = journal_latest(f->j);
    }
    second.at = position_before(0x2000);
    wait_written(f);
    reopen(f);
    assert_int_equal(identity(f).generation, GENERATIONS_MAX + 2);
    assert_int_equal(journal_check_cursor(f->j, &first), CURSOR_OTHER_STREAM);
    assert_int_equal(journal_check_cursor(f->j, &second), CURSOR_OK);
}

// What was written before there were gaps: it goes on, under its stream id.
static void an_identity_of_format_1_is_read(void **state)
{
    struct fixture *f = *state;
    struct err e;
    AUTO_BUF struct buf text = {0};
    journal_append(f->j, txn_batch(f, 1, 10));
    struct cursor c = journal_latest(f->j);
    struct journal_identity id = identity(f), again;
    wait_written(f);
    buf_printf(&text,
               "format=1\nsystem_id=%lu\ndatabase_oid=%u\nname=%s\ngeneration=%u\ntimeline=%u\n"
               "stream_id=%016lx\ntimeline_before=1\ntimeline_before_lsn=0\n"
               "timeline_before_ordinal=0\n",
               (unsigned long)id.system_id, id.database_oid, id.name, id.generation, id.timeline,
               (unsigned long)id.stream_id);
    assert_int_equal(state_write(f->j->dirfd, f->dir, IDENTITY_FILE, &text, &e), 0);
    reopen(f);
    again = identity(f);
    assert_true(again.stream_id == id.stream_id && again.system_id == id.system_id);
    assert_int_equal(again.before.n, 1);
    assert_int_equal(again.before.items[0].end, 1);
    assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_OK);
    // Written again in the present format, also with a gap behind it.
    assert_int_equal(journal_break(f->j, &again, 0x3000, "slot lost", &e), 0);
    wait_written(f);
    reopen(f);
    assert_int_equal(identity(f).generation, id.generation + 1);
    assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(a_gap_is_read_through),
        TEST(what_a_gap_took_was_not_told),
        TEST(an_identity_of_format_1_is_read),
        TEST(a_break_begins_a_generation),
        TEST(starting_over_goes_back),
        TEST(a_crash_leaves_the_gap_to_be_told),
        TEST(a_blank_one_is_forgotten),
        TEST(an_adopted_source_keeps_the_stream),
        TEST(timelines_are_kept),
        TEST(generations_are_kept),
    };
    return cmocka_run_group_tests_name("gap", tests, NULL, NULL);
}
