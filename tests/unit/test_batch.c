// Batches: what the builder seals, the parser reads back the same; parts, splits, hashes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/batch.h"

static struct change insert_of(const char *row)
{
    return (struct change){
        .op = OP_INSERT, .relation = 7, .key = slice_of("k"), .after = slice_of(row)};
}

static struct batch *parsed_copy(const struct batch *b)
{
    uint8_t *data = xmalloc(BATCH_HEADROOM + b->n);
    memcpy(data + BATCH_HEADROOM, b->data, b->n);
    struct batch *copy;
    struct err e;
    assert_int_equal(batch_parse(data, b->n, &copy, &e), 0);
    return copy;
}

static void assert_same(const struct batch *a, const struct batch *b)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->entry_count, b->entry_count);
    for (uint32_t i = 0; i < a->entry_count; i++) { // by field: the padding says nothing
        const struct entry *x = &a->entries[i], *y = &b->entries[i];
        assert_true(x->off == y->off && x->body == y->body && x->end == y->end);
        assert_true(x->relation == y->relation && x->ordinal == y->ordinal);
        assert_true(x->kind == y->kind && x->op == y->op);
    }
    assert_int_equal(position_cmp(a->first, b->first), 0);
    assert_int_equal(position_cmp(a->last, b->last), 0);
    assert_int_equal(a->change_count, b->change_count);
    assert_int_equal(a->end_count, b->end_count);
    assert_int_equal(a->xid_min, b->xid_min);
    assert_int_equal(a->xid_max, b->xid_max);
    assert_int_equal(a->commit_time_us, b->commit_time_us);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->txn_lsn, b->txn_lsn);
}

static void take_and_check(struct batch_builder *bb, bool partial, struct batch **ret_b)
{
    struct batch *b = batch_builder_take(bb, partial);
    assert_non_null(b);
    struct batch *copy = parsed_copy(b);
    assert_same(b, copy);
    batch_unref(copy);
    *ret_b = b;
}

static void whole_transactions_round_trip(void **state)
{
    (void)state;
    struct batch_builder *bb = batch_builder_new(4096);
    for (uint32_t i = 1; i <= 3; i++) {
        struct begin begin = {.lsn = 1000 * i, .commit_time_us = -5, .xid = 40 - i};
        if (i == 2)
            begin.origin = slice_of("elsewhere");
        batch_add_begin(bb, &begin);
        for (uint32_t n = 0; n < i; n++) {
            struct change c = insert_of("row");
            assert_int_equal(batch_add_change(bb, &c), n);
        }
        assert_true(batch_add_end(bb, 1000 * i + 8));
    }
    struct batch *b;
    take_and_check(bb, false, &b);
    assert_int_equal(b->watermark, 3008);
    assert_int_equal(b->last.ordinal, ORDINAL_END);
    int lasts = 0;
    BATCH_FOREACH (b, e) {
        if (e->kind == ENTRY_CHANGE) {
            struct change c = batch_change(b, e);
            assert_int_equal(c.op, OP_INSERT);
            assert_int_equal(c.after.n, 3);
            lasts += c.last;
        } else if (e->kind == ENTRY_BEGIN) {
            struct begin begin = batch_begin(b, e);
            assert_int_equal(begin.origin.n, begin.lsn == 2000 ? 9 : 0);
            assert_int_equal(begin.commit_time_us, -5);
        }
    }
    assert_int_equal(lasts, 3);
    assert_null(batch_builder_take(bb, true));
    batch_unref(b);
    batch_builder_free(bb);
}

// A begin mark, two runs of existing rows, an end mark: each behind the last one.
static void what_does_not_come_from_wal_stands_behind_a_transaction(void **state)
{
    (void)state;
    struct batch_builder *bb = batch_builder_new(4096);
    struct position at = position_aside((struct position){100, ORDINAL_END});
    struct change c = {.op = OP_READ, .relation = 7, .key = slice_of("k"), .after = slice_of("r")};
    batch_builder_set_watermark(bb, 108);
    batch_add_snapshot_mark(
        bb,
        &(struct snapshot_mark){.at = at, .step = SNAPSHOT_BEGIN, .table = slice_of("public.t")});
    for (int run = 0; run < 2; run++) {
        at = position_aside(at);
        batch_add_begin(bb, &(struct begin){.lsn = at.lsn, .read = true, .ordinal = at.ordinal});
        batch_add_change(bb, &c);
        at.ordinal = batch_add_change(bb, &c) + 1;
        assert_true(batch_add_end(bb, 0));
    }
    at = position_aside(at);
    batch_add_snapshot_mark(
        bb, &(struct snapshot_mark){
                .at = at, .step = SNAPSHOT_END, .table = slice_of("public.t"), .rows = 4});
    struct batch *b;
    take_and_check(bb, false, &b);
    assert_int_equal(b->flags, BATCH_ASIDE);
    assert_int_equal(b->watermark, 108);
    assert_int_equal(b->first.lsn, 100);
    assert_int_equal(b->first.ordinal, ORDINAL_ASIDE);
    assert_int_equal(b->last.ordinal, ORDINAL_ASIDE + 7);
    uint64_t next = ORDINAL_ASIDE;
    struct begin begin = {0};
    BATCH_FOREACH (b, e) {
        if (e->kind == ENTRY_BEGIN)
            begin = batch_begin(b, e);
        else
            assert_int_equal(batch_entry_position(b, e, &begin).ordinal, next++);
    }
    assert_int_equal(batch_snapshot_mark(b, &b->entries[b->entry_count - 1]).rows, 4);
    batch_unref(b);
    batch_builder_free(bb);
}

static void an_open_transaction_stays_behind_whole_ones(void **state)
{
    (void)state;
    struct batch_builder *bb = batch_builder_new(4096);
    struct change c = insert_of("row");
    batch_add_begin(bb, &(struct begin){.lsn = 100, .xid = 1});
    batch_add_change(bb, &c);
    batch_add_end(bb, 108);
    batch_add_begin(bb, &(struct begin){.lsn = 200, .xid = 2});
    batch_add_change(bb, &c);
    struct batch *b;
    take_and_check(bb, true, &b); // whole transactions go first, although a part was allowed
    assert_int_equal(b->flags & BATCH_PARTIAL, 0);
    assert_int_equal(b->last.lsn, 100);
    batch_unref(b);
    batch_add_change(bb, &c);
    take_and_check(bb, true, &b);
    assert_int_equal(b->flags, BATCH_PARTIAL);
    assert_int_equal(b->txn_lsn, 200);
    assert_int_equal(b->txn_changes, 2);
    assert_int_equal(b->watermark, 108);
    assert_int_equal(b->first.ordinal, 0);
    assert_int_equal(b->last.ordinal, 1);
    batch_unref(b);
    batch_add_change(bb, &c);
    batch_add_end(bb, 208);
    take_and_check(bb, false, &b);
    assert_int_equal(b->flags, BATCH_CONTINUED);
    assert_true(batch_begin(b, &b->entries[0]).continued);
    assert_int_equal(b->first.ordinal, 2);
    assert_int_equal(b->watermark, 208);
    batch_unref(b);
    batch_builder_free(bb);
}

static uint64_t hash_of_two(bool split, bool ends)
{
    struct batch_builder *bb = batch_builder_new(4096);
    struct change c = insert_of("row"), d = insert_of("other");
    batch_add_begin(bb, &(struct begin){.lsn = 200, .xid = 2});
    batch_add_change(bb, &c);
    if (split)
        batch_unref(batch_builder_take(bb, true));
    batch_add_change(bb, &d);
    uint64_t hash = batch_builder_txn_hash(bb);
    if (ends)
        batch_add_end(bb, 208);
    assert_int_equal(batch_builder_txn_hash(bb), hash);
    batch_builder_free(bb);
    return hash;
}

static void the_hash_does_not_depend_on_how_it_was_cut(void **state)
{
    (void)state;
    assert_int_equal(hash_of_two(false, false), hash_of_two(true, false));
    assert_int_equal(hash_of_two(false, true), hash_of_two(true, true));
}

static void an_empty_transaction_leaves_nothing(void **state)
{
    (void)state;
    struct batch_builder *bb = batch_builder_new(4096);
    batch_add_begin(bb, &(struct begin){.lsn = 100, .xid = 1});
    batch_skip_change(bb);
    assert_false(batch_add_end(bb, 108));
    assert_null(batch_builder_take(bb, true));
    batch_add_progress(bb, 120);
    struct batch *b;
    take_and_check(bb, false, &b);
    assert_int_equal(b->flags, BATCH_PROGRESS);
    assert_int_equal(b->last.lsn, 119);
    assert_int_equal(b->watermark, 120);
    batch_unref(b);
    batch_builder_free(bb);
}

static void a_skipped_change_takes_its_ordinal(void **state)
{
    (void)state;
    struct batch_builder *bb = batch_builder_new(4096);
    struct change c = insert_of("row");
    batch_add_begin(bb, &(struct begin){.lsn = 100, .xid = 1});
    batch_skip_change(bb);
    assert_int_equal(batch_add_change(bb, &c), 1);
    assert_int_equal(batch_builder_txn_changes(bb), 1);
    batch_builder_free(bb);
}

static void malformed_bytes_are_refused(void **state)
{
    (void)state;
    struct batch_builder *bb = batch_builder_new(4096);
    struct change c = insert_of("row");
    batch_add_begin(bb, &(struct begin){.lsn = 100, .xid = 1});
    batch_add_change(bb, &c);
    batch_add_end(bb, 108);
    struct batch *b = batch_builder_take(bb, false);
    for (size_t n = 0; n < b->n; n++) { // every cut that is not between two entries
        bool between = false;
        BATCH_FOREACH (b, e)
            between |= e->end == n;
        uint8_t *data = xmalloc(BATCH_HEADROOM + n);
        memcpy(data + BATCH_HEADROOM, b->data, n);
        struct batch *out;
        struct err e;
        int r = batch_parse(data, n, &out, &e);
        assert_int_equal(r, between ? 0 : -1);
        if (r == 0)
            batch_unref(out);
    }
    batch_unref(b);
    batch_builder_free(bb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_transactions_round_trip),
        cmocka_unit_test(what_does_not_come_from_wal_stands_behind_a_transaction),
        cmocka_unit_test(an_open_transaction_stays_behind_whole_ones),
        cmocka_unit_test(the_hash_does_not_depend_on_how_it_was_cut),
        cmocka_unit_test(an_empty_transaction_leaves_nothing),
        cmocka_unit_test(a_skipped_change_takes_its_ordinal),
        cmocka_unit_test(malformed_bytes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
