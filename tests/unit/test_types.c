// Types: names with modifiers as format_type gives them, and what user types become.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/types.h"

static void names_with_modifiers(void **state)
{
    (void)state;
    static const struct {
        uint32_t oid;
        int32_t typmod;
        const char *want;
    } table[] = {
        {16, -1, "boolean"},
        {18, -1, "\"char\""},
        {23, -1, "integer"},
        {1007, -1, "integer[]"},
        {701, -1, "double precision"},
        {1042, -1, "bpchar"}, // not character, which would be character(1)
        {1042, 5, "character(1)"},
        {1014, -1, "bpchar[]"},
        {1014, 9, "character(5)[]"},
        {1043, -1, "character varying"},
        {1043, 24, "character varying(20)"},
        {1015, 24, "character varying(20)[]"},
        {1560, -1, "\"bit\""},
        {1560, 3, "bit(3)"},
        {1561, 3, "bit(3)[]"},
        {1562, 7, "bit varying(7)"},
        {1700, -1, "numeric"},
        {1700, (10 << 16 | 2) + 4, "numeric(10,2)"},
        {1231, (10 << 16 | 2) + 4, "numeric(10,2)[]"},
        {1700, (3 << 16 | (-5 & 0x7ff)) + 4, "numeric(3,-5)"},
        {1700, (1000 << 16 | 1000) + 4, "numeric(1000,1000)"},
        {1083, 3, "time(3) without time zone"},
        {1266, 0, "time(0) with time zone"},
        {1114, 6, "timestamp(6) without time zone"},
        {1184, -1, "timestamp with time zone"},
        {1184, 3, "timestamp(3) with time zone"},
        {1185, 3, "timestamp(3) with time zone[]"},
        {1186, -1, "interval"},
        {1186, 0x7fff << 16 | 3, "interval(3)"},
        {1186, 4 << 16 | 0xffff, "interval year"},
        {1186, 6 << 16 | 0xffff, "interval year to month"},
        {1186, (8 | 1024 | 2048 | 4096) << 16 | 3, "interval day to second(3)"},
        {1187, (2048 | 4096) << 16 | 0xffff, "interval minute to second[]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_BUF struct buf out = {0};
        const struct type *t = type_builtin(table[i].oid);
        assert_non_null(t);
        type_format(&out, t->name, t->oid, table[i].typmod);
        assert_string_equal(buf_cstr(&out), table[i].want);
    }
}

static void a_name_of_its_own_takes_no_modifier(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    type_format(&out, "shop.code", 1042, -1);
    assert_string_equal(buf_cstr(&out), "shop.code");
    buf_clear(&out);
    type_format(&out, "gis.geometry", 123456, 20);
    assert_string_equal(buf_cstr(&out), "gis.geometry");
}

static void builtin_kinds(void **state)
{
    (void)state;
    static const struct {
        uint32_t oid, array;
        enum kind kind;
    } table[] = {
        {16, 1000, KIND_BOOL},     {17, 1001, KIND_BYTES},       {20, 1016, KIND_INT64},
        {21, 1005, KIND_INT32},    {23, 1007, KIND_INT32},       {25, 1009, KIND_STRING},
        {26, 1028, KIND_UINT32},   {28, 1011, KIND_STRING},      {700, 1021, KIND_FLOAT},
        {701, 1022, KIND_DOUBLE},  {1184, 1185, KIND_TIMESTAMP}, {1114, 1115, KIND_STRING},
        {1700, 1231, KIND_STRING}, {2950, 2951, KIND_STRING},    {3802, 3807, KIND_STRING},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        assert_int_equal(type_builtin(table[i].oid)->kind, table[i].kind);
        assert_int_equal(type_builtin(table[i].array)->kind, KIND_ARRAY + table[i].kind);
    }
    assert_int_equal(type_builtin(114)->json_class, JSON_CLASS_JSON);
    assert_int_equal(type_builtin(3807)->json_class, JSON_CLASS_JSON);
    assert_int_equal(type_builtin(4072)->json_class, JSON_CLASS_TEXT); // jsonpath is no JSON
    assert_null(type_builtin(0));
    assert_null(type_builtin(10000));
}

static void user_types(void **state)
{
    (void)state;
    struct type mood = type_resolve(20001, "shop", "mood", 'e', NULL, NULL);
    assert_string_equal(mood.name, "shop.mood");
    assert_string_equal(mood.base_name, "shop.mood");
    assert_int_equal(mood.kind, KIND_STRING);
    assert_int_equal(mood.oid, 20001);
    struct type moods = type_resolve(20002, "shop", "_mood", 'b', &mood, NULL);
    assert_string_equal(moods.name, "shop.mood[]");
    assert_int_equal(moods.kind, KIND_ARRAY + KIND_STRING);

    struct type count = type_resolve(20003, "shop", "Count", 'd', NULL, type_builtin(23));
    assert_string_equal(count.name, "shop.\"Count\"");
    assert_string_equal(count.base_name, "integer");
    assert_int_equal(count.kind, KIND_INT32);
    struct type small = type_resolve(20004, "shop", "small", 'd', NULL, &count);
    assert_string_equal(small.base_name, "integer"); // the base of the base
    struct type counts = type_resolve(20005, "shop", "_Count", 'b', &count, NULL);
    assert_string_equal(counts.name, "shop.\"Count\"[]");
    assert_string_equal(counts.base_name, "integer[]");
    assert_int_equal(counts.kind, KIND_ARRAY + KIND_INT32);

    struct type tags = type_resolve(20006, "shop", "tags", 'd', NULL, type_builtin(1009));
    assert_string_equal(tags.base_name, "text[]");
    assert_int_equal(tags.kind, KIND_ARRAY + KIND_STRING);
    struct type tags_array = type_resolve(20007, "shop", "_tags", 'b', &tags, NULL);
    assert_int_equal(tags_array.kind, KIND_ARRAY + KIND_STRING); // each element an array's text

    struct type doc = type_resolve(20008, "shop", "doc", 'd', NULL, type_builtin(3802));
    assert_int_equal(doc.json_class, JSON_CLASS_JSON);
    struct type docs = type_resolve(20009, "shop", "_doc", 'b', &doc, NULL);
    assert_int_equal(docs.json_class, JSON_CLASS_JSON);

    static const char typtypes[] = {'b', 'c', 'r', 'm'}; // hstore, a composite, ranges
    for (size_t i = 0; i < sizeof typtypes; i++)
        assert_int_equal(type_resolve(20010, "public", "x", typtypes[i], NULL, NULL).kind,
                         KIND_STRING);
    assert_string_equal(type_resolve(23, "pg_catalog", "int4", 'b', NULL, NULL).name, "integer");
}

static void arrays_of_other_delimiters(void **state)
{
    (void)state;
    struct type zone = type_resolve(20001, "shop", "zone", 'd', NULL, type_builtin(603));
    struct type zones = type_resolve(20002, "shop", "_zone", 'b', &zone, NULL);
    assert_string_equal(zones.base_name, "box[]");
    assert_int_equal(zones.kind, KIND_ARRAY + KIND_STRING);
    assert_int_equal(type_array_delimiter(zones.base_name), ';');
    assert_int_equal(type_array_delimiter("text[]"), ',');
    struct type geometry = type_resolve(20003, "public", "geometry", 'b', NULL, NULL);
    struct type geometries = type_resolve(20004, "public", "_geometry", 'b', &geometry, NULL);
    assert_int_equal(geometries.kind,
                     KIND_STRING); // ':' between them: taken apart it would be wrong
}

static void the_longest_names_are_whole(void **state)
{
    (void)state;
    char name[64];
    memset(name, '"', 63); // each is doubled in quotes
    name[63] = 0;
    struct type t = type_resolve(20001, name, name, 'e', NULL, NULL);
    struct type a = type_resolve(20002, name, name, 'b', &t, NULL);
    assert_int_equal(strlen(t.name), 2 * (2 + 2 * 63) + 1);
    assert_int_equal(strlen(a.name), strlen(t.name) + 2);
    assert_string_equal(a.name + strlen(a.name) - 3, "\"[]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_with_modifiers),
        cmocka_unit_test(a_name_of_its_own_takes_no_modifier),
        cmocka_unit_test(builtin_kinds),
        cmocka_unit_test(user_types),
        cmocka_unit_test(arrays_of_other_delimiters),
        cmocka_unit_test(the_longest_names_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
