// The base library: positions and cursors as text, clock text, metrics text.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/position.h"
#include "base/reader.h"

static void cursor_round_trip(void **state)
{
    (void)state;
    const struct cursor in[] = {
        {0x9f86d081884c7d65, 1, {0x16B3748, 0}, 0},
        {1, 0xffffffff, {UINT64_MAX, ORDINAL_END}, 7},
    };
    for (size_t i = 0; i < ARRAY_LEN(in); i++) {
        char text[CURSOR_TEXT_MAX];
        struct cursor out = {0};
        size_t n = cursor_text(&in[i], text);
        assert_int_equal(n, strlen(text));
        assert_true(cursor_parse(text, n, &out));
        assert_memory_equal(&in[i].at, &out.at, sizeof out.at);
        assert_int_equal(in[i].stream_id, out.stream_id);
        assert_int_equal(in[i].timeline, out.timeline);
        assert_int_equal(in[i].attempt, out.attempt);
    }
}

static void cursor_refuses_what_is_not_one(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "now",
                                      "9f86d081884c7d65.1.16B3748",
                                      "9f86d081884c7d65.1.16B3748.0.",
                                      "9f86d081884c7d65.1.16B3748.0x",
                                      "9f86d081884c7d6.1.16B3748.0",
                                      "9f86d081884c7d65.1.11111111111111111.0",
                                      "9f86d081884c7d65.111111111.1.0"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct cursor c;
        assert_false(cursor_parse(bad[i], strlen(bad[i]), &c));
    }
}

static void lsn_round_trip(void **state)
{
    (void)state;
    char text[LSN_TEXT_MAX];
    lsn_t lsn;
    assert_true(lsn_parse("0/16B3748", &lsn));
    assert_string_equal(lsn_text(lsn, text), "0/16B3748");
    assert_true(lsn_parse("FFFFFFFF/FFFFFFFF", &lsn));
    assert_int_equal(lsn, UINT64_MAX);
    assert_false(lsn_parse("0/", &lsn));
    assert_false(lsn_parse("0/16B3748 ", &lsn));
    assert_false(lsn_parse("123456789/0", &lsn));
}

static void clock_text_at_the_edges(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_MAX];
    clock_text(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
    clock_text(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
    clock_text(INT64_C(951782400123456), text);
    assert_string_equal(text, "2000-02-29T00:00:00.123456Z");
    clock_text(INT64_C(253402300799999999), text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
    clock_text(INT64_MAX, text); // no year that four digits hold
    assert_string_equal(text, "9223372036854775807");
}

static void metrics_text(void **state)
{
    (void)state;
    AUTO_BUF struct buf labels = {0};
    metrics_label(&labels, "table", "public.\"a\\b\"");
    struct metric *m =
        metric_new(METRIC_COUNTER, "rowcast_test_total", "A test.", buf_cstr(&labels), 1);
    metric_add(m, 3);
    assert_ptr_equal(
        m, metric_new(METRIC_COUNTER, "rowcast_test_total", "A test.", buf_cstr(&labels), 1));
    struct histogram *h = histogram_new("rowcast_test_seconds", "A histogram.", "");
    histogram_observe(h, 100);
    histogram_observe(h, 99999999);
    AUTO_BUF struct buf out = {0};
    metrics_render(&out);
    const char *text = buf_cstr(&out);
    assert_non_null(strstr(text,
                           "# HELP rowcast_test_total A test.\n# TYPE rowcast_test_total counter\n"
                           "rowcast_test_total{table=\"public.\\\"a\\\\b\\\"\"} 3\n"));
    assert_non_null(strstr(text, "rowcast_test_seconds_bucket{le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(text, "rowcast_test_seconds_bucket{le=\"+Inf\"} 2\n"));
    assert_non_null(strstr(text, "rowcast_test_seconds_sum 100.000099\n"));
}

static void no_age_is_negative(void **state)
{
    (void)state;
    int64_t now = clock_wall_us();
    assert_int_equal(clock_age_us(now + 10000000), 0); // of a clock that is ahead
    assert_true(clock_age_us(now - 10000000) >= 10000000);
}

static void a_servers_time_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(clock_from_pg(0), PG_EPOCH_US);
    assert_int_equal(clock_from_pg(-PG_EPOCH_US), 0);
    assert_int_equal(clock_from_pg(INT64_MAX), INT64_MAX);
    assert_int_equal(clock_from_pg(INT64_MAX - PG_EPOCH_US - 1), INT64_MAX - 1);
    assert_int_equal(clock_from_pg(INT64_MIN), INT64_C(-210866803200000000)); // 4713 BC
}

static void reader_failure_is_sticky(void **state)
{
    (void)state;
    const uint8_t bytes[] = {1, 2, 3};
    struct reader r = reader_of(bytes, sizeof bytes);
    assert_int_equal(reader_be16(&r), 0x0102);
    assert_int_equal(reader_be32(&r), 0);
    assert_true(r.failed);
    assert_int_equal(reader_u8(&r), 0);
    assert_string_equal(reader_cstr(&r), "");
    assert_false(reader_done(&r));
    const uint8_t endless[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    r = reader_of(endless, sizeof endless);
    reader_varint(&r);
    assert_true(r.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursor_round_trip),  cmocka_unit_test(cursor_refuses_what_is_not_one),
        cmocka_unit_test(lsn_round_trip),     cmocka_unit_test(clock_text_at_the_edges),
        cmocka_unit_test(no_age_is_negative), cmocka_unit_test(a_servers_time_is_bounded),
        cmocka_unit_test(metrics_text),       cmocka_unit_test(reader_failure_is_sticky),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
