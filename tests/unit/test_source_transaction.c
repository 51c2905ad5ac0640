// From messages to batches, with a journal that only takes notes: what is dropped, skipped, cut and
// compared, and that relation versions stand before their first use.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transaction_fixture.h"

#include "proto/schema_change.h"

// ---- tests ----

static void a_transaction(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", "one"), 0);
    assert_int_equal(insert(f, "2", NULL), 0);
    transaction_drained(f->t);
    assert_int_equal(f->journal.count, 0); // not whole yet
    assert_int_equal(commit(f, 100), 0);
    transaction_drained(f->t);
    const struct batch *b = last_batch(f);
    assert_int_equal(b->entry_count, 6);
    static const uint8_t kinds[] = {ENTRY_BEGIN,  ENTRY_SCHEMA, ENTRY_RELATION,
                                    ENTRY_CHANGE, ENTRY_CHANGE, ENTRY_END};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(b->entries[i].kind, kinds[i]);
    struct change c = batch_change(b, &b->entries[4]);
    assert_int_equal(c.op, OP_INSERT);
    assert_int_equal(c.ordinal, 1);
    assert_non_null(c.key.p);
    assert_int_equal(b->watermark, 110);
    // The second time it stands there already.
    begin(f, 200);
    describe(f);
    assert_int_equal(insert(f, "3", "three"), 0);
    assert_int_equal(commit(f, 200), 0);
    transaction_drained(f->t);
    assert_int_equal(last_batch(f)->entry_count, 3);
    teardown(f);
}

// How many schema changes the journal has, and the versions of the last one.
static size_t schema_changes(const struct fixture *f, struct schema_change *ret_last)
{
    size_t n = 0;
    for (size_t i = 0; i < f->journal.count; i++) {
        BATCH_FOREACH (f->journal.batches[i], e) {
            if (e->kind != ENTRY_SCHEMA)
                continue;
            *ret_last = batch_schema_change(f->journal.batches[i], e);
            n++;
        }
    }
    return n;
}

static void describe_altered(struct fixture *f)
{
    static const struct wire_column columns[] = {{"id", 23, true}, {"text", 25, false}};
    put_relation(&f->b, RELID, "public", "t", 'd', 2, columns);
    assert_int_equal(send(f), 0);
}

static void one_row(struct fixture *f, lsn_t lsn, void (*describe_it)(struct fixture *f))
{
    begin(f, lsn);
    describe_it(f);
    assert_int_equal(insert(f, "1", "one"), 0);
    assert_int_equal(commit(f, lsn), 0);
    transaction_drained(f->t);
}

// Each shape is told of once, whatever connections come and go; a shape of before, again, is news.
static void shapes_are_told_once(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    struct schema_change s = {0};
    one_row(f, 100, describe);
    assert_int_equal(schema_changes(f, &s), 1);
    assert_int_equal(s.before, 0);
    transaction_lost(f->t);
    connected(f);
    one_row(f, 200, describe);
    assert_int_equal(schema_changes(f, &s), 1);
    one_row(f, 300, describe_altered);
    assert_int_equal(schema_changes(f, &s), 2);
    assert_int_equal(s.before, 1);
    assert_int_equal(s.after, 2);
    one_row(f, 400, describe);
    assert_int_equal(schema_changes(f, &s), 3);
    assert_int_equal(s.before, 2);
    teardown(f);
}

// What was told in a transaction that is lost, appended in part or not, is told again with it; the
// hash that compares the two says nothing of it.
static void what_is_lost_is_told_again(void **state)
{
    (void)state;
    for (size_t batch_bytes = 64; batch_bytes <= 4096; batch_bytes *= 64) {
        struct fixture *f = setup(batch_bytes, NULL, 0);
        struct schema_change s = {0};
        one_row(f, 100, describe);
        begin(f, 200);
        describe_altered(f);
        assert_int_equal(insert(f, "1", "one"), 0);
        assert_int_equal(f->journal.told_count, 2);
        transaction_lost(f->t);
        assert_int_equal(f->journal.cuts, batch_bytes == 64);
        assert_int_equal(f->journal.told_count, 1); // a gap may come next, in its place
        connected(f);
        one_row(f, 200, describe_altered);
        assert_int_equal(f->journal.done, batch_bytes == 64); // it was the same
        assert_int_equal(schema_changes(f, &s), 2);
        assert_int_equal(s.before, 1);
        assert_int_equal(s.after, 2);
        teardown(f);
    }
}

static void what_the_journal_has_is_dropped(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", "one"), 0);
    assert_int_equal(commit(f, 100), 0);
    transaction_lost(f->t);
    assert_int_equal(f->journal.count, 1);
    connected(f);
    begin(f, 100); // the slot went back
    describe(f);
    assert_int_equal(insert(f, "1", "one"), 0);
    assert_int_equal(commit(f, 100), 0);
    begin(f, 110); // begins exactly where that one ended: another one
    assert_int_equal(insert(f, "2", "two"), 0);
    assert_int_equal(commit(f, 110), 0);
    transaction_drained(f->t);
    assert_int_equal(f->journal.count, 2);
    assert_int_equal(last_batch(f)->first.lsn, 110);
    teardown(f);
}

static void unwanted_tables_take_ordinals_only(void **state)
{
    (void)state;
    char *tables[] = {(char[]){"public.wanted"}};
    struct fixture *f = setup(4096, tables, 1);
    static const struct wire_column column[] = {{"id", 23, true}};
    begin(f, 100);
    describe(f);
    put_relation(&f->b, 7, "public", "wanted", 'd', 1, column);
    assert_int_equal(send(f), 0);
    assert_int_equal(insert(f, "1", "no"), 0);
    put_insert(&f->b, 7, 1, (const char *const[]){"1"});
    assert_int_equal(send(f), 0);
    assert_int_equal(commit(f, 100), 0);
    begin(f, 200); // nothing of ours in it
    assert_int_equal(insert(f, "2", "no"), 0);
    assert_int_equal(commit(f, 200), 0);
    transaction_drained(f->t);
    assert_int_equal(f->journal.count, 1);
    assert_int_equal(last_batch(f)->change_count, 1);
    assert_int_equal(last_batch(f)->first.ordinal, 1);
    assert_int_equal(ack_progress(&f->ack, false, 10000000), 210); // settled without an entry
    teardown(f);
}

static void a_message_stands_before_its_record(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    buf_putc(&f->b, 'M');
    buf_putc(&f->b, 0);
    put_be(&f->b, 300, 8);
    put_cstr(&f->b, "prefix");
    put_be(&f->b, 2, 4);
    buf_puts(&f->b, "hi");
    assert_int_equal(send(f), 0);
    begin(f, 300); // the commit that follows begins where the message's record ends
    describe(f);
    assert_int_equal(insert(f, "1", "one"), 0);
    assert_int_equal(commit(f, 300), 0);
    transaction_drained(f->t);
    const struct batch *b = f->journal.batches[0];
    assert_int_equal(b->first.lsn, 299);
    assert_int_equal(b->entries[1].op, OP_MESSAGE);
    assert_int_equal(last_batch(f)->last.lsn, 300);
    teardown(f);
}

// Three rows of 100 bytes in batches of 64: parts are in the journal when the connection is lost.
static void lose_inside(struct fixture *f, const char *note)
{
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", note), 0);
    assert_int_equal(insert(f, "2", note), 0);
    assert_true(f->journal.count > 0);
    transaction_lost(f->t);
    assert_int_equal(f->journal.cuts, 1);
    assert_int_equal(f->journal.count, 0);
    connected(f);
}

static const char LONG[] = "a note that is long enough to fill a batch of sixty-four bytes";

static void the_same_again_is_released(void **state)
{
    (void)state;
    struct fixture *f = setup(64, NULL, 0);
    lose_inside(f, LONG);
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", LONG), 0);
    assert_int_equal(f->journal.holds, 1);
    assert_int_equal(f->journal.releases, 0);
    assert_int_equal(insert(f, "2", LONG), 0);
    assert_int_equal(f->journal.releases, 1); // exactly at the change where it was cut
    assert_int_equal(f->journal.done, 1);
    assert_int_equal(commit(f, 100), 0);
    transaction_drained(f->t);
    assert_int_equal(last_batch(f)->attempt, 0);
    teardown(f);
}

static void another_content_is_another_attempt(void **state)
{
    (void)state;
    struct fixture *f = setup(64, NULL, 0);
    lose_inside(f, LONG);
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", LONG), 0);
    assert_int_equal(insert(f, "2", "other"), -1); // the connection is to be given up
    assert_int_equal(f->journal.count, 0);         // and what was held is gone
    assert_int_equal(f->journal.releases, 1);
    transaction_lost(f->t);
    connected(f);
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", LONG), 0);
    assert_int_equal(insert(f, "2", "other"), 0);
    assert_int_equal(commit(f, 100), 0);
    transaction_drained(f->t);
    assert_int_equal(f->journal.holds, 1); // not compared again
    assert_int_equal(last_batch(f)->attempt, 1);
    assert_int_equal(f->journal.done, 0); // not before it is durable
    begin(f, 200);
    assert_int_equal(f->journal.done, 1);
    teardown(f);
}

static void an_early_end_is_another_content(void **state)
{
    (void)state;
    struct fixture *f = setup(64, NULL, 0);
    lose_inside(f, LONG);
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", LONG), 0);
    assert_int_equal(commit(f, 100), -1);
    assert_int_equal(f->journal.count, 0);
    teardown(f);
}

static void what_does_not_come_again_is_answered(void **state)
{
    (void)state;
    struct fixture *f = setup(64, NULL, 0);
    lose_inside(f, LONG);
    begin(f, 500);
    assert_int_equal(f->journal.done, 1);
    assert_int_equal(f->journal.holds, 0);
    teardown(f);
    f = setup(64, NULL, 0);
    lose_inside(f, LONG);
    transaction_progress(f->t, 100); // not past it yet
    assert_int_equal(f->journal.done, 0);
    transaction_progress(f->t, 600);
    assert_int_equal(f->journal.done, 1);
    teardown(f);
}

static void lost_while_comparing(void **state)
{
    (void)state;
    struct fixture *f = setup(64, NULL, 0);
    lose_inside(f, LONG);
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", LONG), 0);
    transaction_lost(f->t);
    assert_int_equal(f->journal.releases, 1);
    connected(f);
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", LONG), 0);
    assert_int_equal(f->journal.done, 0); // two changes were seen by readers
    assert_int_equal(insert(f, "2", LONG), 0);
    assert_int_equal(f->journal.done, 1);
    teardown(f);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    assert_int_equal(insert(f, "1", "outside"), -1);
    assert_int_equal(commit(f, 100), -1);
    begin(f, 100);
    assert_int_equal(insert(f, "1", "not described"), -1);
    describe(f);
    char large[1001];
    memset(large, 'x', 1000);
    large[1000] = 0;
    assert_int_equal(insert(f, "1", large), -1); // row_bytes_max
    assert_int_equal(commit(f, 101), -1);        // another transaction's
    put_begin(&f->b, 102, 1);
    assert_int_equal(send(f), -1); // inside of one
    buf_puts(&f->b, "E");
    assert_int_equal(send(f), -1); // streaming was not asked for
    buf_puts(&f->b, "A");          // but this comes unasked from 18
    put_be(&f->b, 5, 4);
    put_be(&f->b, 5, 4);
    assert_int_equal(send(f), 0);
    teardown(f);
}

// What the server said it was past is in the journal: nothing may begin before it any more.
static void nothing_begins_before_a_progress(void **state)
{
    (void)state;
    for (lsn_t lsn = 299; lsn <= 300; lsn++) {
        struct fixture *f = setup(4096, NULL, 0);
        one_row(f, 100, describe);
        ack_keepalive(&f->ack, 300, true, false, 0);
        transaction_progress(f->t, 300);
        assert_int_equal(last_batch(f)->watermark, 300);
        put_begin(&f->b, lsn, 700);
        assert_int_equal(send(f), lsn < 300 ? -1 : 0);
        teardown(f);
    }
}

// A server names each table once. Were it believed, a message could become as many events of its
// own size as it has names.
static void a_truncate_names_a_table_once(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    begin(f, 100);
    describe(f);
    for (uint64_t n = 1; n <= 2; n++) {
        buf_putc(&f->b, 'T');
        put_be(&f->b, n, 4);
        buf_putc(&f->b, 0);
        for (uint64_t i = 0; i < n; i++)
            put_be(&f->b, RELID, 4);
        assert_int_equal(send(f), n == 1 ? 0 : -1);
    }
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transaction),
        cmocka_unit_test(shapes_are_told_once),
        cmocka_unit_test(what_is_lost_is_told_again),
        cmocka_unit_test(what_the_journal_has_is_dropped),
        cmocka_unit_test(unwanted_tables_take_ordinals_only),
        cmocka_unit_test(a_message_stands_before_its_record),
        cmocka_unit_test(the_same_again_is_released),
        cmocka_unit_test(another_content_is_another_attempt),
        cmocka_unit_test(an_early_end_is_another_content),
        cmocka_unit_test(what_does_not_come_again_is_answered),
        cmocka_unit_test(lost_while_comparing),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(nothing_begins_before_a_progress),
        cmocka_unit_test(a_truncate_names_a_table_once),
    };
    return cmocka_run_group_tests_name("source_transaction", tests, NULL, NULL);
}
