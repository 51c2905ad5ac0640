// From messages to batches, with a journal that only takes notes: what is dropped, skipped, cut and
// compared, and that relation versions stand before their first use.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pgoutput_wire.h"

#include "proto/schema_change.h"
#include "source/transaction.h"

// ---- a journal that takes notes ----

struct journal {
    struct catalog *catalog;
    struct batch *batches[64];
    size_t count;
    lsn_t appended;
    struct journal_cut pending;
    int cuts, holds, releases, done;
    struct {
        uint32_t id;
        struct position at;
    } told[64];
    size_t told_count;
};

struct catalog *journal_catalog(struct journal *j)
{
    return j->catalog;
}
int journal_add_relation(struct journal *j, struct relation *r, struct err *e)
{
    (void)e;
    catalog_add(j->catalog, r);
    return 0;
}
const struct relation *journal_told(struct journal *j, uint32_t oid, const char *table)
{
    (void)table;
    for (size_t i = j->told_count; i > 0; i--) {
        const struct relation *r = catalog_get(j->catalog, j->told[i - 1].id);
        if (r->oid == oid)
            return r;
    }
    return NULL;
}
void journal_tell(struct journal *j, uint32_t id, struct position at)
{
    assert_true(j->told_count < ARRAY_LEN(j->told));
    j->told[j->told_count].id = id;
    j->told[j->told_count++].at = at;
}
void journal_untell(struct journal *j)
{
    struct position last = j->count ? j->batches[j->count - 1]->last : (struct position){0};
    while (j->told_count && position_cmp(j->told[j->told_count - 1].at, last) > 0)
        j->told_count--;
}
void journal_append(struct journal *j, struct batch *b)
{
    assert_true(j->count < ARRAY_LEN(j->batches));
    j->batches[j->count++] = b;
    if (!(b->flags & BATCH_PARTIAL))
        j->appended = u64_max(j->appended, b->watermark);
}
lsn_t journal_watermark(struct journal *j)
{
    return j->appended;
}
lsn_t journal_appended(struct journal *j)
{
    return j->appended;
}
struct journal_cut journal_cut(struct journal *j)
{
    j->cuts++;
    while (j->count && j->batches[j->count - 1]->flags & BATCH_PARTIAL) {
        const struct batch *b = j->batches[j->count - 1];
        if (j->pending.lsn != b->txn_lsn || j->pending.attempt < b->attempt)
            j->pending = (struct journal_cut){b->txn_lsn, b->txn_changes, b->txn_hash, b->attempt};
        batch_unref(j->batches[--j->count]);
    }
    return j->pending;
}
struct journal_cut journal_pending_cut(struct journal *j)
{
    return j->pending;
}
void journal_cut_done(struct journal *j)
{
    j->done++;
    j->pending = (struct journal_cut){0};
}
struct position journal_last(struct journal *j)
{
    (void)j;
    return (struct position){0};
}
struct cursor journal_latest(struct journal *j)
{
    (void)j;
    return (struct cursor){0};
}
bool journal_has_room(struct journal *j, const char **ret_why)
{
    (void)j, (void)ret_why;
    return true;
}
int journal_side_read(struct journal *j, const char *name, struct buf *ret, bool *ret_found,
                      struct err *e)
{
    (void)j, (void)name, (void)ret, (void)e;
    *ret_found = false;
    return 0;
}
int journal_side_replace(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    (void)j, (void)name, (void)bytes, (void)e;
    return 0;
}
int journal_side_append(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    (void)j, (void)name, (void)bytes, (void)e;
    return 0;
}
void journal_hold(struct journal *j)
{
    j->holds++;
}
void journal_release(struct journal *j)
{
    j->releases++;
}

// ---- a source ----

struct fixture {
    struct source_options source;
    struct journal journal;
    struct relations *relations;
    struct transaction *t;
    struct ack ack;
    struct buf b;
};

#define RELID 16384
static const struct wire_column COLUMNS[] = {{"id", 23, true}, {"note", 25, false}};

static void connected(struct fixture *f)
{
    ack_init(&f->ack, f->journal.appended ? f->journal.appended : 50, 50, 0, 0);
    transaction_start(f->t, &f->ack);
}

static int keep(void *arg, struct relation *r, struct err *e)
{
    return journal_add_relation(arg, r, e);
}

static struct fixture *setup(size_t batch_bytes, char **tables, size_t table_count)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->source = (struct source_options){.batch_bytes = batch_bytes,
                                        .row_bytes_max = 1000,
                                        .tables = tables,
                                        .table_count = table_count};
    f->journal.catalog = catalog_new();
    f->relations = relations_new(&(struct relations_options){
        .source = &f->source, .catalog = f->journal.catalog, .add = keep, .arg = &f->journal});
    f->t = transaction_new(&(struct transaction_options){
        .source = &f->source, .journal = &f->journal, .relations = f->relations});
    connected(f);
    return f;
}

static void teardown(struct fixture *f)
{
    for (size_t i = 0; i < f->journal.count; i++)
        batch_unref(f->journal.batches[i]);
    transaction_free(f->t);
    relations_free(f->relations);
    catalog_free(f->journal.catalog);
    buf_free(&f->b);
    free(f);
}

static int send(struct fixture *f)
{
    struct err e;
    int r = transaction_message(f->t, buf_slice(&f->b), 0, NULL, &e);
    buf_clear(&f->b);
    return r;
}

static void describe(struct fixture *f)
{
    put_relation(&f->b, RELID, "public", "t", 'd', 2, COLUMNS);
    assert_int_equal(send(f), 0);
}

static void begin(struct fixture *f, lsn_t lsn)
{
    put_begin(&f->b, lsn, 700);
    assert_int_equal(send(f), 0);
}

static int insert(struct fixture *f, const char *id, const char *note)
{
    put_insert(&f->b, RELID, 2, (const char *const[]){id, note});
    return send(f);
}

static int commit(struct fixture *f, lsn_t lsn)
{
    put_commit(&f->b, lsn, lsn + 10);
    return send(f);
}

static const struct batch *last_batch(const struct fixture *f)
{
    assert_true(f->journal.count > 0);
    return f->journal.batches[f->journal.count - 1];
}

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
        connected(f);
        assert_int_equal(f->journal.told_count, 1);
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
    };
    return cmocka_run_group_tests_name("source_transaction", tests, NULL, NULL);
}
