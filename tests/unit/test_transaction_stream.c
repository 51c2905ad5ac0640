// Streamed transactions: what comes of them is what comes of whole ones, byte by byte; what is
// rolled back leaves nothing, not even a relation version; tables are known as the newest word
// says.
#include "source/spool.h"
#include "transaction_fixture.h"

#include <stdio.h>
#include <unistd.h>

// The message at hand, as of `xid` in a streamed part.
static int send_of(struct fixture *f, uint32_t xid)
{
    AUTO_BUF struct buf b = {0};
    buf_put(&b, f->b.p, 1);
    put_be(&b, xid, 4);
    buf_put(&b, f->b.p + 1, f->b.n - 1);
    buf_clear(&f->b);
    buf_put(&f->b, b.p, b.n);
    return send(f);
}

static int start_part(struct fixture *f, uint32_t xid, bool first)
{
    buf_putc(&f->b, 'S');
    put_be(&f->b, xid, 4);
    buf_putc(&f->b, first);
    return send(f);
}

static void part(struct fixture *f, uint32_t xid, bool first)
{
    assert_int_equal(start_part(f, xid, first), 0);
}

static void stop_part(struct fixture *f)
{
    buf_putc(&f->b, 'E');
    assert_int_equal(send(f), 0);
}

static int insert_of(struct fixture *f, uint32_t xid, const char *id, const char *note)
{
    put_insert(&f->b, RELID, 2, (const char *const[]){id, note});
    return send_of(f, xid);
}

static void add(struct fixture *f, uint32_t xid, const char *id, const char *note)
{
    assert_int_equal(insert_of(f, xid, id, note), 0);
}

static void describe_of(struct fixture *f, uint32_t xid)
{
    put_relation(&f->b, RELID, "public", "t", 'd', 2, COLUMNS);
    assert_int_equal(send_of(f, xid), 0);
}

static int abort_of(struct fixture *f, uint32_t xid, uint32_t subxid)
{
    buf_putc(&f->b, 'A');
    put_be(&f->b, xid, 4);
    put_be(&f->b, subxid, 4);
    return send(f);
}

static int commit_of(struct fixture *f, uint32_t xid, lsn_t lsn)
{
    buf_putc(&f->b, 'c');
    put_be(&f->b, xid, 4);
    buf_putc(&f->b, 0);
    put_be(&f->b, lsn, 8);
    put_be(&f->b, lsn + 10, 8);
    put_be(&f->b, 1000000, 8);
    return send(f);
}

static int replay_all(struct fixture *f)
{
    size_t bytes;
    struct err e;
    while (transaction_replaying(f->t)) {
        if (transaction_replay(f->t, 1, &bytes, &e) != 0)
            return -1;
    }
    return 0;
}

static void commit_whole(struct fixture *f, uint32_t xid, lsn_t lsn)
{
    assert_int_equal(commit_of(f, xid, lsn), 0);
    assert_true(transaction_replaying(f->t));
    assert_int_equal(replay_all(f), 0);
}

static void check_same(struct fixture *f, struct fixture *other)
{
    assert_int_equal(f->journal.count, other->journal.count);
    for (size_t i = 0; i < f->journal.count; i++) {
        const struct batch *a = f->journal.batches[i], *b = other->journal.batches[i];
        assert_int_equal(a->n, b->n);
        assert_memory_equal(a->data, b->data, a->n);
        assert_int_equal(a->watermark, b->watermark);
        assert_int_equal(a->txn_hash, b->txn_hash);
    }
    assert_int_equal(catalog_count(f->journal.catalog), catalog_count(other->journal.catalog));
}

static const char LONG[] = "a note that is long enough to fill a batch of sixty-four bytes";

static void as_whole(void **state)
{
    (void)state;
    for (size_t batch = 64; batch <= 4096; batch *= 64) {
        struct fixture *f = setup(batch, NULL, 0), *whole = setup(batch, NULL, 0);
        // 700 in two parts, with a subtransaction that stays and two that go; another one between.
        part(f, 700, true);
        describe_of(f, 700);
        add(f, 700, "1", LONG);
        add(f, 701, "2", LONG);
        stop_part(f);
        part(f, 800, true);
        describe_of(f, 800);
        add(f, 800, "8", "another");
        stop_part(f);
        begin(f, 100);
        describe(f);
        assert_int_equal(insert(f, "0", LONG), 0);
        assert_int_equal(commit(f, 100), 0);
        part(f, 700, false);
        add(f, 703, "gone", LONG);
        add(f, 702, "gone", LONG);
        stop_part(f);
        assert_int_equal(abort_of(f, 700, 703), 0);
        assert_int_equal(abort_of(f, 700, 702), 0);
        part(f, 700, false);
        describe_of(f, 704);
        add(f, 704, "3", LONG);
        stop_part(f);
        assert_int_equal(abort_of(f, 800, 800), 0);
        assert_int_equal(abort_of(f, 900, 900), 0); // never heard of
        commit_whole(f, 700, 200);
        transaction_drained(f->t);

        begin(whole, 100);
        describe(whole);
        assert_int_equal(insert(whole, "0", LONG), 0);
        assert_int_equal(commit(whole, 100), 0);
        begin(whole, 200);
        for (int i = 1; i <= 3; i++)
            assert_int_equal(insert(whole, (char[]){(char)('0' + i), 0}, LONG), 0);
        assert_int_equal(commit(whole, 200), 0);
        transaction_drained(whole->t);
        check_same(f, whole);
        assert_int_equal(f->ack.settled, 210);
        teardown(f);
        teardown(whole);
    }
}

static void nothing_before_its_commit(void **state)
{
    (void)state;
    struct fixture *f = setup(64, NULL, 0);
    part(f, 700, true);
    describe_of(f, 700);
    for (int i = 0; i < 10; i++)
        add(f, 700, "1", LONG);
    transaction_drained(f->t);
    assert_false(transaction_open(f->t)); // progress goes on
    transaction_progress(f->t, 90);
    stop_part(f);
    assert_int_equal(f->journal.count, 1);
    assert_int_equal(catalog_count(f->journal.catalog), 0);
    assert_int_equal(commit_of(f, 700, 100), 0);
    assert_true(transaction_open(f->t));
    size_t bytes;
    struct err e;
    assert_int_equal(transaction_replay(f->t, 150, &bytes, &e), 0); // in portions
    assert_true(transaction_replaying(f->t));
    assert_in_range(f->journal.count, 2, 4);
    assert_int_equal(replay_all(f), 0);
    assert_false(transaction_open(f->t));
    transaction_drained(f->t);
    assert_int_equal(last_batch(f)->last.ordinal, ORDINAL_END);
    teardown(f);
}

static const struct wire_column THREE[] = {
    {"id", 23, true}, {"note", 25, false}, {"more", 25, false}};

static int insert_three(struct fixture *f)
{
    put_insert(&f->b, RELID, 3, (const char *const[]){"1", "two", "three"});
    return send(f);
}

// A column that a rolled back savepoint added: no version, no number for it.
static void no_version_of_what_was_rolled_back(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    part(f, 700, true);
    describe_of(f, 700);
    add(f, 700, "1", "one");
    put_relation(&f->b, RELID, "public", "t", 'd', 3, THREE);
    assert_int_equal(send_of(f, 701), 0);
    put_insert(&f->b, RELID, 3, (const char *const[]){"1", "two", "three"});
    assert_int_equal(send_of(f, 701), 0);
    stop_part(f);
    assert_int_equal(abort_of(f, 700, 701), 0);
    part(f, 700, false);
    describe_of(f, 702);
    add(f, 702, "2", "two");
    stop_part(f);
    commit_whole(f, 700, 100);
    assert_int_equal(catalog_count(f->journal.catalog), 1);
    teardown(f);
}

static void the_newest_word_stays(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    part(f, 700, true);
    describe_of(f, 700);
    add(f, 700, "1", "one");
    stop_part(f);
    begin(f, 100); // said later, and committed before
    put_relation(&f->b, RELID, "public", "t", 'd', 3, THREE);
    assert_int_equal(send(f), 0);
    assert_int_equal(insert_three(f), 0);
    assert_int_equal(commit(f, 100), 0);
    commit_whole(f, 700, 200); // with its own two columns
    begin(f, 300);
    assert_int_equal(insert_three(f), 0);
    assert_int_equal(commit(f, 300), 0);
    transaction_drained(f->t);
    const struct batch *b = last_batch(f);
    size_t relations = 0;
    BATCH_FOREACH (b, entry)
        relations += entry->kind == ENTRY_RELATION;
    assert_int_equal(relations, 3); // each time that another shape is in use
    teardown(f);

    f = setup(4096, NULL, 0);
    begin(f, 100);
    describe(f);
    assert_int_equal(insert(f, "1", "one"), 0);
    assert_int_equal(commit(f, 100), 0);
    part(f, 700, true);
    put_relation(&f->b, RELID, "public", "t", 'd', 3, THREE);
    assert_int_equal(send_of(f, 700), 0);
    stop_part(f);
    begin(f, 200); // still the older word
    assert_int_equal(insert(f, "2", "two"), 0);
    assert_int_equal(commit(f, 200), 0);
    commit_whole(f, 700, 300);
    begin(f, 400);
    assert_int_equal(insert_three(f), 0);
    assert_int_equal(commit(f, 400), 0);
    teardown(f);
}

// What the journal has is dropped, but for what it says of tables: the server says that once.
static void dropped_but_for_tables(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    f->journal.appended = 500;
    transaction_lost(f->t);
    connected(f);
    part(f, 700, true);
    describe_of(f, 700);
    add(f, 700, "1", "one");
    stop_part(f);
    commit_whole(f, 700, 400);
    transaction_drained(f->t);
    assert_int_equal(f->journal.count, 0);
    begin(f, 500);
    assert_int_equal(insert(f, "2", "two"), 0);
    assert_int_equal(commit(f, 500), 0);
    transaction_drained(f->t);
    assert_int_equal(last_batch(f)->change_count, 1);
    teardown(f);
}

// A server that opens them without end is not believed.
static void too_many_are_refused(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    for (uint32_t xid = 1; xid <= SPOOLS_MAX; xid++) {
        part(f, xid, true);
        stop_part(f);
    }
    part(f, 7, false); // of one that is known
    stop_part(f);
    assert_int_equal(start_part(f, SPOOLS_MAX + 1, true), -1);
    teardown(f);
}

static void replay_two(struct fixture *f, const char *second)
{
    part(f, 700, true);
    describe_of(f, 700);
    add(f, 700, "1", LONG);
    add(f, 700, "2", second);
    stop_part(f);
    assert_int_equal(commit_of(f, 700, 100), 0);
}

static void lost_in_the_replay(void **state)
{
    (void)state;
    struct fixture *f = setup(64, NULL, 0);
    size_t bytes;
    struct err e;
    replay_two(f, LONG);
    assert_int_equal(transaction_replay(f->t, 200, &bytes, &e), 0);
    assert_true(transaction_replaying(f->t));
    transaction_lost(f->t);
    assert_int_equal(f->journal.cuts, 1);
    assert_int_equal(f->journal.count, 0);
    assert_false(transaction_replaying(f->t));
    connected(f);
    replay_two(f, "other"); // differs where it was cut
    assert_int_equal(replay_all(f), -1);
    transaction_lost(f->t);
    connected(f);
    replay_two(f, "other");
    assert_int_equal(replay_all(f), 0);
    transaction_drained(f->t);
    assert_int_equal(last_batch(f)->attempt, 1);
    teardown(f);
}

static void a_full_spool_ends_it(void **state)
{
    (void)state;
    char base[] = "/tmp/rowcast-streams-XXXXXX";
    assert_non_null(mkdtemp(base));
    struct fixture *f = setup(64, NULL, 0);
    transaction_free(f->t);
    f->source.streaming = true;
    f->source.spool_base = base;
    f->source.spool_memory = 1000;
    f->source.spool_bytes = 5000;
    f->t = transaction_new(&(struct transaction_options){
        .source = &f->source, .journal = &f->journal, .relations = f->relations});
    connected(f);
    assert_true(transaction_streams(f->t));
    part(f, 700, true);
    int n = 0;
    while (insert_of(f, 700, "1", LONG) == 0)
        assert_true(n++ < 1000);
    assert_in_range(n, 30, 100);
    assert_false(transaction_streams(f->t));
    transaction_lost(f->t);
    connected(f);
    assert_int_equal(commit_of(f, 700, 100), -1); // it is not known any more
    teardown(f);
    AUTO_FREE char *dir = xasprintf("%s/spool", base);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(rmdir(base), 0);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct fixture *f = setup(4096, NULL, 0);
    assert_int_equal(start_part(f, 700, false), -1); // its first part did not come
    assert_int_equal(commit_of(f, 700, 100), -1);
    begin(f, 100);
    assert_int_equal(start_part(f, 700, true), -1); // inside of a whole one
    assert_int_equal(commit(f, 100), 0);
    put_begin(&f->b, 105, 1); // begins before that one ended
    assert_int_equal(send(f), -1);
    part(f, 700, true);
    assert_int_equal(start_part(f, 700, true), -1); // inside of itself
    put_begin(&f->b, 200, 1);
    assert_int_equal(send(f), -1);
    assert_int_equal(abort_of(f, 700, 700), -1);
    buf_puts(&f->b, "I\1\2"); // no xid
    assert_int_equal(send(f), -1);
    buf_puts(&f->b, "EE");
    assert_int_equal(send(f), -1);
    assert_int_equal(send(f), -1); // empty
    buf_puts(&f->b, "Inonsense");  // seen when it is replayed
    assert_int_equal(send(f), 0);
    stop_part(f);
    assert_int_equal(commit_of(f, 700, 200), 0);
    assert_int_equal(replay_all(f), -1);
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_whole),
        cmocka_unit_test(nothing_before_its_commit),
        cmocka_unit_test(no_version_of_what_was_rolled_back),
        cmocka_unit_test(the_newest_word_stays),
        cmocka_unit_test(dropped_but_for_tables),
        cmocka_unit_test(too_many_are_refused),
        cmocka_unit_test(lost_in_the_replay),
        cmocka_unit_test(a_full_spool_ends_it),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests_name("transaction_stream", tests, NULL, NULL);
}
