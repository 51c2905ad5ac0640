// Rows: which columns stand in which part, in what order; unchanged, masked, large values, and
// text that is not UTF-8.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/row.h"
#include "proto/rowcast.pb-c.h"
#include "proto/types.h"
#include "proto/utf8.h"

#define NUMBER 7 // a field number

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

static struct column column_of(const struct type *t)
{
    return (struct column){.name = (char *)"c",
                           .type = (char *)t->name,
                           .base_type = (char *)t->base_name,
                           .type_oid = t->oid,
                           .number = NUMBER,
                           .kind = t->kind};
}

// ---- text that is not UTF-8 ----

static void check_mended(uint32_t oid, const char *text, const char *mended)
{
    struct column c = column_of(type_builtin(oid));
    struct row_map map = {.n = 1, .columns = {&c}};
    row_map_init(&map);
    struct row_out out = {0};
    struct value v = {text, (uint32_t)strlen(text), VALUE_TEXT};
    struct err e;
    assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_BEFORE, &e), 0);
    assert_int_equal(out.row.n, 0);
    Rowcast__V1__Exact *x = read_exact(&out.exact, 9);
    assert_int_equal(x->number, NUMBER);
    assert_string_equal(x->text, mended);
    assert_true(x->has_raw && x->raw.len == strlen(text));
    assert_memory_equal(x->raw.data, text, x->raw.len);
    rowcast__v1__exact__free_unpacked(x, NULL);
    row_out_fini(&out);
    row_map_fini(&map);
}

static void text_that_is_not_utf8(void **state)
{
    (void)state;
    check_mended(25, "gr\xfc\xdf", "gr\xef\xbf\xbd\xef\xbf\xbd");
    check_mended(25,
                 "0123456789\xff"
                 "0123456789",
                 "0123456789\xef\xbf\xbd"
                 "0123456789");
    check_mended(1009, "{a,\xfc}", "{a,\xef\xbf\xbd}");
    check_mended(23, "\xfc", "\xef\xbf\xbd");
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xf0\x9f\x90",
                                      "\xfe",
                                      "\xff"};
    static const char *const good[] = {"",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    // At every offset, so that each loop of the check meets them.
    for (size_t offset = 0; offset < 70; offset++) {
        char text[80];
        memset(text, 'a', sizeof text);
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
            memcpy(text + offset, bad[i], strlen(bad[i]));
            assert_false(utf8_valid(text, offset + strlen(bad[i])));
        }
        for (size_t i = 0; i < ARRAY_LEN(good); i++) {
            memset(text, 'a', sizeof text);
            memcpy(text + offset, good[i], strlen(good[i]));
            assert_true(utf8_valid(text, sizeof text));
        }
    }
}

// ---- rows ----

// Three columns: id (key, number 3), note (number 1), secret (masked, number 2), gone (excluded).
struct fixture {
    struct column columns[3];
    struct row_map map;
    struct row_out out;
    struct err e;
};

static void set_up(struct fixture *x)
{
    *x = (struct fixture){0};
    for (size_t i = 0; i < 3; i++)
        x->columns[i] = column_of(type_builtin(25));
    x->columns[0].number = 3;
    x->columns[0].key = true;
    x->columns[0].kind = KIND_INT32;
    x->columns[1].number = 1;
    x->columns[2].number = 2;
    x->columns[2].masked = true;
    x->map.n = 4;
    x->map.columns[0] = &x->columns[0];
    x->map.columns[1] = &x->columns[1];
    x->map.columns[2] = NULL;
    x->map.columns[3] = &x->columns[2];
    row_map_init(&x->map);
}

static void tear_down(struct fixture *x)
{
    row_out_fini(&x->out);
    row_map_fini(&x->map);
    row_map_fini(&x->map); // twice is fine
}

#define TEXT(s)                                                                                    \
    {                                                                                              \
        s, sizeof(s) - 1, VALUE_TEXT                                                               \
    }
#define STATE(c)                                                                                   \
    {                                                                                              \
        NULL, 0, c                                                                                 \
    }
#define WANT(part, text)                                                                           \
    do {                                                                                           \
        assert_int_equal((part).n, sizeof(text) - 1);                                              \
        assert_memory_equal((part).p, text, sizeof(text) - 1);                                     \
    } while (0)

static void fields_stand_in_the_order_of_numbers(void **state)
{
    (void)state;
    struct fixture x;
    set_up(&x);
    struct value v[] = {TEXT("7"), TEXT("hi"), TEXT("gone"), TEXT("pw")};
    struct tuple t = {4, v};
    assert_int_equal(row_encode(&x.out, &x.map, &t, NULL, ROW_AFTER, &x.e), 0);
    WANT(x.out.row, "\x0a\x02hi\x12\x04****\x18\x07");
    assert_int_equal(x.out.exact.n, 0);
    assert_int_equal(x.out.unchanged.n, 0);

    row_out_clear(&x.out);
    v[3].state = VALUE_NULL; // NULL is seen behind the mask, no other value is
    assert_int_equal(row_encode(&x.out, &x.map, &t, NULL, ROW_BEFORE, &x.e), 0);
    WANT(x.out.row, "\x0a\x02hi\x18\x07");
    tear_down(&x);
}

static void a_key_holds_key_columns_only(void **state)
{
    (void)state;
    struct fixture x;
    set_up(&x);
    struct value v[] = {TEXT("7"), STATE('n'), STATE('n'), STATE('n')};
    assert_int_equal(row_encode(&x.out, &x.map, &(struct tuple){4, v}, NULL, ROW_KEY, &x.e), 0);
    WANT(x.out.row, "\x18\x07");
    row_out_clear(&x.out);
    v[1] = (struct value)TEXT("full old row");
    assert_int_equal(row_encode(&x.out, &x.map, &(struct tuple){4, v}, NULL, ROW_KEY, &x.e), 0);
    WANT(x.out.row, "\x18\x07");
    row_out_clear(&x.out);
    v[0] = (struct value)TEXT("7x");
    assert_int_equal(row_encode(&x.out, &x.map, &(struct tuple){4, v}, NULL, ROW_KEY, &x.e), 0);
    assert_int_equal(x.out.row.n, 0);
    WANT(x.out.exact, "\x52\x06\x08\x03\x12\x02"
                      "7x"); // field 10 of Change
    tear_down(&x);
}

static void unchanged_values(void **state)
{
    (void)state;
    struct fixture x;
    set_up(&x);
    struct value v[] = {TEXT("7"), STATE('u'), STATE('u'), STATE('u')};
    struct value o[] = {TEXT("7"), TEXT("old"), TEXT("gone"), TEXT("pw")};
    struct tuple t = {4, v}, old = {4, o};
    assert_int_equal(row_encode(&x.out, &x.map, &t, NULL, ROW_AFTER, &x.e), 0);
    WANT(x.out.row, "\x18\x07");
    WANT(x.out.unchanged, "\x01\x02");

    row_out_clear(&x.out);
    assert_int_equal(row_encode(&x.out, &x.map, &t, &old, ROW_AFTER, &x.e), 0);
    WANT(x.out.row, "\x0a\x03old\x12\x04****\x18\x07");
    assert_int_equal(x.out.unchanged.n, 0);

    row_out_clear(&x.out); // a key image knows nothing of other columns
    o[1].state = VALUE_NULL;
    assert_int_equal(row_encode(&x.out, &x.map, &t, &old, ROW_AFTER, &x.e), 0);
    WANT(x.out.unchanged, "\x01");

    assert_int_equal(row_encode(&x.out, &x.map, &t, NULL, ROW_BEFORE, &x.e), -1);
    assert_int_equal(x.e.class, ERR_DATA);
    tear_down(&x);
}

static void column_counts_must_agree(void **state)
{
    (void)state;
    struct fixture x;
    set_up(&x);
    struct value v[] = {TEXT("7"), TEXT("a"), TEXT("b"), TEXT("c"), TEXT("d")};
    struct tuple good = {4, v};
    for (uint16_t n = 3; n <= 5; n += 2) {
        struct tuple bad = {n, v};
        assert_int_equal(row_encode(&x.out, &x.map, &bad, NULL, ROW_AFTER, &x.e), -1);
        assert_int_equal(row_encode(&x.out, &x.map, &good, &bad, ROW_AFTER, &x.e), -1);
        assert_non_null(strstr(x.e.text, "4"));
    }
    tear_down(&x);
}

static void large_values(void **state)
{
    (void)state;
    const size_t n = 10 << 20;
    char *text = xmalloc(n);
    memset(text, 'a', n);
    text[n - 2] = '\xc3', text[n - 1] = '\xbc';
    struct column c = column_of(type_builtin(25));
    c.number = (1u << 29) - 1; // the largest there is
    struct row_map map = {.n = 1, .columns = {&c}};
    struct row_out out = {0};
    struct err e;
    struct value v = {text, (uint32_t)n, VALUE_TEXT};
    row_map_init(&map);
    assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), 0);
    struct reader r = reader_of(out.row.p, out.row.n);
    struct wire_field f = {0};
    assert_true(wire_next(&r, &f) && reader_done(&r));
    assert_int_equal(f.number, c.number);
    assert_true(f.bytes.n == n && memcmp(f.bytes.p, text, n) == 0);
    row_map_fini(&map);

    memset(text, '0', n); // 5 MB of zeros as a bytea
    memcpy(text, "\\x", 2);
    c.kind = KIND_BYTES;
    row_map_init(&map);
    row_out_clear(&out);
    assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), 0);
    r = reader_of(out.row.p, out.row.n);
    assert_true(wire_next(&r, &f) && reader_done(&r));
    assert_int_equal(f.bytes.n, n / 2 - 1);

    for (size_t i = 0; i < n; i++) // an array of 5 million
        text[i] = i % 2 ? '1' : i ? ',' : '{';
    text[n - 1] = '}';
    text[n - 2] = '1';
    text[n - 3] = '1';
    row_map_fini(&map);
    c.kind = KIND_ARRAY + KIND_INT32;
    row_map_init(&map);
    row_out_clear(&out);
    assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), 0);
    assert_int_equal(out.exact.n, 0);
    r = reader_of(out.row.p, out.row.n);
    assert_true(wire_next(&r, &f) && reader_done(&r));
    Rowcast__V1__Int32Array *a = rowcast__v1__int32_array__unpack(NULL, f.bytes.n, f.bytes.p);
    assert_int_equal(a->n_value, n / 2 - 1);
    assert_int_equal(a->value[a->n_value - 1], 11);
    rowcast__v1__int32_array__free_unpacked(a, NULL);
    row_map_fini(&map);
    row_out_fini(&out);
    free(text);
}

// A part that takes more than can be held is refused, with the column at which it did.
static void a_part_has_a_limit(void **state)
{
    (void)state;
    struct column c = column_of(type_builtin(1022)); // double precision[]
    struct row_map map = {.n = 1, .columns = {&c}};
    struct value v = {"{1,2,3,4}", 9, VALUE_TEXT}; // 4 times 8 bytes, and 4 around them
    struct row_out out = {.max = 36};
    struct err e;
    row_map_init(&map);
    for (size_t i = 0; i < 2; i++) // what was there before does not count
        assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), 0);
    assert_int_equal(out.row.n, 72);
    out.max = 35;
    assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), -1);
    assert_int_equal(e.class, ERR_DATA);
    assert_non_null(strstr(e.text, "at column c"));
    row_map_fini(&map);
    row_out_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_that_is_not_utf8),
        cmocka_unit_test(fields_stand_in_the_order_of_numbers),
        cmocka_unit_test(a_key_holds_key_columns_only),
        cmocka_unit_test(unchanged_values),
        cmocka_unit_test(column_counts_must_agree),
        cmocka_unit_test(large_values),
        cmocka_unit_test(a_part_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
