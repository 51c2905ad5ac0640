// What `rowcast tail` does with what it receives: the walk over JSON text, the line for people, the
// address.
#include "sinks/websocket/client.h"
#include "sinks/websocket/scan.h"
#include "sinks/websocket/tail_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void line_is(const char *entry, const char *expected)
{
    AUTO_BUF struct buf out = {0};
    tail_line(&out, slice_of(entry), false);
    assert_string_equal(buf_cstr(&out), expected);
}

static void test_lines(void **state)
{
    (void)state;
    line_is("{\"op\":\"insert\",\"table\":\"public.orders\",\"row\":{\"id\":\"7\",\"qty\":2,"
            "\"doc\":{\"a\":[1,2.50]},\"note\":null},\"cursor\":\"c\","
            "\"time\":\"2026-11-23T15:44:00.123456Z\"}",
            "15:44:00.123 insert   public.orders id=\"7\" qty=2 doc={\"a\":[1,2.50]} note=null\n");
    line_is("{\"op\":\"update\",\"table\":\"t\",\"key\":{\"id\":1},\"row\":{\"id\":1,\"v\":2}}",
            "update   t id=1 v=2\n");
    line_is("{\"op\":\"update\",\"table\":\"t\",\"key\":{\"id\":1},\"row\":{\"id\":3,\"v\":2}}",
            "update   t id=1 id: 1 -> 3 v=2\n");
    line_is("{\"op\":\"update\",\"table\":\"t\",\"key\":{\"id\":1},\"old\":{\"id\":1,\"a\":1,"
            "\"b\":\"x\"},\"row\":{\"id\":1,\"a\":1,\"b\":\"y\"}}",
            "update   t id=1 b: \"x\" -> \"y\"\n");
    line_is("{\"op\":\"delete\",\"table\":\"t\",\"key\":{\"id\":1}}", "delete   t id=1\n");
    line_is("{\"op\":\"delete\",\"table\":\"t\",\"old\":{\"v\":1}}", "delete   t v=1\n");
    line_is("{\"op\":\"truncate\",\"table\":\"t\",\"cascade\":true,\"tables\":[\"t\",\"u\"]}",
            "truncate t tables=[\"t\",\"u\"] cascade=true\n");
    line_is("{\"op\":\"message\",\"prefix\":\"p\",\"content\":\"aGk=\"}",
            "message  prefix=\"p\" content=\"aGk=\"\n");
    line_is("{\"type\":\"end\",\"lsn\":\"0/1\"}", "");
    line_is("{\"type\":\"gap\",\"reason\":\"slot lost\"}",
            "-- gap: changes are missing here: \"slot lost\"\n");
    line_is("{\"type\":\"snapshot\",\"step\":\"end\",\"table\":\"public.t\",\"rows\":12}",
            "-- snapshot of public.t: end, 12 rows\n");
    line_is("{\"type\":\"snapshot\",\"step\":\"restart\",\"table\":\"t\",\"reason\":\"it was "
            "rewritten\"}",
            "-- snapshot of t: restart, it was rewritten\n");
    line_is(
        "{\"type\":\"schema_change\",\"change\":\"altered\",\"table\":\"public.u\","
        "\"table_before\":\"public.t\",\"added\":[{\"name\":\"a\",\"type\":\"text\"}],"
        "\"dropped\":[{\"name\":\"b\",\"type\":\"text\"}],"
        "\"changed\":[{\"before\":{\"name\":\"c\",\"type\":\"integer\"},"
        "\"after\":{\"name\":\"d\",\"type\":\"bigint\"}}],\"columns\":[]}",
        "-- public.u altered: its name was public.t, +a text, -b text, c integer -> d bigint\n");
    line_is("{\"type\":\"schema_change\",\"change\":\"created\",\"table\":\"public.t\","
            "\"added\":[{\"name\":\"a\",\"type\":\"text\"}]}",
            "-- public.t created\n");
    line_is("no json", "");
}

static void test_lines_are_safe_and_short(void **state)
{
    (void)state;
    line_is("{\"op\":\"insert\",\"table\":\"t\",\"row\":{\"a\":\"\x7f\xc2\x9b\xc3\xa4\"}}",
            "insert   t a=\"??\xc3\xa4\"\n");
    AUTO_BUF struct buf entry = {0}, out = {0};
    buf_puts(&entry, "{\"op\":\"insert\",\"row\":{\"a\":\"");
    for (int i = 0; i < 5000; i++)
        buf_puts(&entry, "\xc3\xa4");
    buf_puts(&entry, "\"}}");
    tail_line(&out, buf_slice(&entry), false);
    assert_true(out.n < 260);
    assert_non_null(strstr(buf_cstr(&out), "\xc3\xa4...(10002 bytes)\n"));
}

static void test_scan(void **state)
{
    (void)state;
    struct slice value, key;
    const char *text =
        " { \"a\" : [ 1 , {\"b\":\"]}\\\"\"} , \"x,y\" ] , \"c\" : 18446744073709551616 } ";
    assert_true(scan_get(slice_of(text), "c", &value));
    assert_true(slice_is(value, "18446744073709551616"));
    assert_true(scan_get(slice_of(text), "a", &value));
    struct scan s = scan_open(value);
    assert_true(scan_element(&s, &value) && slice_is(value, "1"));
    assert_true(scan_element(&s, &value) && slice_is(value, "{\"b\":\"]}\\\"\"}"));
    assert_true(scan_element(&s, &value) && slice_is(value, "\"x,y\""));
    assert_false(scan_element(&s, &value));
    assert_false(s.failed);
    s = scan_open(slice_of("[]"));
    assert_false(scan_element(&s, &value) || s.failed);
    s = scan_open(slice_of("{}"));
    assert_false(scan_member(&s, &key, &value) || s.failed);
}

// Every beginning of a good text, and some that never were: no read past the end, always an end.
static void test_scan_broken(void **state)
{
    (void)state;
    const char *whole = "{\"a\":[1,{\"b\":\"\\u00e4\\\"\"},true],\"c\":{\"d\":null}}";
    struct slice key, value;
    for (size_t n = 0; n < strlen(whole); n++) {
        AUTO_FREE uint8_t *copy = xmalloc(n);
        memcpy(copy, whole, n);
        struct scan s = scan_open((struct slice){copy, n});
        while (scan_member(&s, &key, &value))
            ;
        assert_true(s.failed);
    }
    static const char *const broken[] = {"",           "1", "{1:2}", "{\"a\"}",   "{\"a\":}",
                                         "{\"a\":1,}", "[", "{]",    "{\"a\" 1}", "{,}"};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        struct scan s = scan_open(slice_of(broken[i]));
        while (scan_member(&s, &key, &value))
            ;
        assert_true(s.failed || strcmp(broken[i], "[") == 0);
    }
}

static void test_address(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host;
        int port;
        const char *authority;
    } good[] = {
        {"ws://127.0.0.1:7654", "127.0.0.1", 7654, "127.0.0.1:7654"},
        {"ws://db.example/", "db.example", 7654, "db.example:7654"},
        {"http://h:80/v1/stream", "h", 80, "h:80"},
        {"localhost:1", "localhost", 1, "localhost:1"},
        {"ws://[::1]:9", "::1", 9, "[::1]:9"},
    };
    struct address a;
    struct err e;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(address_parse(good[i].url, &a, &e), 0);
        assert_string_equal(a.host, good[i].host);
        assert_int_equal(a.port, good[i].port);
        assert_string_equal(a.authority, good[i].authority);
    }
    static const char *const bad[] = {
        "",         "ws://",     "wss://h",   "ws://h:", "ws://h:0", "ws://h:70000", "ws://h/other",
        "ws://u@h", "ws://[::1", "ws://h:1x", "ftp://h"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (address_parse(bad[i], &a, &e) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(e.class, ERR_USAGE);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),   cmocka_unit_test(test_lines_are_safe_and_short),
        cmocka_unit_test(test_scan),    cmocka_unit_test(test_scan_broken),
        cmocka_unit_test(test_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
