// Chunks of existing rows: COPY's lines, snapshots and who is seen in them, keys by value, shapes,
// how a table is read, and the statements that do it. No server.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/row.h"
#include "source/snapshot/chunk_key.h"
#include "source/snapshot/chunk_line.h"
#include "source/snapshot/chunk_plan.h"
#include "source/snapshot/chunk_read.h"
#include "source/snapshot/chunk_shape.h"
#include "source/snapshot/chunk_sql.h"

#include <stdio.h>

// ---- lines ----

static void check_value(const struct value *v, const char *text)
{
    if (!text) {
        assert_int_equal(v->state, VALUE_NULL);
        return;
    }
    assert_int_equal(v->state, VALUE_TEXT);
    assert_int_equal(v->n, strlen(text));
    assert_memory_equal(v->text, text, v->n);
}

static void lines(void **state)
{
    (void)state;
    char line[] = "1\t\\N\t\ta\\tb\\\\N\\nc\\r\\b\\f\\v\t\\\\N\n";
    struct value v[5];
    assert_true(chunk_line_split(line, sizeof line - 1, v, 5));
    check_value(&v[0], "1");
    check_value(&v[1], NULL);
    check_value(&v[2], "");
    check_value(&v[3], "a\tb\\N\nc\r\b\f\v");
    check_value(&v[4], "\\N");
    char none[] = "\n";
    assert_true(chunk_line_split(none, 1, v, 0));
    assert_true(chunk_line_split(none, 1, v, 1));
    check_value(&v[0], "");
}

static void lines_that_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t columns;
    } bad[] = {{"1\t2\n", 1}, {"1\t2\n", 3}, {"1", 1},     {"", 0},
               {"x\n", 0},    {"a\\\n", 1},  {"\\x\n", 1}, {"a\\N\n", 1}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct value v[4];
        AUTO_FREE char *text = xstrdup(bad[i].text);
        if (chunk_line_split(text, strlen(text), v, bad[i].columns))
            fail_msg("taken for %zu columns: %s", bad[i].columns, bad[i].text);
    }
}

static uint64_t place(const char *text)
{
    return chunk_line_place(&(struct value){text, (uint32_t)strlen(text), VALUE_TEXT});
}

static void places(void **state)
{
    (void)state;
    assert_int_equal(place("(0,1)"), 1);
    assert_int_equal(place("(7,3)"), CHUNK_PLACE(7, 3));
    assert_int_equal(place("(4294967294,65535)"), CHUNK_PLACE(4294967294, 65535));
    static const char *const bad[] = {"",       "(0,0)",  "(0,65536)", "(4294967296,1)",
                                      "0,1",    "(0,1",   "(,)",       "(1,2,3)",
                                      "(-1,2)", "( 1,2)", "(12,0)",    "(0;1)"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (place(bad[i]) != 0)
            fail_msg("taken for a place: %s", bad[i]);
    }
}

// ---- snapshots ----

static void who_is_seen(void **state)
{
    (void)state;
    struct chunk c = {0};
    assert_int_equal(chunk_set_snapshot(&c, "100:110:100,103,109"), 0);
    for (uint32_t xid = 90; xid < 120; xid++) {
        bool running = xid == 100 || xid == 103 || xid == 109;
        assert_int_equal(chunk_sees(&c, xid), xid < 110 && !running);
    }
    assert_int_equal(chunk_set_snapshot(&c, "5:5:"), 0);
    assert_int_equal(c.xip_n, 0);
    assert_true(chunk_sees(&c, 4));
    assert_false(chunk_sees(&c, 5));
    free(c.xip);
}

// Epochs: just before and just behind the counter's overflow.
static void who_is_seen_at_an_overflow(void **state)
{
    (void)state;
    struct chunk c = {0};
    assert_int_equal(chunk_set_snapshot(&c, "4294967290:4294967300:4294967295,4294967299"), 0);
    assert_true(chunk_sees(&c, 4294967289u));
    assert_true(chunk_sees(&c, 4294967290u));
    assert_false(chunk_sees(&c, 4294967295u));
    assert_false(chunk_sees(&c, 3)); // 4294967299
    assert_true(chunk_sees(&c, 2));  // that is no xid, but it stands below
    assert_false(chunk_sees(&c, 4));
    assert_false(chunk_sees(&c, 1000));
    assert_true(chunk_sees(&c, 4000000000u));
    free(c.xip);
}

static void snapshots_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "1", "1:", "x:2:", "2:1:", "1:5:3,2", "1:5:3,x", "1:5:,3"};
    struct chunk c = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (chunk_set_snapshot(&c, bad[i]) == 0)
            fail_msg("taken for a snapshot: %s", bad[i]);
    }
    free(c.xip);
}

// ---- keys ----

static struct column key_columns[] = {
    {.name = (char *)"id",
     .base_type = (char *)"bigint",
     .number = 3,
     .kind = KIND_INT64,
     .key = true},
    {.name = (char *)"note", .base_type = (char *)"text", .number = 1, .kind = KIND_STRING},
    {.name = (char *)"at",
     .base_type = (char *)"timestamp with time zone",
     .number = 2,
     .kind = KIND_TIMESTAMP,
     .key = true},
    {.name = (char *)"tags",
     .base_type = (char *)"integer[]",
     .number = 5,
     .kind = KIND_ARRAY + KIND_INT32,
     .key = true},
};
static struct relation RELATION = {.id = 1,
                                   .table = (char *)"public.t",
                                   .replica_identity = 'd',
                                   .column_count = 4,
                                   .columns = key_columns};

// Adds the key of a row with these texts; what is to be asked for then must be the same texts.
static void check_listed(struct chunk_order *o, const char *id, const char *at, const char *tags)
{
    struct row_map map = {.n = 4};
    for (size_t i = 0; i < 4; i++)
        map.columns[i] = &key_columns[i];
    row_map_init(&map);
    const char *const texts[] = {id, "x", at, tags};
    struct value v[4];
    for (size_t i = 0; i < 4; i++)
        v[i] = (struct value){texts[i], (uint32_t)strlen(texts[i]), VALUE_TEXT};
    struct row_out out = {0};
    struct err e;
    assert_int_equal(row_encode(&out, &map, &(struct tuple){4, v}, NULL, ROW_KEY, &e), 0);
    size_t before = o->keys.n;
    assert_true(chunk_list_add(o, &RELATION, buf_slice(&out.row), buf_slice(&out.exact)));
    struct reader in = reader_of(o->keys.p + before, o->keys.n - before);
    for (size_t i = 0; i < 4; i++) {
        struct slice text;
        if (!key_columns[i].key)
            continue;
        assert_true(chunk_key_next(&in, &text));
        assert_int_equal(text.n, strlen(texts[i]));
        assert_memory_equal(text.p, texts[i], text.n);
    }
    assert_true(reader_done(&in));
    row_out_fini(&out);
    row_map_fini(&map);
}

static void listed_keys(void **state)
{
    (void)state;
    struct chunk_order o = {0};
    check_listed(&o, "-9223372036854775808", "2020-01-02 03:04:05.000006+00", "{1,NULL,3}");
    check_listed(&o, "7", "infinity", "[0:1]={1,2}"); // exact
    check_listed(&o, "0", "0044-03-15 00:00:00+00 BC", "{}");
    assert_int_equal(o.key_n, 3);
    struct slice none = {0};
    size_t before = o.keys.n;
    assert_false(chunk_list_add(&o, &RELATION, none, none)); // a column is missing
    assert_int_equal(o.keys.n, before);
    assert_int_equal(o.key_n, 3);
    chunk_order_fini(&o);
}

static void bounds(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    chunk_key_put(&b, "7", 1);
    chunk_key_put(&b, "", 0);
    assert_true(chunk_key_valid(buf_slice(&b), 2));
    assert_false(chunk_key_valid(buf_slice(&b), 1));
    assert_false(chunk_key_valid(buf_slice(&b), 3));
    b.p[0] = 100; // longer than what is there
    assert_false(chunk_key_valid(buf_slice(&b), 2));
    buf_clear(&b);
    chunk_key_put(&b, "a\0b", 3);
    assert_false(chunk_key_valid(buf_slice(&b), 1));
    chunk_key_put(&b, "c", 1);
    assert_false(chunk_key_valid(buf_slice(&b), 1));
    buf_clear(&b);
    for (size_t n = 1; n <= COLUMNS_MAX + 1; n++) {
        chunk_key_put(&b, "1", 1);
        assert_int_equal(chunk_key_valid(buf_slice(&b), n), n <= COLUMNS_MAX);
    }
}

// The key of now may be another one than the relation version's: the stream comes to that yet.
static void a_list_by_another_key(void **state)
{
    (void)state;
    static struct chunk_key keys[] = {{.column = (char *)"id"}, {.column = (char *)"other"}};
    static struct chunk_part part = {.table = (char *)"public.t", .keys = keys, .key_count = 2};
    struct chunk c = {
        .order = {.kind = CHUNK_LIST, .part = &part, .relation = &RELATION, .key_n = 1}};
    struct chunk_read r = {0};
    assert_int_equal(chunk_read_run(&r, &c), CHUNK_READ_DONE);
    assert_int_equal(c.status, CHUNK_SHAPE);
    chunk_read_fini(&r);
}

// ---- shapes ----

static struct column shape_columns[] = {
    {.name = (char *)"id", .type_oid = 20, .typmod = -1, .key = true},
    {.name = (char *)"note", .type_oid = 1043, .typmod = 24},
};
static const struct hidden_column HIDDEN[] = {{.attnum = 5, .name = "secret", .as = "secret"}};

static void shapes(void **state)
{
    (void)state;
    static const struct relation r = {.replica_identity = 'd',
                                      .column_count = 2,
                                      .columns = shape_columns,
                                      .hidden_count = 1,
                                      .hidden = (struct hidden_column *)HIDDEN};
    const struct shape_column good[] = {{"id", 1, 20, -1, true, true, false},
                                        {"note", 3, 1043, 24, true, false, false},
                                        {"renamed", 5, 25, -1, true, false, false},
                                        {"unpublished", 6, 25, -1, false, false, false}};
    struct shape_column c[4];
    memcpy(c, good, sizeof c);
    assert_true(chunk_shape_fits(&r, 'd', c, 4));
    assert_true(chunk_shape_fits(&r, 'd', c, 2)); // an excluded one may be gone
    assert_false(chunk_shape_fits(&r, 'f', c, 4));
    assert_false(chunk_shape_fits(&r, 'd', c, 1));
    c[1].typmod = 34;
    assert_false(chunk_shape_fits(&r, 'd', c, 4));
    c[1] = good[1];
    c[1].type_oid = 25;
    assert_false(chunk_shape_fits(&r, 'd', c, 4));
    c[1] = good[1];
    c[1].primary = true;
    assert_false(chunk_shape_fits(&r, 'd', c, 4));
    c[1] = good[1];
    c[1].published = false;
    assert_false(chunk_shape_fits(&r, 'd', c, 4));
    c[1] = good[1];
    c[3].published = true;
    assert_false(chunk_shape_fits(&r, 'd', c, 4));
}

// FULL: the primary key, if all of it is published.
static void shapes_under_full(void **state)
{
    (void)state;
    static const struct relation keyed = {
        .replica_identity = 'f', .column_count = 2, .columns = shape_columns};
    struct shape_column c[] = {{"id", 1, 20, -1, true, true, false},
                               {"note", 3, 1043, 24, true, false, false},
                               {"part", 4, 23, -1, false, true, false}};
    assert_true(chunk_shape_fits(&keyed, 'f', c, 2));
    assert_false(chunk_shape_fits(&keyed, 'f', c, 3)); // a part of the key is not: no key
}

// ---- plans ----

static void how_a_part_is_read(void **state)
{
    (void)state;
    struct chunk_part p = {.pages = 1000, .bytes = 1000 * 8192, .rows = 80000, .key_count = 1};
    chunk_plan_part(&p, 140000, true, true, 0);
    assert_int_equal(p.kind, CHUNK_PAGES);
    assert_in_range(p.step, 64, 256);
    chunk_plan_part(&p, 130000, true, true, 0); // TID range scans came with 14
    assert_int_equal(p.kind, CHUNK_KEYS);
    chunk_plan_part(&p, 140000, false, true, 0); // nobody would tell of a row that moves
    assert_int_equal(p.kind, CHUNK_KEYS);
    chunk_plan_part(&p, 140000, true, false, 0); // not a heap
    assert_int_equal(p.kind, CHUNK_KEYS);
    assert_in_range(p.limit, 5000, 20000);
    p.key_count = 0;
    chunk_plan_part(&p, 140000, true, true, 0);
    assert_int_equal(p.kind, CHUNK_WHOLE);
    p.bytes *= 1000; // stored out of line
    chunk_plan_part(&p, 140000, true, true, 0);
    assert_int_equal(p.step, 1);
    p.bytes = 1000 * 8192;
    chunk_plan_part(&p, 140000, true, true, 100000); // a quarter of a second's rate
    assert_in_range(p.step, 1, 5);
    p = (struct chunk_part){.key_count = 1, .rows = -1}; // never analyzed, empty
    chunk_plan_part(&p, 140000, true, true, 0);
    assert_true(p.step >= 1 && p.limit >= 1);
}

// ---- statements ----

static const struct chunk_key PLAIN[] = {
    {(char *)"id",
     NULL,
     {(char *)"pg_catalog.<", (char *)"pg_catalog.<=", (char *)"pg_catalog.=",
      (char *)"pg_catalog.>=", (char *)"pg_catalog.>"}},
    {(char *)"a\"b",
     (char *)"pg_catalog.\"C\"",
     {(char *)"pg_catalog.<", (char *)"pg_catalog.<=", (char *)"pg_catalog.=",
      (char *)"pg_catalog.>=", (char *)"pg_catalog.>"}},
};
static const struct chunk_key OWN[] = {
    {(char *)"id",
     NULL,
     {(char *)"public.<",
      (char *)"public.<=", (char *)"public.=", (char *)"public.>=", (char *)"public.>"}},
    {(char *)"n",
     NULL,
     {(char *)"pg_catalog.<", (char *)"pg_catalog.<=", (char *)"pg_catalog.=",
      (char *)"pg_catalog.>=", (char *)"pg_catalog.>"}},
};

// The rows' statement of all that is sent.
static void check_copy(const struct chunk_order *o, bool with_places, const char *copy)
{
    static char name[] = "p";
    static char *names[] = {name};
    static const struct source_options options = {.publications = names, .publication_count = 1};
    AUTO_BUF struct buf sql = {0};
    chunk_sql_read(&sql, &options, 180000, o, with_places);
    const char *lock = strstr(buf_cstr(&sql), "lock table only public.t in access share mode"),
               *snapshot = strstr(buf_cstr(&sql), "pg_current_snapshot");
    char *from = strstr(buf_cstr(&sql), "copy (");
    assert_non_null(lock);
    assert_non_null(snapshot);
    assert_non_null(from);
    assert_true(lock < snapshot && snapshot < from);
    char *end = strstr(from, ") to stdout");
    assert_non_null(end);
    *end = 0;
    assert_string_equal(from, copy);
}

static void statements(void **state)
{
    (void)state;
    static struct column columns[] = {{.name = (char *)"id", .key = true},
                                      {.name = (char *)"a\"b", .key = true},
                                      {.name = (char *)"card", .masked = true}};
    static const struct relation r = {.column_count = 3, .columns = columns};
    static const struct chunk_table table = {.terms = (char *)"", .filter = (char *)"id > 5"};
    struct chunk_part part = {.table = (char *)"public.t",
                              .keys = (struct chunk_key *)PLAIN,
                              .key_count = 2,
                              .limit = 10};
#define ROWS "copy (select \"id\", \"a\"\"b\", case num_nulls(\"card\") when 0 then '' end"
#define FROM " from only public.t where (id > 5)"
#define BY_KEY                                                                                     \
    " order by \"id\" using operator(pg_catalog.<), \"a\"\"b\" collate pg_catalog.\"C\" using "    \
    "operator(pg_catalog.<)"
    struct chunk_order o = {.kind = CHUNK_PAGES,
                            .table = &table,
                            .part = &part,
                            .relation = &r,
                            .place_from = CHUNK_PLACE(3, 7),
                            .place_to = CHUNK_PLACE(4000000000, 0)};
    check_copy(&o, true, ROWS ", ctid" FROM " and ctid >= '(3,7)' and ctid < '(4000000000,0)'");
    o.kind = CHUNK_WHOLE;
    check_copy(&o, false, ROWS FROM);
    o.kind = CHUNK_KEYS;
    check_copy(&o, false, ROWS FROM BY_KEY " limit 10");
    chunk_key_put(&o.key_from, "1", 1);
    chunk_key_put(&o.key_from, "it's", 4);
    check_copy(&o, false,
               ROWS FROM " and row(\"id\", \"a\"\"b\" collate pg_catalog.\"C\") "
                         "operator(pg_catalog.>) row('1', 'it''s')" BY_KEY " limit 10");
    o.kind = CHUNK_LIST;
    o.key_n = 1;
    buf_put(&o.keys, o.key_from.p, o.key_from.n);
    buf_free(&o.key_from);
    check_copy(&o, false,
               ROWS FROM " and ((\"id\" operator(pg_catalog.=) '1' and \"a\"\"b\" collate "
                         "pg_catalog.\"C\" operator(pg_catalog.=) 'it''s'))" BY_KEY);
    chunk_order_fini(&o);
}

// A key with operators that are not PostgreSQL's own: by its columns, one by one.
static void statements_with_other_operators(void **state)
{
    (void)state;
    static struct column columns[] = {{.name = (char *)"id", .key = true},
                                      {.name = (char *)"n", .key = true}};
    static const struct relation r = {.column_count = 2, .columns = columns};
    static const struct chunk_table table = {.terms = (char *)""};
    struct chunk_part part = {
        .table = (char *)"public.t", .keys = (struct chunk_key *)OWN, .key_count = 2, .limit = 10};
    struct chunk_order o = {.kind = CHUNK_KEYS, .table = &table, .part = &part, .relation = &r};
    chunk_key_put(&o.key_from, "a", 1);
    chunk_key_put(&o.key_from, "1", 1);
    chunk_key_put(&o.key_to, "b", 1);
    chunk_key_put(&o.key_to, "2", 1);
    check_copy(&o, false,
               "copy (select \"id\", \"n\" from only public.t where true and "
               "\"id\" operator(public.>=) 'a' and (\"id\" operator(public.>) 'a' or ("
               "\"n\" operator(pg_catalog.>) '1')) and "
               "\"id\" operator(public.<=) 'b' and (\"id\" operator(public.<) 'b' or ("
               "\"n\" operator(pg_catalog.<=) '2')) order by \"id\" using operator(public.<), "
               "\"n\" using operator(pg_catalog.<) limit 10");
    chunk_order_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(lines_that_are_none),
        cmocka_unit_test(places),
        cmocka_unit_test(who_is_seen),
        cmocka_unit_test(who_is_seen_at_an_overflow),
        cmocka_unit_test(snapshots_that_are_none),
        cmocka_unit_test(listed_keys),
        cmocka_unit_test(bounds),
        cmocka_unit_test(a_list_by_another_key),
        cmocka_unit_test(shapes),
        cmocka_unit_test(shapes_under_full),
        cmocka_unit_test(how_a_part_is_read),
        cmocka_unit_test(statements),
        cmocka_unit_test(statements_with_other_operators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
