// Field numbers: each case is a table's shape before and after, with the numbers that must follow.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/registry.h"

#define OID 16384

static struct seen_column col(const char *name, enum kind kind, int16_t attnum)
{
    return (struct seen_column){
        .name = name, .type = "t", .base_type = "t", .typmod = -1, .attnum = attnum, .kind = kind};
}

// Numbers a table `oid` with these columns after `latest`, which is freed.
static struct relation *next_of(struct relation *latest, uint32_t oid, struct seen_column *columns,
                                size_t n)
{
    struct seen_relation seen = {.oid = oid,
                                 .schema = "public",
                                 .name = "t",
                                 .replica_identity = 'd',
                                 .n = (uint16_t)n,
                                 .columns = columns};
    struct relation *r = registry_number(latest, &seen, latest ? latest->id + 1 : 1);
    relation_free(latest);
    return r;
}
#define NEXT(latest, oid, ...)                                                                     \
    next_of(latest, oid, (struct seen_column[]){__VA_ARGS__},                                      \
            sizeof((struct seen_column[]){__VA_ARGS__}) / sizeof(struct seen_column))

static uint32_t number_of(const struct relation *r, const char *name)
{
    for (size_t i = 0; i < r->column_count; i++) {
        if (strcmp(r->columns[i].name, name) == 0)
            return r->columns[i].number;
    }
    fail_msg("no column %s", name);
    return 0;
}

static bool is_reserved(const struct relation *r, uint32_t number)
{
    for (size_t i = 0; i < r->reserved_count; i++) {
        if (r->reserved[i].number == number)
            return true;
    }
    return false;
}

static struct relation *id_note(void)
{
    return NEXT(NULL, OID, col("id", KIND_INT64, 1), col("note", KIND_STRING, 2));
}

static void test_seed(void **state)
{
    (void)state;
    // Column 2 was dropped before we came.
    struct relation *r = NEXT(NULL, OID, col("id", KIND_INT64, 1), col("note", KIND_STRING, 3));
    assert_int_equal(number_of(r, "id"), 1);
    assert_int_equal(number_of(r, "note"), 3);
    assert_int_equal(r->id, 1);
    assert_int_equal(r->reserved_count, 0);
    // What is persisted reads back the same.
    struct relation *copy;
    struct err e;
    assert_int_equal(relation_decode(r->encoded, &copy, &e), 0);
    assert_true(relation_same(r, copy));
    relation_free(copy);
    relation_free(r);
}

static void test_add_and_drop(void **state)
{
    (void)state;
    struct relation *r = NEXT(id_note(), OID, col("id", KIND_INT64, 1), col("note", KIND_STRING, 2),
                              col("price", KIND_STRING, 3));
    assert_int_equal(number_of(r, "price"), 3);
    r = NEXT(r, OID, col("id", KIND_INT64, 1), col("price", KIND_STRING, 3));
    assert_int_equal(number_of(r, "price"), 3);
    assert_true(is_reserved(r, 2));
    // Added again later, by another attnum: another column.
    r = NEXT(r, OID, col("id", KIND_INT64, 1), col("price", KIND_STRING, 3),
             col("note", KIND_STRING, 4));
    assert_int_equal(number_of(r, "note"), 4);
    assert_true(is_reserved(r, 2));
    relation_free(r);
}

static void test_rename(void **state)
{
    (void)state;
    struct relation *r =
        NEXT(id_note(), OID, col("id", KIND_INT64, 1), col("remark", KIND_STRING, 2));
    assert_int_equal(number_of(r, "remark"), 2);
    assert_int_equal(r->reserved_count, 0);
    relation_free(r);
}

static void test_rename_with_other_type(void **state)
{
    (void)state;
    struct relation *r =
        NEXT(id_note(), OID, col("id", KIND_INT64, 1), col("remark", KIND_INT32, 2));
    assert_int_equal(number_of(r, "remark"), 2001);
    assert_true(is_reserved(r, 2));
    relation_free(r);
}

static void test_rename_without_answer(void **state)
{
    (void)state;
    struct relation *r =
        NEXT(id_note(), OID, col("id", KIND_INT64, 1), col("remark", KIND_STRING, 0));
    assert_int_equal(number_of(r, "remark"), 2001);
    assert_true(is_reserved(r, 2));
    // A renaming before which nobody had said its attnum: not taken for one.
    r = NEXT(r, OID, col("id", KIND_INT64, 1), col("comment", KIND_STRING, 2));
    assert_int_equal(number_of(r, "comment"), 2002);
    assert_true(is_reserved(r, 2) && is_reserved(r, 2001));
    relation_free(r);
}

static void test_type_change(void **state)
{
    (void)state;
    struct relation *r = NEXT(NULL, OID, col("id", KIND_INT32, 1), col("n", KIND_INT32, 2));
    r = NEXT(r, OID, col("id", KIND_INT64, 1), col("n", KIND_STRING, 2));
    assert_int_equal(number_of(r, "id"), 1); // in its group
    assert_int_equal(number_of(r, "n"), 2001);
    assert_true(is_reserved(r, 2));
    // And back: the reserved number stays reserved.
    r = NEXT(r, OID, col("id", KIND_INT64, 1), col("n", KIND_INT32, 2));
    assert_int_equal(number_of(r, "n"), 2002);
    assert_true(is_reserved(r, 2) && is_reserved(r, 2001));
    relation_free(r);
}

static void test_drop_and_add_same_name(void **state)
{
    (void)state;
    struct relation *r =
        NEXT(id_note(), OID, col("id", KIND_INT64, 1), col("note", KIND_STRING, 3));
    assert_int_equal(number_of(r, "note"), 2); // by name
    assert_int_equal(r->reserved_count, 0);
    r = NEXT(r, OID, col("id", KIND_INT64, 1), col("note", KIND_BYTES, 4));
    assert_int_equal(number_of(r, "note"), 4);
    assert_true(is_reserved(r, 2));
    relation_free(r);
}

static void test_recreated(void **state)
{
    (void)state;
    // Same name, new oid, columns in another order: by name and group, never by attnum.
    struct relation *r = NEXT(id_note(), OID + 1, col("note", KIND_STRING, 1),
                              col("id", KIND_INT32, 2), col("extra", KIND_STRING, 3));
    assert_int_equal(number_of(r, "note"), 2);
    assert_int_equal(number_of(r, "id"), 1);
    assert_int_equal(number_of(r, "extra"), 3);
    relation_free(r);
    // `remark` has the attnum that `note` had in the other table.
    r = NEXT(id_note(), OID + 1, col("id", KIND_INT64, 1), col("remark", KIND_STRING, 2));
    assert_int_equal(number_of(r, "remark"), 2001);
    assert_true(is_reserved(r, 2));
    relation_free(r);
}

static void test_contradiction(void **state)
{
    (void)state;
    // Two columns that claim one attnum, and attnums that cannot be.
    struct relation *r =
        NEXT(id_note(), OID, col("id", KIND_INT64, 1), col("a", KIND_STRING, 2),
             col("b", KIND_STRING, 2), col("c", KIND_STRING, -1), col("d", KIND_STRING, 1601));
    assert_int_equal(number_of(r, "a"), 2001);
    assert_int_equal(number_of(r, "b"), 2002);
    assert_int_equal(number_of(r, "c"), 2003);
    assert_int_equal(number_of(r, "d"), 2004);
    relation_free(r);
    // An attnum whose column is still there under its own name.
    r = NEXT(id_note(), OID, col("id", KIND_INT64, 0), col("note", KIND_STRING, 0),
             col("x", KIND_STRING, 2));
    assert_int_equal(number_of(r, "note"), 2);
    assert_int_equal(number_of(r, "x"), 2001);
    relation_free(r);
}

static void test_swapped_names(void **state)
{
    (void)state;
    struct relation *r = NEXT(NULL, OID, col("a", KIND_STRING, 1), col("b", KIND_STRING, 2));
    r = NEXT(r, OID, col("b", KIND_STRING, 1), col("a", KIND_STRING, 2));
    assert_int_equal(number_of(r, "a"), 1); // who reads by name goes on reading that name
    assert_int_equal(number_of(r, "b"), 2);
    relation_free(r);
    // With different types: a number never changes its type.
    r = NEXT(NULL, OID, col("a", KIND_STRING, 1), col("b", KIND_INT32, 2));
    r = NEXT(r, OID, col("b", KIND_STRING, 1), col("a", KIND_INT32, 2));
    assert_int_equal(number_of(r, "b"), 2001);
    assert_int_equal(number_of(r, "a"), 2002);
    assert_true(is_reserved(r, 1) && is_reserved(r, 2));
    relation_free(r);
}

// A renaming along a chain: a -> b while b -> c.
static void test_rename_chain(void **state)
{
    (void)state;
    struct relation *r = NEXT(NULL, OID, col("a", KIND_STRING, 1), col("b", KIND_STRING, 2));
    r = NEXT(r, OID, col("b", KIND_STRING, 1), col("c", KIND_STRING, 2));
    assert_int_equal(number_of(r, "b"), 2); // by name
    assert_int_equal(number_of(r, "c"), 2001);
    assert_true(is_reserved(r, 1));
    relation_free(r);
}

static void test_attnum_remembered(void **state)
{
    (void)state;
    // A version without a look-up, then a renaming with one.
    struct relation *r =
        NEXT(id_note(), OID, col("id", KIND_INT32, 0), col("note", KIND_STRING, 0));
    r = NEXT(r, OID, col("id", KIND_INT32, 1), col("remark", KIND_STRING, 2));
    assert_int_equal(number_of(r, "remark"), 2);
    relation_free(r);
}

static void test_same_name_twice(void **state)
{
    (void)state; // no server sends it; a broken one must not make two columns share a number
    struct relation *r = NEXT(id_note(), OID, col("id", KIND_INT64, 1), col("id", KIND_INT64, 1));
    assert_int_equal(r->columns[0].number, 1);
    assert_int_equal(r->columns[1].number, 2001);
    relation_free(r);
}

static void test_masked(void **state)
{
    (void)state;
    // Its mask is a text, so a number that held integers cannot hold it; nor the other way.
    struct seen_column masked = col("id", KIND_INT64, 1);
    masked.masked = true;
    struct relation *r = NEXT(id_note(), OID, masked, col("note", KIND_STRING, 2));
    assert_int_equal(number_of(r, "id"), 2001);
    assert_int_equal(r->columns[0].kind, KIND_STRING);
    r = NEXT(r, OID, col("id", KIND_INT64, 1), col("note", KIND_STRING, 2));
    assert_int_equal(number_of(r, "id"), 2002);
    relation_free(r);
}

// Makes `last` the highest number in use: a table's history may be long.
static struct relation *with_number(uint32_t last)
{
    struct relation *r = id_note();
    r->columns[1].number = last;
    relation_seal(r);
    return r;
}

static void test_exhaustion(void **state)
{
    (void)state;
    struct relation *r = NEXT(with_number(18999), OID, col("id", KIND_INT64, 1),
                              col("note", KIND_STRING, 2), col("x", KIND_STRING, 0));
    assert_int_equal(number_of(r, "x"), 20000);
    relation_free(r);
    r = NEXT(with_number((1u << 29) - 2), OID, col("id", KIND_INT64, 1),
             col("note", KIND_STRING, 2), col("x", KIND_STRING, 0));
    assert_int_equal(number_of(r, "x"), (1u << 29) - 1);
    relation_free(r);
    assert_null(NEXT(with_number((1u << 29) - 1), OID, col("id", KIND_INT64, 1),
                     col("note", KIND_STRING, 2), col("x", KIND_STRING, 0)));
}

static void test_reserved_max(void **state)
{
    (void)state;
    struct relation *r = id_note();
    r->reserved = xcalloc(RESERVED_MAX, sizeof *r->reserved);
    for (uint32_t i = 0; i < RESERVED_MAX; i++)
        r->reserved[i] = (struct reserved_number){20000 + i, KIND_STRING, xstrdup("gone")};
    r->reserved_count = RESERVED_MAX;
    relation_seal(r);
    assert_null(NEXT(r, OID, col("id", KIND_INT64, 1)));
}

static void test_knows(void **state)
{
    (void)state;
    struct relation *r = id_note();
    struct seen_column columns[] = {col("note", KIND_STRING, 0), col("id", KIND_INT32, 0)};
    struct seen_relation seen = {.oid = OID, .n = 2, .columns = columns};
    assert_true(registry_knows(r, &seen));
    seen.n = 1; // a column less
    assert_true(registry_knows(r, &seen));
    assert_false(registry_knows(NULL, &seen));
    seen.oid = OID + 1;
    assert_false(registry_knows(r, &seen));
    seen.oid = OID;
    columns[0].kind = KIND_BYTES;
    assert_false(registry_knows(r, &seen));
    columns[0] = col("other", KIND_STRING, 0);
    assert_false(registry_knows(r, &seen));
    relation_free(r);
}

// Whatever happens to a table, a number never comes to another name and kind but by a renaming
// that the attnum proves, and never leaves the reserved ones.
static void test_random_history(void **state)
{
    (void)state;
    static const enum kind kinds[] = {KIND_STRING, KIND_INT32, KIND_INT64, KIND_BYTES, KIND_MAX};
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    unsigned seed = 1;
    for (int round = 0; round < 300; round++) {
        struct relation *r = NULL;
        uint32_t oid = OID;
        for (int step = 0; step < 20; step++) {
            struct seen_column columns[ARRAY_LEN(names)];
            size_t n = 0;
            for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                if (rand_r(&seed) % 3 == 0)
                    continue;
                columns[n++] = col(names[i], kinds[(size_t)rand_r(&seed) % ARRAY_LEN(kinds)],
                                   (int16_t)(rand_r(&seed) % 12));
            }
            oid += rand_r(&seed) % 5 == 0;
            struct relation *old = r;
            struct seen_relation seen = {oid, "public", "t", 'd', (uint16_t)n, columns};
            r = registry_number(old, &seen, 1);
            for (size_t i = 0; i < n; i++) {
                const struct column *c = &r->columns[i];
                assert_true(number_usable(c->number) && !is_reserved(r, c->number));
                for (size_t j = 0; j < i; j++)
                    assert_int_not_equal(c->number, r->columns[j].number);
                const struct column *was = old ? relation_column(old, c->number) : NULL;
                if (!was)
                    continue;
                assert_true(kind_compatible(was->kind, c->kind));
                assert_true(strcmp(was->name, c->name) == 0 ||
                            (old->oid == oid && was->attnum == columns[i].attnum && was->attnum));
            }
            for (size_t i = 0; old && i < old->reserved_count; i++)
                assert_true(is_reserved(r, old->reserved[i].number));
            for (size_t i = 0; old && i < old->column_count; i++)
                assert_true(relation_column(r, old->columns[i].number) ||
                            is_reserved(r, old->columns[i].number));
            relation_free(old);
        }
        relation_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_add_and_drop),
        cmocka_unit_test(test_rename),
        cmocka_unit_test(test_rename_with_other_type),
        cmocka_unit_test(test_rename_without_answer),
        cmocka_unit_test(test_type_change),
        cmocka_unit_test(test_drop_and_add_same_name),
        cmocka_unit_test(test_recreated),
        cmocka_unit_test(test_contradiction),
        cmocka_unit_test(test_swapped_names),
        cmocka_unit_test(test_rename_chain),
        cmocka_unit_test(test_attnum_remembered),
        cmocka_unit_test(test_same_name_twice),
        cmocka_unit_test(test_masked),
        cmocka_unit_test(test_exhaustion),
        cmocka_unit_test(test_reserved_max),
        cmocka_unit_test(test_knows),
        cmocka_unit_test(test_random_history),
    };
    return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
