// Relation versions: names as SQL quotes them, globs, the message and back, the catalog.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "proto/catalog.h"
#include "proto/tuple.h"
#include "proto/wire.h"

static struct relation *relation_of(uint32_t id, const char *name, uint16_t columns)
{
    struct relation *r = xcalloc(1, sizeof *r);
    r->id = id;
    r->oid = 16384;
    r->schema = xstrdup("public");
    r->name = xstrdup(name);
    r->replica_identity = 'd';
    r->column_count = columns;
    r->columns = xcalloc(columns + 1u, sizeof *r->columns);
    for (uint16_t i = 0; i < columns; i++)
        r->columns[i] = (struct column){.name = xasprintf("c%u", i),
                                        .type = xstrdup("bigint"),
                                        .base_type = xstrdup("bigint"),
                                        .type_oid = 20,
                                        .typmod = -1,
                                        .number = i + 1u,
                                        .attnum = (int16_t)(i + 1),
                                        .kind = KIND_INT64,
                                        .key = i == 0};
    r->reserved = xcalloc(1, sizeof *r->reserved);
    return r;
}

static void assert_quoted(const char *schema, const char *name, const char *want)
{
    AUTO_BUF struct buf b = {0};
    table_quote(&b, schema, name);
    assert_string_equal(buf_cstr(&b), want);
}

static void test_quote(void **state)
{
    (void)state;
    assert_quoted("public", "orders", "public.orders");
    assert_quoted("public", "Odd.Name", "public.\"Odd.Name\"");
    assert_quoted("public", "a\"b", "public.\"a\"\"b\"");
    assert_quoted("shop", "order", "shop.\"order\"");
    assert_quoted("shop", "ord", "shop.ord");
    assert_quoted("all", "xmltable", "\"all\".\"xmltable\"");
    assert_quoted("_1", "a1_$", "_1.\"a1_$\"");
    assert_quoted("1a", "", "\"1a\".\"\"");
    assert_quoted("public", "caf\xc3\xa9", "public.\"caf\xc3\xa9\"");
    assert_quoted("public", "abort", "public.abort"); // an unreserved keyword
    assert_quoted("public", "merge_action", "public.\"merge_action\"");
}

static void test_match(void **state)
{
    (void)state;
    assert_true(table_match("public.orders", "public.orders"));
    assert_true(table_match("orders", "public.orders"));
    assert_true(table_match("ord*", "public.orders"));
    assert_true(table_match("*", "shop.orders"));
    assert_true(table_match("shop.*", "shop.orders"));
    assert_true(table_match("*.\"Odd.Name\"", "public.\"Odd.Name\""));
    assert_true(table_match("\"order\"", "public.\"order\""));
    assert_false(table_match("orders", "shop.orders"));
    assert_false(table_match("public.ord", "public.orders"));
    assert_false(table_match("public.*", "shop.orders"));
    char a[] = "a.*", b[] = "b.*", *globs[] = {a, b};
    assert_true(table_match_any(globs, 0, "c.x"));
    assert_true(table_match_any(globs, 2, "b.x"));
    assert_false(table_match_any(globs, 2, "c.x"));
}

static void test_kinds(void **state)
{
    (void)state;
    assert_true(kind_compatible(KIND_INT32, KIND_INT64));
    assert_true(kind_compatible(KIND_BOOL, KIND_UINT32));
    assert_false(kind_compatible(KIND_INT32, KIND_STRING));
    assert_false(kind_compatible(KIND_FLOAT, KIND_DOUBLE));
    assert_false(kind_compatible(KIND_ARRAY + KIND_INT32, KIND_ARRAY + KIND_INT64));
    assert_true(kind_compatible(KIND_TIMESTAMP, KIND_TIMESTAMP));
    assert_string_equal(kind_proto_type(KIND_TIMESTAMP), "google.protobuf.Timestamp");
    assert_string_equal(kind_proto_type(KIND_MAX), "rowcast.v1.TimestampArray");
}

static struct relation *rich(void)
{
    struct relation *r = relation_of(7, "Odd.Name", 4);
    r->replica_identity = 'f';
    r->columns[1].typmod = 0;
    r->columns[1].masked = true;
    r->columns[1].number = 2001;
    r->columns[2].kind = KIND_MAX;
    r->columns[2].attnum = 0;
    r->columns[3].kind = KIND_STRING;
    r->columns[3].json_class = JSON_CLASS_JSON;
    r->reserved_count = 1;
    r->reserved[0] = (struct reserved_number){2, KIND_FLOAT, xstrdup("gone")};
    r->root = xstrdup("public.top");
    relation_seal(r);
    return r;
}

static void test_decode(void **state)
{
    (void)state;
    struct relation *a = rich(), *b;
    struct err e;
    assert_int_equal(relation_decode(a->stored, &b, &e), 0);
    assert_int_equal(b->id, 7);
    assert_int_equal(b->oid, 16384);
    assert_string_equal(b->table, "public.\"Odd.Name\"");
    assert_int_equal(b->replica_identity, 'f');
    assert_int_equal(b->column_count, 4);
    assert_true(b->columns[0].key && !b->columns[1].key);
    assert_int_equal(b->columns[0].typmod, -1);
    assert_int_equal(b->columns[1].typmod, 0);
    assert_true(b->columns[1].masked);
    assert_int_equal(b->columns[2].kind, KIND_MAX);
    assert_int_equal(b->columns[2].attnum, 0);
    assert_int_equal(b->columns[3].attnum, 4);
    assert_int_equal(b->columns[3].json_class, JSON_CLASS_JSON);
    assert_int_equal(b->reserved_count, 1);
    assert_string_equal(b->reserved[0].name, "gone");
    assert_int_equal(b->reserved[0].kind, KIND_FLOAT);
    assert_int_equal(a->encoded.n, b->encoded.n);
    assert_memory_equal(a->encoded.p, b->encoded.p, a->encoded.n);
    assert_ptr_equal(relation_column(b, 2001), &b->columns[1]);
    assert_null(relation_column(b, 2));
    assert_string_equal(b->root, "public.top");
    assert_true(relation_same(a, b));
    relation_free(b);
    // What is sent is without what only the journal keeps.
    assert_int_equal(relation_decode(a->encoded, &b, &e), 0);
    assert_null(b->root);
    assert_false(relation_same(a, b));
    relation_free(a);
    relation_free(b);
}

// Every way of cutting it short is refused or gives fewer columns, and reads nothing outside.
static void test_decode_cut(void **state)
{
    (void)state;
    struct relation *a = rich();
    struct err e;
    for (size_t n = 0; n < a->stored.n; n++) {
        AUTO_FREE uint8_t *copy = xmalloc(n + 1);
        memcpy(copy, a->stored.p, n);
        struct relation *b = NULL;
        if (relation_decode((struct slice){copy, n}, &b, &e) == 0)
            assert_true(b->column_count + b->reserved_count + !!b->root < 6);
        else
            assert_int_equal(e.class, ERR_DATA);
        relation_free(b);
    }
    relation_free(a);
}

static void refuse(struct relation *r)
{
    struct relation *b;
    struct err e = {0};
    relation_seal(r);
    assert_int_equal(relation_decode(r->encoded, &b, &e), -1);
    assert_int_equal(e.class, ERR_DATA);
    relation_free(r);
}

static void test_decode_nonsense(void **state)
{
    (void)state;
    struct relation *r = relation_of(1, "t", 2);
    r->columns[0].number = 0;
    refuse(r);
    r = relation_of(1, "t", 2);
    r->columns[0].number = 19500;
    refuse(r);
    r = relation_of(1, "t", 2);
    r->columns[0].number = 1u << 29;
    refuse(r);
    r = relation_of(1, "t", 2);
    r->columns[0].number = 2; // twice
    refuse(r);
    r = relation_of(1, "t", 2);
    r->columns[0].kind = KIND_MAX + 1;
    refuse(r);
    r = relation_of(1, "t", 2);
    r->columns[0].kind = KIND_TIMESTAMP + 1; // between the scalars and the arrays
    refuse(r);
    r = relation_of(1, "t", 2);
    r->columns[0].json_class = JSON_CLASS_JSON; // of a number
    refuse(r);
    r = relation_of(1, "t", 2);
    r->replica_identity = 'x';
    refuse(r);
    refuse(relation_of(0, "t", 2));
    refuse(relation_of(1, "t", COLUMNS_MAX + 1));
    r = relation_of(1, "t", COLUMNS_MAX);
    struct relation *b;
    struct err e;
    relation_seal(r);
    assert_int_equal(relation_decode(r->encoded, &b, &e), 0);
    relation_free(r);
    relation_free(b);
}

static void test_same(void **state)
{
    (void)state;
    struct relation *a = rich(), *b = rich();
    b->id = 4000000;
    relation_seal(b);
    assert_true(relation_same(a, b));
    b->columns[3].key = true;
    relation_seal(b);
    assert_false(relation_same(a, b));
    relation_free(a);
    relation_free(b);
}

static void test_catalog(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    assert_null(catalog_get(c, 0));
    assert_null(catalog_get(c, 1));
    assert_int_equal(catalog_next_id(c), 1);
    for (uint32_t id = 1; id <= 3000; id++) {
        struct relation *r = relation_of(id, id % 2 ? "odd" : "even", 1);
        relation_seal(r);
        catalog_add(c, r);
    }
    assert_int_equal(catalog_count(c), 3000);
    for (uint32_t id = 1; id <= 3000; id++)
        assert_int_equal(catalog_get(c, id)->id, id);
    assert_null(catalog_get(c, 3001));
    assert_int_equal(catalog_latest(c, "public.odd")->id, 2999);
    assert_int_equal(catalog_latest(c, "public.even")->id, 3000);
    assert_null(catalog_latest(c, "public.none"));
    catalog_free(c);
}

// Another thread sees every version that is counted, whole, while versions are added.
static void *look_up(void *arg)
{
    const struct catalog *c = arg;
    for (uint32_t count = 0; count < 3000;) {
        count = catalog_count(c);
        for (uint32_t id = count > 5 ? count - 5 : 1; id <= count; id++) {
            const struct relation *r = catalog_get(c, id);
            CHECK(r && r->id == id && strcmp(r->table, "public.t") == 0);
        }
    }
    return NULL;
}

static void test_catalog_threads(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, look_up, c), 0);
    for (uint32_t id = 1; id <= 3000; id++) {
        struct relation *r = relation_of(id, "t", 1);
        relation_seal(r);
        catalog_add(c, r);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    catalog_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_decode_cut),
        cmocka_unit_test(test_decode_nonsense),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_catalog),
        cmocka_unit_test(test_catalog_threads),
    };
    return cmocka_run_group_tests_name("relation", tests, NULL, NULL);
}
