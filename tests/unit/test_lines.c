// Entries as lines: relations before their first change, filters, places that were had before.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/registry.h"
#include "proto/wire.h"
#include "sinks/stdout/lines.h"

static const struct cursor stream = {.stream_id = 0xabc, .timeline = 1};
static const struct position nothing = {0, 0};

static struct catalog *two_tables(void)
{
    struct catalog *c = catalog_new();
    static const char *const names[] = {"a", "b"};
    for (uint32_t i = 0; i < 2; i++) {
        struct seen_column id = {.name = "id",
                                 .type = "integer",
                                 .base_type = "integer",
                                 .type_oid = 23,
                                 .typmod = -1,
                                 .attnum = 1,
                                 .kind = KIND_INT32,
                                 .key = true};
        struct seen_relation seen = {16384 + i, "public", names[i], 'd', 1, &id};
        catalog_add(c, registry_number(NULL, &seen, i + 1));
    }
    return c;
}

// A transaction with one insert into each of the relations listed, 0 ending them.
static void add_txn(struct batch_builder *bb, lsn_t lsn, const uint32_t *relations)
{
    batch_add_begin(bb, &(struct begin){.lsn = lsn, .xid = 9});
    for (; *relations; relations++) {
        AUTO_BUF struct buf row = {0};
        wire_uint(&row, 1, lsn);
        struct change c = {.op = OP_INSERT, .relation = *relations, .after = buf_slice(&row)};
        batch_add_change(bb, &c);
    }
    batch_add_end(bb, lsn + 8);
}

// Each line shortened to what it is about: "a@1.0" an insert, "+a" a relation, "end@1" ..
static void summary(struct buf *text, struct buf *ret)
{
    for (char *line = buf_cstr(text); *line;) {
        size_t n = strcspn(line, "\n");
        line[n] = 0;
        char *table = strstr(line, "\"table\":\"public."), *cursor = strstr(line, "abc.1.");
        if (strstr(line, "\"type\":\"relation\""))
            buf_printf(ret, "+%c ", table[16]);
        else if (strstr(line, "\"op\":\"insert\""))
            buf_printf(ret, "%c@%.3s ", table[16], cursor + 6);
        else if (strstr(line, "\"op\":\"read\""))
            buf_printf(ret, "r%c@%.13s ", table[16], cursor + 6);
        else if (strstr(line, "\"type\":\"end\",\"lsn\":\"0/3\",\"seq\":"))
            buf_printf(ret, "end@%.13s ", cursor + 6);
        else if (strstr(line, "\"type\":\"end\""))
            buf_printf(ret, "end@%c ", cursor[6]);
        else if (strstr(line, "\"type\":\"snapshot\""))
            buf_printf(ret, "%c%c@%.13s ", strstr(line, "\"step\":\"")[8], table[16], cursor + 6);
        else if (strstr(line, "\"type\":\"gap\""))
            buf_printf(ret, "gap@%.1s ", cursor + 6);
        else if (strstr(line, "\"type\":\"progress\""))
            buf_puts(ret, "progress ");
        else if (strstr(line, "\"type\":\"restart\""))
            buf_puts(ret, "restart ");
        else
            fail_msg("%s", line);
        line += n + 1;
    }
}

static void lines_are(struct lines *l, struct batch *b, struct position skip, const char *expected)
{
    AUTO_BUF struct buf out = {0};
    AUTO_BUF struct buf found = {0};
    struct err e;
    assert_int_equal(lines_batch(l, stream, b, skip, &out, &e), 0);
    summary(&out, &found);
    assert_string_equal(buf_cstr(&found), expected);
}

static struct batch *three_transactions(void)
{
    struct batch_builder *bb = batch_builder_new(1 << 16);
    add_txn(bb, 1, (uint32_t[]){1, 1, 0});
    add_txn(bb, 2, (uint32_t[]){2, 0});
    add_txn(bb, 3, (uint32_t[]){1, 2, 0});
    batch_add_progress(bb, 16);
    struct batch *b = batch_builder_take(bb, false);
    assert_non_null(b);
    batch_builder_free(bb);
    return b;
}

static void test_all(void **state)
{
    (void)state;
    struct catalog *c = two_tables();
    struct batch *b = three_transactions();
    struct lines *l = lines_new(c, NULL, 0);
    lines_are(l, b, nothing, "+a a@1.0 a@1.1 end@1 +b b@2.0 end@2 a@3.0 b@3.1 end@3 progress ");
    // The relations are known by now.
    lines_are(l, b, (struct position){2, ORDINAL_END}, "a@3.0 b@3.1 end@3 progress ");
    lines_free(l);
    batch_unref(b);
    catalog_free(c);
}

static void test_filter(void **state)
{
    (void)state;
    struct catalog *c = two_tables();
    struct batch *b = three_transactions();
    char *tables[] = {(char *)"public.b"};
    struct lines *l = lines_new(c, tables, 1);
    lines_are(l, b, nothing, "+b b@2.0 end@2 b@3.1 end@3 progress ");
    lines_free(l);
    batch_unref(b);
    catalog_free(c);
}

static void test_going_on(void **state)
{
    (void)state;
    struct catalog *c = two_tables();
    struct batch *b = three_transactions();
    struct lines *l = lines_new(c, NULL, 0);
    // Inside a transaction: its end is due, for something of it was had.
    lines_are(l, b, (struct position){1, 0},
              "+a a@1.1 end@1 +b b@2.0 end@2 a@3.0 b@3.1 end@3 "
              "progress ");
    lines_free(l);
    l = lines_new(c, NULL, 0);
    lines_are(l, b, (struct position){1, 1}, "end@1 +b b@2.0 end@2 +a a@3.0 b@3.1 end@3 progress ");
    lines_are(l, b, (struct position){3, ORDINAL_END}, "progress ");
    lines_are(l, b, (struct position){15, ORDINAL_END}, "");
    lines_free(l);
    batch_unref(b);
    catalog_free(c);
}

static void test_restart(void **state)
{
    (void)state;
    struct catalog *c = two_tables();
    struct batch_builder *bb = batch_builder_new(1 << 16);
    batch_add_begin(bb, &(struct begin){.lsn = 1, .xid = 9});
    batch_add_change(bb, &(struct change){.op = OP_INSERT, .relation = 1, .after = slice_of("")});
    struct batch *part = batch_builder_take(bb, true);
    batch_builder_reset(bb);
    add_txn(bb, 1, (uint32_t[]){2, 0});
    struct batch *again = batch_builder_take(bb, false);
    batch_builder_free(bb);
    struct lines *l = lines_new(c, NULL, 0);
    lines_are(l, part, nothing, "+a a@1.0 ");
    AUTO_BUF struct buf out = {0};
    lines_restart(l, &out);
    assert_string_equal(buf_cstr(&out), "{\"type\":\"restart\",\"lsn\":\"0/1\"}\n");
    lines_are(l, again, nothing, "+b b@1.0 end@1 ");
    buf_clear(&out);
    lines_restart(l, &out); // between transactions there is nothing to forget
    assert_int_equal(out.n, 0);
    lines_free(l);
    batch_unref(part);
    batch_unref(again);
    catalog_free(c);
}

// Behind transaction 3: a snapshot of b (a mark, two rows, a mark), then a gap up to 9.
static struct batch *existing_rows(void)
{
    struct batch_builder *bb = batch_builder_new(1 << 16);
    AUTO_BUF struct buf row = {0};
    wire_uint(&row, 1, 7);
    struct snapshot_mark mark = {
        .at = {3, ORDINAL_ASIDE}, .step = SNAPSHOT_BEGIN, .table = slice_of("public.b")};
    batch_add_snapshot_mark(bb, &mark);
    batch_add_begin(bb, &(struct begin){.lsn = 3, .read = true, .ordinal = ORDINAL_ASIDE + 1});
    for (int i = 0; i < 2; i++)
        batch_add_change(bb,
                         &(struct change){.op = OP_READ, .relation = 2, .after = buf_slice(&row)});
    batch_add_end(bb, 0);
    mark.at.ordinal = ORDINAL_ASIDE + 4;
    mark.step = SNAPSHOT_END;
    batch_add_snapshot_mark(bb, &mark);
    batch_add_gap(bb, 4, 9, "test");
    struct batch *b = batch_builder_take(bb, false);
    batch_builder_free(bb);
    return b;
}

static void test_existing_rows(void **state)
{
    (void)state;
    struct catalog *c = two_tables();
    struct batch *b = existing_rows();
    char *tables[] = {(char *)"public.a"};
    struct lines *l = lines_new(c, NULL, 0);
    lines_are(l, b, (struct position){3, ORDINAL_END},
              "bb@3.10000000000 +b rb@3.10000000001 rb@3.10000000002 end@3.10000000003 "
              "eb@3.10000000004 gap@8 ");
    // From inside the run: its end is due. From its last row too, and not from behind its end.
    lines_are(l, b, (struct position){3, ORDINAL_ASIDE + 1},
              "rb@3.10000000002 end@3.10000000003 eb@3.10000000004 gap@8 ");
    lines_are(l, b, (struct position){3, ORDINAL_ASIDE + 2},
              "end@3.10000000003 eb@3.10000000004 gap@8 ");
    lines_are(l, b, (struct position){3, ORDINAL_ASIDE + 3}, "eb@3.10000000004 gap@8 ");
    lines_are(l, b, (struct position){8, ORDINAL_END}, "");
    lines_free(l);
    l = lines_new(c, tables, 1); // another table's; a gap is everybody's
    lines_are(l, b, (struct position){3, ORDINAL_END}, "gap@8 ");
    lines_free(l);
    batch_unref(b);
    catalog_free(c);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),           cmocka_unit_test(test_filter),
        cmocka_unit_test(test_going_on),      cmocka_unit_test(test_restart),
        cmocka_unit_test(test_existing_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
