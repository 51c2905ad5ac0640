// Values: what each type's text becomes in a row, read back by protobuf-c's generated code
// (messages) and the bounded reader (scalars).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/row.h"
#include "proto/rowcast.pb-c.h"
#include "proto/scalar.h"
#include "proto/types.h"

#define NUMBER 7 // the field number of the one column of most tests

// ---- reading back: every value as a short text ----

static void put_bytes(struct buf *out, const uint8_t *p, size_t n)
{
    buf_puts(out, "x:");
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%02x", p[i]);
}

static void put_seconds(struct buf *out, int64_t seconds, int32_t nanos)
{
    buf_printf(out, "%lld.%09d", (long long)seconds, nanos);
}

static void put_tail(struct buf *out, size_t null_count, const uint32_t *nulls, size_t dimensions,
                     Rowcast__V1__Dimension **dimension)
{
    buf_putc(out, ']');
    for (size_t i = 0; i < null_count; i++)
        buf_printf(out, " null %u", nulls[i]);
    for (size_t i = 0; i < dimensions; i++)
        buf_printf(out, " %d from %d", dimension[i]->length, dimension[i]->lower);
}

#define PUT_ARRAY(Type, type, put)                                                                 \
    {                                                                                              \
        Rowcast__V1__##Type *a = rowcast__v1__##type##__unpack(NULL, f.bytes.n, f.bytes.p);        \
        assert_non_null(a);                                                                        \
        buf_putc(out, '[');                                                                        \
        for (size_t i = 0; i < a->n_value; i++) {                                                  \
            if (i)                                                                                 \
                buf_putc(out, ' ');                                                                \
            put;                                                                                   \
        }                                                                                          \
        put_tail(out, a->n_null, a->null, a->n_dimension, a->dimension);                           \
        rowcast__v1__##type##__free_unpacked(a, NULL);                                             \
        break;                                                                                     \
    }

static void put_array(struct buf *out, enum kind element, struct wire_field f)
{
    switch (element) {
    case KIND_BOOL:
        PUT_ARRAY(BoolArray, bool_array, buf_puts(out, a->value[i] ? "true" : "false"))
    case KIND_INT32:
        PUT_ARRAY(Int32Array, int32_array, buf_printf(out, "%d", a->value[i]))
    case KIND_INT64:
        PUT_ARRAY(Int64Array, int64_array, buf_printf(out, "%lld", (long long)a->value[i]))
    case KIND_UINT32:
        PUT_ARRAY(UInt32Array, uint32_array, buf_printf(out, "%u", a->value[i]))
    case KIND_FLOAT:
        PUT_ARRAY(FloatArray, float_array, buf_printf(out, "%.9g", (double)a->value[i]))
    case KIND_DOUBLE:
        PUT_ARRAY(DoubleArray, double_array, buf_printf(out, "%.17g", a->value[i]))
    case KIND_STRING:
        PUT_ARRAY(StringArray, string_array, buf_printf(out, "<%s>", a->value[i]))
    case KIND_BYTES:
        PUT_ARRAY(BytesArray, bytes_array, put_bytes(out, a->value[i].data, a->value[i].len))
    case KIND_TIMESTAMP:
        PUT_ARRAY(TimestampArray, timestamp_array,
                  put_seconds(out, a->value[i]->seconds, a->value[i]->nanos))
    default:
        fail();
    }
}

static void put_scalar(struct buf *out, enum kind k, struct wire_field f)
{
    float single;
    double d;
    Rowcast__V1__Timestamp *t;
    uint32_t bits = (uint32_t)f.v;
    assert_int_equal(f.type, k == KIND_FLOAT                                           ? WIRE_I32
                             : k == KIND_DOUBLE                                        ? WIRE_I64
                             : k == KIND_BOOL || (k >= KIND_INT32 && k <= KIND_UINT32) ? WIRE_VARINT
                                                                                       : WIRE_LEN);
    switch (k) {
    case KIND_BOOL:
        assert_true(f.v <= 1);
        buf_puts(out, f.v ? "true" : "false");
        break;
    case KIND_INT32:
    case KIND_INT64:
    case KIND_UINT32:
        buf_put_i64(out, (int64_t)f.v);
        break;
    case KIND_FLOAT:
        memcpy(&single, &bits, 4);
        buf_printf(out, "%.9g", (double)single);
        break;
    case KIND_DOUBLE:
        memcpy(&d, &f.v, 8);
        buf_printf(out, "%.17g", d);
        break;
    case KIND_BYTES:
        put_bytes(out, f.bytes.p, f.bytes.n);
        break;
    case KIND_TIMESTAMP:
        t = rowcast__v1__timestamp__unpack(NULL, f.bytes.n, f.bytes.p);
        assert_non_null(t);
        put_seconds(out, t->seconds, t->nanos);
        rowcast__v1__timestamp__free_unpacked(t, NULL);
        break;
    case KIND_STRING:
        buf_put(out, f.bytes.p, f.bytes.n);
        break;
    default:
        put_array(out, k - KIND_ARRAY, f);
    }
}

static Rowcast__V1__Exact *read_exact(const struct buf *exact, uint32_t change_field)
{
    struct reader r = reader_of(exact->p, exact->n);
    struct wire_field f = {0};
    assert_true(wire_next(&r, &f));
    assert_int_equal(f.number, change_field);
    assert_true(reader_done(&r));
    Rowcast__V1__Exact *x = rowcast__v1__exact__unpack(NULL, f.bytes.n, f.bytes.p);
    assert_non_null(x);
    return x;
}

// What a row of the one column NUMBER holds: the value, "exact: TEXT", or "absent".
static void put_row(struct buf *out, enum kind k, const struct row_out *row)
{
    struct reader r = reader_of(row->row.p, row->row.n);
    struct wire_field f = {0};
    bool found = wire_next(&r, &f);
    assert_true(reader_done(&r)); // one field, whole
    assert_false(found && row->exact.n);
    if (found) {
        assert_int_equal(f.number, NUMBER);
        put_scalar(out, k, f);
    } else if (row->exact.n) {
        Rowcast__V1__Exact *x = read_exact(&row->exact, 8);
        assert_int_equal(x->number, NUMBER);
        assert_false(x->has_raw);
        buf_printf(out, "exact: %s", x->text);
        rowcast__v1__exact__free_unpacked(x, NULL);
    } else {
        buf_puts(out, "absent");
    }
}

static struct column column_of(const struct type *t)
{
    return (struct column){.name = (char *)"c",
                           .type = (char *)t->name,
                           .base_type = (char *)t->base_name,
                           .type_oid = t->oid,
                           .number = NUMBER,
                           .kind = t->kind};
}

static void check_type(const struct type *t, const char *text, const char *want)
{
    struct column c = column_of(t);
    struct row_map map = {.n = 1, .columns = {&c}};
    row_map_init(&map);
    struct row_out out = {0};
    // Not terminated, at the very end of its memory: a read past it is seen by the sanitizers.
    size_t n = text ? strlen(text) : 0;
    char *copy = xmalloc(n ? n : 1);
    memcpy(copy, text ? text : "", n);
    struct value v = {copy, (uint32_t)n, text ? VALUE_TEXT : VALUE_NULL};
    struct err e;
    assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), 0);
    AUTO_BUF struct buf got = {0};
    put_row(&got, c.kind, &out);
    if (strcmp(buf_cstr(&got), want) != 0)
        fail_msg("%s '%s': want %s, got %s", t->name, text ? text : "NULL", want, buf_cstr(&got));
    free(copy);
    row_out_fini(&out);
    row_map_fini(&map);
}

struct example {
    uint32_t oid;
    const char *text; // NULL: NULL
    const char *want; // NULL: the text itself
};

static void check_examples(const struct example *examples, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check_type(type_builtin(examples[i].oid), examples[i].text,
                   examples[i].want ? examples[i].want : examples[i].text);
}

// ---- scalars ----

static const struct example numbers_examples[] = {
    {16, "t", "true"},
    {16, "f", "false"},
    {16, "true", "exact: true"},
    {16, "", "exact: "},
    {16, NULL, "absent"},
    {21, "32767", NULL},
    {21, "-32768", NULL},
    {23, "0", NULL},
    {23, "2147483647", NULL},
    {23, "-2147483648", NULL},
    {23, "2147483648", "exact: 2147483648"},
    {23, "-", "exact: -"},
    {23, "1 ", "exact: 1 "},
    {23, "+1", "exact: +1"},
    {23, "", "exact: "},
    {20, "9223372036854775807", NULL},
    {20, "-9223372036854775808", NULL},
    {20, "9223372036854775808", "exact: 9223372036854775808"},
    {20, "-9223372036854775809", "exact: -9223372036854775809"},
    {20, "18446744073709551617", "exact: 18446744073709551617"},
    {26, "4294967295", NULL},
    {26, "4294967296", "exact: 4294967296"},
    {26, "-1", "exact: -1"},
    {700, "1.5", NULL},
    {700, "0.1", "0.100000001"},
    {700, "3.4028235e+38", "3.40282347e+38"},
    {700, "1e-45", "1.40129846e-45"},
    {700, "16777216", NULL},
    {700, "1.1754944e-38", "1.17549435e-38"},
    {700, "NaN", "nan"},
    {700, "Infinity", "inf"},
    {700, "-Infinity", "-inf"},
    {700, "1e39", "exact: 1e39"},
    {700, "1e-50", "exact: 1e-50"},
    {701, "0", NULL},
    {701, "-0", NULL},
    {701, "0.1", "0.10000000000000001"},
    {701, "-1.5", NULL},
    {701, "123456789012345", NULL},
    {701, "1e+22", NULL},
    {701, "1e+23", "9.9999999999999992e+22"},
    {701, "1.7976931348623157e+308", NULL},
    {701, "5e-324", "4.9406564584124654e-324"},
    {701, "2.2250738585072014e-308", NULL},
    {701, "9007199254740993", "9007199254740992"},
    {701, "NaN", "nan"},
    {701, "Infinity", "inf"},
    {701, "-Infinity", "-inf"},
    {701, "1e999", "exact: 1e999"},
    {701, "0x10", "exact: 0x10"},
    {701, " 1", "exact:  1"},
    {701, "1.", "exact: 1."},
    {701, ".5", "exact: .5"},
    {701, "1e", "exact: 1e"},
    {701, "inf", "exact: inf"},
    {701, "1,5", "exact: 1,5"},
    {701, "", "exact: "},
};

static void numbers(void **state)
{
    (void)state;
    check_examples(numbers_examples, ARRAY_LEN(numbers_examples));
}

// Every float4 text of 3 to 9 digits would take too long: random bits, printed and read back.
static void random_floats_come_back(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252;
    for (int i = 0; i < 200000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        char text[64];
        double d, d2 = 0;
        float f, f2 = 0;
        uint32_t half = (uint32_t)(seed >> 32);
        memcpy(&d, &seed, sizeof d);
        memcpy(&f, &half, sizeof f);
        int digits = 1 + i % 17;
        if (__builtin_isfinite(d)) {
            int n = snprintf(text, sizeof text, "%.*g", digits, d);
            if (double_parse(text, (size_t)n, &d2)) {
                d = strtod(text, NULL);
                assert_memory_equal(&d, &d2, sizeof d);
            }
        }
        if (__builtin_isfinite(f)) {
            int n = snprintf(text, sizeof text, "%.*g", 1 + i % 9, (double)f);
            if (float_parse(text, (size_t)n, &f2)) {
                f = strtof(text, NULL);
                assert_memory_equal(&f, &f2, sizeof f);
            }
        }
        int n = snprintf(text, sizeof text, "%d.%0*d", (int)(seed % 100000), digits % 6 + 1,
                         (int)(seed >> 40) % 10);
        assert_true(double_parse(text, (size_t)n, &d2) && float_parse(text, (size_t)n, &f2));
        assert_true(d2 == strtod(text, NULL) && f2 == strtof(text, NULL));
    }
}

static void bytea(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {17, "\\x", "x:"},
        {17, "\\x00ff5c", "x:00ff5c"},
        {17, "\\xABCD", "exact: \\xABCD"}, // PostgreSQL writes small letters
        {17, "\\x0", "exact: \\x0"},
        {17, "\\x0g", "exact: \\x0g"},
        {17, "", "x:"},
        {17, "abc\\\\\\000\\377", "x:6162635c00ff"}, // bytea_output = escape
        {17, "\\", "exact: \\"},
        {17, "\\400", "exact: \\400"},
        {17, "\\38", "exact: \\38"},
    };
    check_examples(examples, ARRAY_LEN(examples));
}

static const struct example instants_examples[] = {
    {1184, "1970-01-01 00:00:00+00", "0.000000000"},
    {1184, "2026-11-23 15:44:00.123456+05:30", "1795428840.123456000"},
    {1184, "2000-02-29 12:00:00.5+00", "951825600.500000000"},
    {1184, "1969-12-31 23:59:59.999999+00", "-1.999999000"},
    {1184, "1900-01-01 00:00:00-05", "-2208970800.000000000"},
    {1184, "1883-01-01 00:00:00-03:12:28", "-2745434852.000000000"},
    {1184, "0001-01-01 00:00:00+00", "-62135596800.000000000"},
    {1184, "9999-12-31 23:59:59.999999+00", "253402300799.999999000"},
    {1184, "10000-01-01 00:00:00+01", "253402297200.000000000"},   // 9999 in UTC
    {1184, "0001-12-31 23:59:59-01 BC", "-62135593201.000000000"}, // 0001 in UTC
    {1184, "9999-12-31 23:59:59-01", "exact: 9999-12-31 23:59:59-01"},
    {1184, "0001-01-01 00:00:00+01", "exact: 0001-01-01 00:00:00+01"},
    {1184, "0044-03-15 00:00:00+00 BC", "exact: 0044-03-15 00:00:00+00 BC"},
    {1184, "294276-12-31 23:59:59.999999+00", "exact: 294276-12-31 23:59:59.999999+00"},
    {1184, "infinity", "exact: infinity"},
    {1184, "-infinity", "exact: -infinity"},
    {1184, "2023-02-29 00:00:00+00", "exact: 2023-02-29 00:00:00+00"},
    {1184, "2023-13-01 00:00:00+00", "exact: 2023-13-01 00:00:00+00"},
    {1184, "2023-01-01 24:00:00+00", "exact: 2023-01-01 24:00:00+00"},
    {1184, "2023-01-01 00:00:60+00", "exact: 2023-01-01 00:00:60+00"},
    {1184, "2023-01-01 00:00:00", "exact: 2023-01-01 00:00:00"},
    {1184, "2023-01-01 00:00:00.+00", "exact: 2023-01-01 00:00:00.+00"},
    {1184, "2023-01-01 00:00:00.1234567+00", "exact: 2023-01-01 00:00:00.1234567+00"},
    {1184, "2023-01-01 00:00:00+00 AD", "exact: 2023-01-01 00:00:00+00 AD"},
    {1184, "2023-01-01 00:00:00+0:00", "exact: 2023-01-01 00:00:00+0:00"},
    {1184, "0000-01-01 00:00:00+00", "exact: 0000-01-01 00:00:00+00"},
    {1184, "Mon Nov 23 2026", "exact: Mon Nov 23 2026"}, // not DateStyle ISO
    {1184, "", "exact: "},
};

static void instants(void **state)
{
    (void)state;
    check_examples(instants_examples, ARRAY_LEN(instants_examples));
}

// All that stays PostgreSQL's own text.
static const struct example texts_examples[] = {
    {18, "x", NULL},
    {19, "a name", NULL},
    {22, "1 2 3", NULL},
    {24, "now", NULL},
    {25, "", NULL},
    {25, "NULL", NULL},
    {25, "gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x90\x98", NULL},
    {25, "a\nb\t\"c\\d'", NULL},
    {25, NULL, "absent"},
    {27, "(0,1)", NULL},
    {28, "734", NULL},
    {29, "0", NULL},
    {30, "23 25", NULL},
    {114, "{\"a\":  null, \"a\":1}", NULL},
    {142, "<a>1</a>", NULL},
    {600, "(1.5,-2)", NULL},
    {601, "[(0,0),(1,1)]", NULL},
    {602, "((0,0),(1,1))", NULL},
    {603, "(1,1),(0,0)", NULL},
    {604, "((0,0),(1,1),(1,0))", NULL},
    {628, "{1,-1,0}", NULL},
    {650, "10.0.0.0/8", NULL},
    {718, "<(0,0),1>", NULL},
    {774, "08:00:2b:01:02:03:04:05", NULL},
    {790, "$1,234.50", NULL},
    {829, "08:00:2b:01:02:03", NULL},
    {869, "::1", NULL},
    {1033, "postgres=arwdDxt/postgres", NULL},
    {1042, "ab   ", NULL},
    {1043, "varchar", NULL},
    {1082, "2026-11-23", NULL},
    {1082, "infinity", NULL},
    {1082, "-infinity", NULL},
    {1082, "4713-01-01 BC", NULL},
    {1082, "5874897-12-31", NULL},
    {1083, "24:00:00", NULL},
    {1114, "2026-11-23 15:44:00.123456", NULL},
    {1114, "294276-12-31 23:59:59.999999", NULL},
    {1114, "infinity", NULL},
    {1186, "1 year 2 mons -3 days +04:05:06.789", NULL},
    {1266, "15:44:00+05:30", NULL},
    {1560, "101", NULL},
    {1562, "", NULL},
    {1700, "NaN", NULL},
    {1700, "Infinity", NULL},
    {1700, "-0.00000000000000000000000000000000000000001000", NULL},
    {1700, "99999999999999999999999999999999999999999999999999", NULL},
    {1790, "cursor", NULL},
    {2202, "now()", NULL},
    {2205, "pg_class", NULL},
    {2206, "integer", NULL},
    {2950, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", NULL},
    {2970, "10:20:10,14,15", NULL},
    {3220, "16/B374D848", NULL},
    {3614, "'cat':3 'fat':2A", NULL},
    {3615, "'fat' & ( 'rat' | 'cat' )", NULL},
    {3734, "english", NULL},
    {3769, "simple", NULL},
    {3802, "{\"a\": [1, 2.50, null]}", NULL},
    {3904, "[1,10)", NULL},
    {3904, "empty", NULL},
    {3906, "(,1.5]", NULL},
    {3908, "[\"2026-01-01 00:00:00\",infinity)", NULL},
    {3910, "[\"2026-01-01 00:00:00+00\",)", NULL},
    {3912, "[2026-01-01,2026-02-01)", NULL},
    {3926, "(,)", NULL},
    {4072, "$.\"a\"[*]?(@ > 1)", NULL},
    {4089, "public", NULL},
    {4096, "postgres", NULL},
    {4191, "\"C\"", NULL},
    {4451, "{[1,3),[5,8)}", NULL},
    {4532, "{}", NULL},
    {5038, "10:20:10,14,15", NULL},
    {5069, "18446744073709551615", NULL},
};

static void texts(void **state)
{
    (void)state;
    check_examples(texts_examples, ARRAY_LEN(texts_examples));
    struct type mood = type_resolve(20001, "shop", "mood", 'e', NULL, NULL);
    check_type(&mood, "sehr gut", "sehr gut");
    struct type pair = type_resolve(20002, "shop", "pair", 'c', NULL, NULL);
    check_type(&pair, "(1,\"a \"\"b\"\"\",)", "(1,\"a \"\"b\"\"\",)");
    struct type hstore = type_resolve(20003, "public", "hstore", 'b', NULL, NULL);
    check_type(&hstore, "\"a\"=>\"1\", \"b\"=>NULL", "\"a\"=>\"1\", \"b\"=>NULL");
    struct type count = type_resolve(20004, "shop", "count", 'd', NULL, type_builtin(23));
    check_type(&count, "-5", "-5");
}

// ---- arrays ----

static const struct example arrays_examples[] = {
    {1007, "{}", "[]"},
    {1007, "{1,NULL,3}", "[1 0 3] null 1"},
    {1007, "{NULL}", "[0] null 0"},
    {1007, "{-2147483648,2147483647}", "[-2147483648 2147483647]"},
    {1005, "{{1,2},{3,4}}", "[1 2 3 4] 2 from 1 2 from 1"},
    {1007, "{{1,2,3}}", "[1 2 3] 1 from 1 3 from 1"},
    {1007, "{{{{{{9}}}}}}", "[9] 1 from 1 1 from 1 1 from 1 1 from 1 1 from 1 1 from 1"},
    {1007, "[0:2]={1,2,3}", "[1 2 3] 3 from 0"},
    {1007, "[-1:0][2:3]={{1,2},{3,NULL}}", "[1 2 3 0] null 3 2 from -1 2 from 2"},
    {1007, "[1:2][0:0]={{1},{2}}", "[1 2] 2 from 1 1 from 0"},
    {1016, "{9223372036854775807,-9223372036854775808}",
     "[9223372036854775807 -9223372036854775808]"},
    {1028, "{4294967295,0}", "[4294967295 0]"},
    {1000, "{t,f,NULL}", "[true false false] null 2"},
    {1021, "{1.5,NaN,-Infinity}", "[1.5 nan -inf]"},
    {1022, "{0.1,NULL,Infinity}", "[0.10000000000000001 0 inf] null 1"},
    {1009, "{a,NULL,\"NULL\",\"null\",\"\"}", "[<a> <> <NULL> <null> <>] null 1"},
    {1009, "{\"a,b\",\"c\\\\d\",\"e\\\"f\",\"{g}\",\" h \"}", "[<a,b> <c\\d> <e\"f> <{g}> < h >]"},
    {1009, "{\"\\\\\",\"\\\"\"}", "[<\\> <\">]"},
    {1009, "{{a,b},{c,NULL}}", "[<a> <b> <c> <>] null 3 2 from 1 2 from 1"},
    {1009, "{gr\xc3\xbc\xc3\x9f}", "[<gr\xc3\xbc\xc3\x9f>]"},
    {1001, "{\"\\\\x00ff\",NULL,\"\\\\x\"}", "[x:00ff x: x:] null 1"},
    {1185, "{\"1970-01-01 00:00:01.5+00\",NULL}", "[1.500000000 0.000000000] null 1"},
    {1185, "{infinity}", "exact: {infinity}"},
    {1185, "{\"0044-03-15 00:00:00+00 BC\"}", "exact: {\"0044-03-15 00:00:00+00 BC\"}"},
    {1231, "{1.50,NaN}", "[<1.50> <NaN>]"},
    {1182, "{2026-11-23,infinity}", "[<2026-11-23> <infinity>]"},
    {1115, "{\"2026-11-23 15:44:00\"}", "[<2026-11-23 15:44:00>]"},
    {2951, "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "[<a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11>]"},
    {3807, "{\"{\\\"a\\\": 1}\",NULL,null}", "exact: {\"{\\\"a\\\": 1}\",NULL,null}"},
    {3807, "{\"{\\\"a\\\": 1}\",\"null\"}", "[<{\"a\": 1}> <null>]"},
    {3905, "{\"[1,2)\",empty}", "[<[1,2)> <empty>]"},
    {1020, "{(1,1),(0,0);(2,2),(1,1)}", "[<(1,1),(0,0)> <(2,2),(1,1)>]"},
    {1017, "{\"(1,2)\"}", "[<(1,2)>]"},
    // What array_out never writes, and what its element type cannot hold
    {1007, "", "exact: "},
    {1007, "{", "exact: {"},
    {1007, "{1", "exact: {1"},
    {1007, "{1}x", "exact: {1}x"},
    {1007, "{1}}", "exact: {1}}"},
    {1007, "{1,}", "exact: {1,}"},
    {1007, "{,1}", "exact: {,1}"},
    {1007, "{1,,2}", "exact: {1,,2}"},
    {1007, "{1 ,2}", "exact: {1 ,2}"},
    {1007, "{{}}", "exact: {{}}"},
    {1007, "{{1},{2,3}}", "exact: {{1},{2,3}}"},
    {1007, "{{1},2}", "exact: {{1},2}"},
    {1007, "{1,{2}}", "exact: {1,{2}}"},
    {1007, "{{1}{2}}", "exact: {{1}{2}}"},
    {1007, "{{{{{{{9}}}}}}}", "exact: {{{{{{{9}}}}}}}"},
    {1007, "{2147483648}", "exact: {2147483648}"},
    {1007, "[0:2]={1,2}", "exact: [0:2]={1,2}"},
    {1007, "[0:1]{1,2}", "exact: [0:1]{1,2}"},
    {1007, "[0:1][1:1]={1,2}", "exact: [0:1][1:1]={1,2}"},
    {1007, "[2:1]={}", "exact: [2:1]={}"},
    {1007, "[a:1]={1}", "exact: [a:1]={1}"},
    {1007, "[0", "exact: [0"},
    {1009, "{\"a}", "exact: {\"a}"},
    {1009, "{\"a\\", "exact: {\"a\\"},
    {1009, "{\"a\"b}", "exact: {\"a\"b}"},
    {1009, "{a\"b}", "exact: {a\"b}"},
    {1009, "{a\\b}", "exact: {a\\b}"},
};

static void arrays(void **state)
{
    (void)state;
    check_examples(arrays_examples, ARRAY_LEN(arrays_examples));
    struct type mood = type_resolve(20001, "shop", "mood", 'e', NULL, NULL);
    struct type moods = type_resolve(20002, "shop", "_mood", 'b', &mood, NULL);
    check_type(&moods, "{\"sehr gut\",ok,NULL}", "[<sehr gut> <ok> <>] null 2");
    struct type count = type_resolve(20003, "shop", "count", 'd', NULL, type_builtin(23));
    struct type counts = type_resolve(20004, "shop", "_count", 'b', &count, NULL);
    check_type(&counts, "{1,2}", "[1 2]");
    struct type zone = type_resolve(20005, "shop", "zone", 'd', NULL, type_builtin(603));
    struct type zones = type_resolve(20006, "shop", "_zone", 'b', &zone, NULL);
    check_type(&zones, "{(1,1),(0,0);(2,2),(1,1)}", "[<(1,1),(0,0)> <(2,2),(1,1)>]");
    struct type row = type_resolve(20007, "shop", "pair", 'c', NULL, NULL);
    struct type rows = type_resolve(20008, "shop", "_pair", 'b', &row, NULL);
    check_type(&rows, "{\"(1,\\\"a \\\"\\\"b\\\"\\\"\\\",)\"}", "[<(1,\"a \"\"b\"\"\",)>]");
}

static void every_type_takes_what_it_cannot_hold_as_text(void **state)
{
    (void)state;
    for (uint32_t oid = 1; oid < 10000; oid++) {
        const struct type *t = type_builtin(oid);
        if (!t)
            continue;
        check_type(t, NULL, "absent");
        check_type(t, "?",
                   t->kind == KIND_STRING  ? "?"
                   : t->kind == KIND_BYTES ? "x:3f"
                                           : "exact: ?");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(random_floats_come_back),
        cmocka_unit_test(bytea),
        cmocka_unit_test(instants),
        cmocka_unit_test(texts),
        cmocka_unit_test(arrays),
        cmocka_unit_test(every_type_takes_what_it_cannot_hold_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
