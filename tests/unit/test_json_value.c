// The values of the JSON form, byte for byte: strings, floats, JSON in JSON, base64.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "proto/json_value.h"

static void assert_string_is(const char *text, size_t n, const char *want)
{
    AUTO_BUF struct buf b = {0};
    json_string(&b, text, n);
    assert_string_equal(buf_cstr(&b), want);
}

static void test_string(void **state)
{
    (void)state;
    assert_string_is("", 0, "\"\"");
    assert_string_is("plain", 5, "\"plain\"");
    assert_string_is("a\"b\\c/", 6, "\"a\\\"b\\\\c/\"");
    assert_string_is("\b\f\n\r\t\x01\x1f\x7f", 8, "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"");
    assert_string_is("\0", 1, "\"\\u0000\"");
    assert_string_is("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
                     "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
#define BAD "\xef\xbf\xbd"
    assert_string_is("a\xffz", 3, "\"a" BAD "z\"");
    assert_string_is("\xc0\x80", 2, "\"" BAD BAD "\"");                 // overlong
    assert_string_is("\xed\xa0\x80", 3, "\"" BAD BAD BAD "\"");         // a surrogate
    assert_string_is("\xf4\x90\x80\x80", 4, "\"" BAD BAD BAD BAD "\""); // past U+10FFFF
    assert_string_is("abc\xe2\x82", 5, "\"abc" BAD BAD "\"");           // cut off
}

// The special byte at every place of strings of every length around the width of a step.
static void test_string_places(void **state)
{
    (void)state;
    char text[80], want[100];
    for (size_t n = 1; n < 70; n++) {
        for (size_t at = 0; at < n; at++) {
            memset(text, 'x', n);
            text[at] = '"';
            memset(want, 'x', sizeof want);
            want[0] = '"';
            memcpy(want + 1 + at, "\\\"", 2);
            want[n + 2] = '"';
            want[n + 3] = 0;
            assert_string_is(text, n, want);
        }
    }
}

static void assert_double(double v, const char *want)
{
    AUTO_BUF struct buf b = {0};
    double_text(&b, v);
    assert_string_equal(buf_cstr(&b), want);
}

static void assert_float(float v, const char *want)
{
    AUTO_BUF struct buf b = {0};
    float_text(&b, v);
    assert_string_equal(buf_cstr(&b), want);
}

// As PostgreSQL 15 writes them.
static void test_floats(void **state)
{
    (void)state;
    assert_double(0, "0");
    assert_double(-0.0, "-0");
    assert_double(42, "42");
    assert_double(-1.5, "-1.5");
    assert_double(0.1, "0.1");
    assert_double(0.1 + 0.2, "0.30000000000000004");
    assert_double(12345.678901, "12345.678901");
    assert_double(1e20, "1e+20");
    assert_double(1e15, "1e+15");
    assert_double(999999999999999, "999999999999999");
    assert_double(1234567890123456.0, "1.234567890123456e+15");
    assert_double(0.0001, "0.0001");
    assert_double(0.00012345, "0.00012345");
    assert_double(0.00001, "1e-05");
    assert_double(123456789.123456, "123456789.123456");
    assert_double(1.7976931348623157e308, "1.7976931348623157e+308");
    assert_double(5e-324, "5e-324");
    assert_double(2.2250738585072014e-308, "2.2250738585072014e-308");
    assert_double(-1e-7, "-1e-07");
    assert_double(NAN, "NaN");
    assert_double(-INFINITY, "-Infinity");
    assert_float(0.1F, "0.1");
    assert_float(1e6F, "1e+06");
    assert_float(999999, "999999");
    assert_float(123456.7F, "123456.7");
    assert_float(16777216, "1.6777216e+07");
    assert_float(3.4028235e38F, "3.4028235e+38");
    assert_float(1e-45F, "1e-45");
    assert_float(0.00012F, "0.00012");
    assert_float(-99.99F, "-99.99");
    assert_float(0.333333343F, "0.33333334");
    assert_float(INFINITY, "Infinity");
}

static void test_floats_round_trip(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252;
    for (int i = 0; i < 50000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        AUTO_BUF struct buf b = {0};
        double d;
        float f;
        uint32_t low = (uint32_t)x;
        memcpy(&d, &x, sizeof d);
        memcpy(&f, &low, sizeof f);
        if (i % 2)
            d = (double)(x % 2000000000) / (double)(1 + x % 10000); // of everyday size
        if (!isfinite(d) || !isfinite(f))
            continue;
        double_text(&b, d);
        assert_true(strtod(buf_cstr(&b), NULL) == d);
        buf_clear(&b);
        float_text(&b, f);
        assert_true(strtof(buf_cstr(&b), NULL) == f);
    }
}

static void assert_document(const char *text, const char *want)
{
    AUTO_BUF struct buf b = {0};
    buf_putc(&b, '!');
    bool ok = json_document(&b, slice_of(text));
    assert_int_equal(ok, want != NULL);
    assert_string_equal(buf_cstr(&b) + 1, want ? want : "");
}

static void test_document(void **state)
{
    (void)state;
    assert_document(" { \"a\" : [ 1 , 2.5e-3 , true ] ,\n\t\"b c\":{ } , \"d\":[ ]} ",
                    "{\"a\":[1,2.5e-3,true],\"b c\":{},\"d\":[]}");
    assert_document("\"a \\u00e9 \\n \"", "\"a \\u00e9 \\n \"");
    assert_document("-0", "-0");
    assert_document("  false", "false");
    assert_document("[[[null]]]", "[[[null]]]");
    assert_document("{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}"); // the reader's parser decides
    static const char *const wrong[] = {
        "",      " ",         "{",       "[1,]",  "{\"a\":1,}", "{,}",    "01",      "1.",
        "-",     "1e",        "nul",     "nullx", "\"a",        "\"\n\"", "\"\\x\"", "\"\\u12\"",
        "[1 2]", "{\"a\" 1}", "{1:2}",   "[1}",   "{\"a\":1]",  "1 1",    "]",       "\"\xff\"",
        "[",     "{\"a\"",    "{\"a\":", "[1",    "\"\\",       "\"\\u",
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_document(wrong[i], NULL);
    assert_true(json_is_null(slice_of(" null\n")));
    assert_false(json_is_null(slice_of("\"null\"")));
    assert_false(json_is_null(slice_of("nul")));
}

static void test_document_depth(void **state)
{
    (void)state;
    const size_t n = JSON_DEPTH_MAX;
    AUTO_FREE char *text = xcalloc(1, 2 * n + 3);
    memset(text, '[', n);
    memset(text + n, ']', n);
    assert_document(text, text);
    memset(text, '[', n + 1);
    memset(text + n + 1, ']', n + 1);
    assert_document(text, NULL);
}

static void test_base64(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "\"\""},        {"f", "\"Zg==\""},        {"fo", "\"Zm8=\""},
        {"foo", "\"Zm9v\""}, {"foob", "\"Zm9vYg==\""}, {"\xff\xfe\xfd", "\"//79\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF struct buf b = {0};
        json_base64(&b, slice_of(cases[i][0]));
        assert_string_equal(buf_cstr(&b), cases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_string),   cmocka_unit_test(test_string_places),
        cmocka_unit_test(test_floats),   cmocka_unit_test(test_floats_round_trip),
        cmocka_unit_test(test_document), cmocka_unit_test(test_document_depth),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests_name("json_value", tests, NULL, NULL);
}
