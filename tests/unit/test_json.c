// The JSON form, byte for byte: rows of every kind, what JSON cannot carry, each entry.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "proto/array.h"
#include "proto/json.h"
#include "proto/json_value.h"
#include "proto/registry.h"
#include "proto/wire.h"

#define LSN  UINT64_C(0x16B3748)
#define TIME INT64_C(1795449840123456) // 2026-11-23T16:04:00.123456Z

// ---- rows ----

static struct relation *table_of(const char *name, struct seen_column *columns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        columns[i].attnum = (int16_t)(i + 1);
        columns[i].typmod = -1;
        columns[i].type = columns[i].type ? columns[i].type : "t";
        columns[i].base_type = columns[i].type;
    }
    struct seen_relation seen = {16384, "public", name, 'd', (uint16_t)n, columns};
    return registry_number(NULL, &seen, 1);
}

// The row of one column (number 1) as JSON.
static void assert_value(enum kind kind, enum json_class class, const struct buf *row,
                         const char *want)
{
    struct seen_column c = {.name = "c", .kind = kind, .json_class = class};
    struct relation *r = table_of("t", &c, 1);
    struct change change = {0};
    struct err e = {0};
    AUTO_BUF struct buf b = {0};
    int rc = json_row(&b, r, buf_slice(row), &change, 8, false, &e);
    assert_int_equal(rc, want ? 0 : -1);
    assert_string_equal(buf_cstr(&b), want ? want : "");
    if (!want)
        assert_int_equal(e.class, ERR_DATA);
    relation_free(r);
}

static void assert_varint(enum kind kind, uint64_t v, const char *want)
{
    AUTO_BUF struct buf row = {0};
    wire_uint(&row, 1, v);
    assert_value(kind, JSON_CLASS_TEXT, &row, want);
}

static void assert_bytes(enum kind kind, enum json_class class, struct slice v, const char *want)
{
    AUTO_BUF struct buf row = {0};
    wire_bytes(&row, 1, v.p, v.n);
    assert_value(kind, class, &row, want);
}

static void put_timestamp(struct buf *out, int64_t seconds, int32_t nanos)
{
    if (seconds)
        wire_uint(out, 1, (uint64_t)seconds);
    if (nanos)
        wire_uint(out, 2, (uint64_t)nanos);
}

static void assert_timestamp(int64_t seconds, int32_t nanos, const char *want)
{
    AUTO_BUF struct buf message = {0};
    put_timestamp(&message, seconds, nanos);
    struct slice s = {message.p ? message.p : (const uint8_t *)"", message.n};
    assert_bytes(KIND_TIMESTAMP, JSON_CLASS_TEXT, s, want);
}

static void test_scalars(void **state)
{
    (void)state;
    assert_varint(KIND_BOOL, 0, "{\"c\":false}");
    assert_varint(KIND_BOOL, 1, "{\"c\":true}");
    assert_varint(KIND_INT32, (uint64_t)(int64_t)INT32_MIN, "{\"c\":-2147483648}");
    assert_varint(KIND_INT32, INT32_MAX, "{\"c\":2147483647}");
    assert_varint(KIND_INT64, (uint64_t)INT64_MIN, "{\"c\":\"-9223372036854775808\"}");
    assert_varint(KIND_INT64, INT64_MAX, "{\"c\":\"9223372036854775807\"}");
    assert_varint(KIND_UINT32, UINT32_MAX, "{\"c\":4294967295}");
    assert_bytes(KIND_STRING, JSON_CLASS_TEXT, slice_of("a\nb"), "{\"c\":\"a\\nb\"}");
    assert_bytes(KIND_STRING, JSON_CLASS_JSON, slice_of("{\"a\": 1}"), "{\"c\":{\"a\":1}}");
    assert_bytes(KIND_STRING, JSON_CLASS_JSON, slice_of("oops"), "{\"c\":\"oops\"}");
    assert_bytes(KIND_BYTES, JSON_CLASS_TEXT, slice_of("hi"), "{\"c\":\"aGk=\"}");
    assert_timestamp(1795447440, 123456000, "{\"c\":\"2026-11-23T15:24:00.123456Z\"}");
    assert_timestamp(0, 0, "{\"c\":\"1970-01-01T00:00:00.000000Z\"}");
    assert_timestamp(-62135596800, 0, "{\"c\":\"0001-01-01T00:00:00.000000Z\"}");
    assert_timestamp(253402300799, 999999999, "{\"c\":\"9999-12-31T23:59:59.999999Z\"}");
    assert_timestamp(-1, 500000000, "{\"c\":\"1969-12-31T23:59:59.500000Z\"}");
    assert_timestamp(253402300800, 0, NULL);
    assert_timestamp(0, 1000000000, NULL);
    AUTO_BUF struct buf row = {0};
    assert_value(KIND_INT32, JSON_CLASS_TEXT, &row, "{\"c\":null}");
    wire_fixed32(&row, 1, 0x3dcccccd);
    assert_value(KIND_FLOAT, JSON_CLASS_TEXT, &row, "{\"c\":0.1}");
    buf_clear(&row);
    wire_fixed64(&row, 1, 0xfff0000000000000);
    assert_value(KIND_DOUBLE, JSON_CLASS_TEXT, &row, "{\"c\":\"-Infinity\"}");
    assert_value(KIND_INT32, JSON_CLASS_TEXT, &row, NULL); // another wire type
    row.n--;
    assert_value(KIND_DOUBLE, JSON_CLASS_TEXT, &row, NULL); // cut off
}

struct dimension {
    int32_t length, lower;
};

static void put_dimensions(struct buf *out, const struct dimension *d, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        AUTO_BUF struct buf one = {0};
        wire_uint(&one, 1, (uint64_t)d[i].length);
        wire_uint(&one, 2, (uint64_t)(int64_t)d[i].lower);
        wire_bytes(out, 3, one.p, one.n);
    }
}

static void put_packed(struct buf *out, uint32_t number, const uint64_t *v, size_t n)
{
    AUTO_BUF struct buf packed = {0};
    for (size_t i = 0; i < n; i++)
        wire_varint(&packed, v[i]);
    wire_bytes(out, number, packed.p, packed.n);
}

static void test_arrays(void **state)
{
    (void)state;
    AUTO_BUF struct buf m = {0};
    const uint64_t v[] = {1, 0, (uint64_t)-3, 4, 5, 6}, nulls[] = {1};
    assert_bytes(KIND_ARRAY + KIND_INT32, JSON_CLASS_TEXT, slice_of(""), "{\"c\":[]}");
    put_packed(&m, 1, v, 6);
    put_packed(&m, 2, nulls, 1);
    assert_bytes(KIND_ARRAY + KIND_INT32, JSON_CLASS_TEXT, buf_slice(&m),
                 "{\"c\":[1,null,-3,4,5,6]}");
    assert_bytes(KIND_ARRAY + KIND_INT64, JSON_CLASS_TEXT, buf_slice(&m),
                 "{\"c\":[\"1\",null,\"-3\",\"4\",\"5\",\"6\"]}");
    const struct dimension d[] = {{2, 1}, {3, 1}};
    put_dimensions(&m, d, 2);
    assert_bytes(KIND_ARRAY + KIND_INT32, JSON_CLASS_TEXT, buf_slice(&m),
                 "{\"c\":[[1,null,-3],[4,5,6]]}");
    put_dimensions(&m, (struct dimension[]){{1, 1}}, 1);
    assert_bytes(KIND_ARRAY + KIND_INT32, JSON_CLASS_TEXT, buf_slice(&m),
                 "{\"c\":[[[1],[null],[-3]],[[4],[5],[6]]]}");
    put_dimensions(&m, (struct dimension[]){{2, 1}}, 1); // twelve of six
    assert_bytes(KIND_ARRAY + KIND_INT32, JSON_CLASS_TEXT, buf_slice(&m), NULL);

    buf_clear(&m);
    wire_string(&m, 1, "a\"");
    wire_string(&m, 1, "");
    wire_string(&m, 1, "");
    put_packed(&m, 2, (uint64_t[]){2}, 1);
    assert_bytes(KIND_ARRAY + KIND_STRING, JSON_CLASS_TEXT, buf_slice(&m),
                 "{\"c\":[\"a\\\"\",\"\",null]}");
    put_packed(&m, 2, (uint64_t[]){3}, 1); // behind the last element
    assert_bytes(KIND_ARRAY + KIND_STRING, JSON_CLASS_TEXT, buf_slice(&m), NULL);

    buf_clear(&m);
    double doubles[] = {0.5, INFINITY};
    wire_bytes(&m, 1, doubles, sizeof doubles);
    assert_bytes(KIND_ARRAY + KIND_DOUBLE, JSON_CLASS_TEXT, buf_slice(&m),
                 "{\"c\":[0.5,\"Infinity\"]}");
    m.n--;
    m.p[1]--;
    assert_bytes(KIND_ARRAY + KIND_DOUBLE, JSON_CLASS_TEXT, buf_slice(&m), NULL);
}

static void assert_array_text(enum kind kind, const char *base_type, const struct buf *message,
                              const char *want)
{
    AUTO_FREE char *base = xstrdup(base_type);
    struct column c = {.kind = kind, .base_type = base};
    AUTO_BUF struct buf b = {0};
    assert_int_equal(array_text(&b, &c, buf_slice(message)), 0);
    assert_string_equal(buf_cstr(&b), want);
}

static void test_array_text(void **state)
{
    (void)state;
    AUTO_BUF struct buf m = {0};
    const char *const texts[] = {"plain", "", "null", "a b", "{", "x\"\\y", ","};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        wire_string(&m, 1, texts[i]);
    wire_string(&m, 1, "");
    put_packed(&m, 2, (uint64_t[]){7}, 1);
    assert_array_text(KIND_ARRAY + KIND_STRING, "text[]", &m,
                      "{plain,\"\",\"null\",\"a b\",\"{\",\"x\\\"\\\\y\",\",\",NULL}");
    put_dimensions(&m, (struct dimension[]){{2, 0}, {4, -5}}, 2);
    assert_array_text(KIND_ARRAY + KIND_STRING, "text[]", &m,
                      "[0:1][-5:-2]={{plain,\"\",\"null\",\"a b\"},"
                      "{\"{\",\"x\\\"\\\\y\",\",\",NULL}}");
    buf_clear(&m);
    wire_string(&m, 1, "(1,1),(0,0)");
    wire_string(&m, 1, "(2,2),(0,0)");
    assert_array_text(KIND_ARRAY + KIND_STRING, "box[]", &m, "{(1,1),(0,0);(2,2),(0,0)}");
    buf_clear(&m);
    wire_bytes(&m, 1, "\x00\xff", 2);
    assert_array_text(KIND_ARRAY + KIND_BYTES, "bytea[]", &m, "{\"\\\\x00ff\"}");
    buf_clear(&m);
    AUTO_BUF struct buf t = {0};
    put_timestamp(&t, 1795447440, 120000000);
    wire_bytes(&m, 1, t.p, t.n);
    wire_bytes(&m, 1, NULL, 0);
    assert_array_text(KIND_ARRAY + KIND_TIMESTAMP, "timestamp with time zone[]", &m,
                      "{\"2026-11-23 15:24:00.12+00\",\"1970-01-01 00:00:00+00\"}");
    buf_clear(&m);
    put_packed(&m, 1, (uint64_t[]){1, 0}, 2);
    assert_array_text(KIND_ARRAY + KIND_BOOL, "boolean[]", &m, "{t,f}");
}

// What PostgreSQL wrote comes out of the message again as it was.
static void test_array_round_trip(void **state)
{
    (void)state;
    static const struct {
        const char *type, *text;
        enum kind element;
    } cases[] = {
        {"text[]", "{}", KIND_STRING},
        {"text[]", "{a,NULL,\"\",\"NULL\",\"a b\",\"x\\\"\\\\y\"}", KIND_STRING},
        {"text[]", "[-3:-2][0:1]={{a,b},{c,NULL}}", KIND_STRING},
        {"integer[]", "{{{1,2},{3,4}},{{5,6},{NULL,-8}}}", KIND_INT32},
        {"bigint[]", "[0:0]={-9223372036854775808}", KIND_INT64},
        {"boolean[]", "{t,f,NULL}", KIND_BOOL},
        {"oid[]", "{4294967295}", KIND_UINT32},
        {"real[]", "{0.1,1e+06,NaN,-Infinity,-0}", KIND_FLOAT},
        {"double precision[]", "{0.30000000000000004,1e-05,1.7976931348623157e+308}", KIND_DOUBLE},
        {"bytea[]", "{\"\\\\x00ff\",\"\\\\x\"}", KIND_BYTES},
        {"timestamp with time zone[]", "{\"2026-11-23 15:24:00.12+00\"}", KIND_TIMESTAMP},
        {"box[]", "{(1,1),(0,0);NULL}", KIND_STRING},
    };
    struct array_scratch scratch = {0};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF struct buf encoded = {0}, message = {0};
        const char *text = cases[i].text;
        char delimiter = strcmp(cases[i].type, "box[]") == 0 ? ';' : ',';
        assert_true(
            array_encode(&encoded, &scratch, cases[i].element, delimiter, text, strlen(text)));
        struct reader in = reader_of(encoded.p, encoded.n); // its length stands in front
        struct slice body = reader_bytes(&in);
        buf_put(&message, body.p, body.n);
        assert_array_text(KIND_ARRAY + cases[i].element, cases[i].type, &message, text);
    }
    array_scratch_fini(&scratch);
}

// ---- changes ----

struct fixture {
    struct catalog *catalog;
    struct json_context x;
    struct batch_builder *builder;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    struct seen_column columns[] = {
        {.name = "id", .kind = KIND_INT64, .key = true, .type = "bigint"},
        {.name = "no te", .kind = KIND_STRING, .type = "text"},
        {.name = "doc", .kind = KIND_STRING, .json_class = JSON_CLASS_JSON, .type = "jsonb"},
        {.name = "at", .kind = KIND_TIMESTAMP, .type = "timestamp with time zone"},
        {.name = "tags", .kind = KIND_ARRAY + KIND_STRING, .type = "text[]", .masked = false},
    };
    f->catalog = catalog_new();
    catalog_add(f->catalog, table_of("Odd.Name", columns, ARRAY_LEN(columns)));
    f->x = (struct json_context){.catalog = f->catalog, .stream_id = 0xabc, .timeline = 1};
    f->builder = batch_builder_new(4096);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    catalog_free(f->catalog);
    batch_builder_free(f->builder);
    free(f);
    return 0;
}

// A transaction of one change, and its JSON.
static void assert_change(struct fixture *f, const struct begin *begin, const struct change *c,
                          const char *want)
{
    batch_add_begin(f->builder, begin);
    batch_add_change(f->builder, c);
    batch_add_end(f->builder, begin->lsn + 8);
    struct batch *b = batch_builder_take(f->builder, false);
    AUTO_BUF struct buf out = {0};
    struct err e = {0};
    BATCH_FOREACH (b, entry) {
        if (entry->kind == ENTRY_BEGIN)
            json_context_begin(&f->x, b, entry);
        if (entry->kind != ENTRY_CHANGE)
            continue;
        assert_int_equal(json_change(&out, &f->x, b, entry, &e), want ? 0 : -1);
        assert_string_equal(buf_cstr(&out), want ? want : "");
    }
    batch_unref(b);
}

static const struct begin begin = {.lsn = LSN, .commit_time_us = TIME, .xid = 734};

#define PLACE                                                                                      \
    "\"cursor\":\"0000000000000abc.1.16b3748.0\",\"lsn\":\"0/16B3748\",\"seq\":0,\"last\":true,"   \
    "\"xid\":734,\"time\":\"2026-11-23T16:04:00.123456Z\"}"

static void put_id(struct buf *row, uint64_t id)
{
    wire_uint(row, 1, id);
}

static void test_insert(void **state)
{
    AUTO_BUF struct buf key = {0}, row = {0};
    put_id(&key, 7);
    put_id(&row, 7);
    wire_string(&row, 2, "x");
    wire_string(&row, 3, "[1, 2]");
    struct change c = {
        .op = OP_INSERT, .relation = 1, .key = buf_slice(&key), .after = buf_slice(&row)};
    assert_change(
        *state, &begin, &c,
        "{\"op\":\"insert\",\"table\":\"public.\\\"Odd.Name\\\"\",\"key\":{\"id\":\"7\"},"
        "\"row\":{\"id\":\"7\",\"no te\":\"x\",\"doc\":[1,2],\"at\":null,\"tags\":null}," PLACE);
}

static void test_update(void **state)
{
    AUTO_BUF struct buf key = {0}, old = {0}, row = {0}, exact = {0}, one = {0}, list = {0};
    put_id(&key, 7);
    put_id(&old, 7);
    wire_string(&old, 3, "null");
    put_id(&row, 8);
    wire_string(&row, 3, " null ");
    AUTO_BUF struct buf tags = {0};
    wire_string(&tags, 1, "a");
    put_dimensions(&tags, (struct dimension[]){{1, 0}}, 1);
    wire_bytes(&row, 5, tags.p, tags.n);
    wire_uint(&one, 1, 4);
    wire_string(&one, 2, "infinity");
    wire_bytes(&exact, 8, one.p, one.n);
    wire_varint(&list, 2);
    struct change c = {.op = OP_UPDATE,
                       .relation = 1,
                       .key = buf_slice(&key),
                       .before = buf_slice(&old),
                       .after = buf_slice(&row),
                       .exact = buf_slice(&exact),
                       .unchanged = buf_slice(&list)};
    assert_change(*state, &begin, &c,
                  "{\"op\":\"update\",\"table\":\"public.\\\"Odd.Name\\\"\",\"key\":{\"id\":\"7\"},"
                  "\"row\":{\"id\":\"8\",\"doc\":null,\"at\":\"infinity\",\"tags\":[\"a\"]},"
                  "\"old\":{\"id\":\"7\",\"no te\":null,\"doc\":null,\"at\":null,\"tags\":null},"
                  "\"unchanged\":[\"no te\"],"
                  "\"exact\":{\"doc\":\" null \",\"tags\":\"[0:0]={a}\"},"
                  "\"exact_old\":{\"doc\":\"null\"}," PLACE);
}

static void test_delete_and_origin(void **state)
{
    AUTO_BUF struct buf key = {0};
    put_id(&key, 7);
    struct change c = {.op = OP_DELETE, .relation = 1, .key = buf_slice(&key)};
    struct begin replicated = begin;
    replicated.origin = slice_of("pg_1");
    replicated.attempt = 2;
    assert_change(*state, &replicated, &c,
                  "{\"op\":\"delete\",\"table\":\"public.\\\"Odd.Name\\\"\",\"key\":{\"id\":\"7\"},"
                  "\"cursor\":\"0000000000000abc.1.16b3748.0.2\",\"lsn\":\"0/16B3748\",\"seq\":0,"
                  "\"last\":true,\"xid\":734,\"time\":\"2026-11-23T16:04:00.123456Z\","
                  "\"origin\":\"pg_1\"}");
}

static void test_truncate(void **state)
{
    AUTO_BUF struct buf m = {0};
    wire_uint(&m, 1, 1);
    wire_string(&m, 3, "public.a");
    wire_string(&m, 3, "public.\"B\"");
    struct change c = {.op = OP_TRUNCATE, .relation = 1, .truncate = buf_slice(&m)};
    assert_change(*state, &begin, &c,
                  "{\"op\":\"truncate\",\"table\":\"public.\\\"Odd.Name\\\"\","
                  "\"tables\":[\"public.a\",\"public.\\\"B\\\"\"],\"cascade\":true,"
                  "\"restart_identity\":false," PLACE);
}

static void test_message(void **state)
{
    AUTO_BUF struct buf m = {0};
    wire_string(&m, 1, "app");
    wire_string(&m, 2, "hi");
    struct change c = {.op = OP_MESSAGE, .message = buf_slice(&m)};
    struct begin alone = {.lsn = LSN};
    assert_change(*state, &alone, &c,
                  "{\"op\":\"message\",\"prefix\":\"app\",\"content\":\"aGk=\","
                  "\"transactional\":false,\"cursor\":\"0000000000000abc.1.16b3748.0\","
                  "\"lsn\":\"0/16B3748\",\"seq\":0,\"last\":true}");
}

static void test_corrupt(void **state)
{
    AUTO_BUF struct buf row = {0};
    put_id(&row, 7);
    struct change c = {.op = OP_INSERT, .relation = 2, .after = buf_slice(&row)};
    assert_change(*state, &begin, &c, NULL); // no such relation version
    c.relation = 1;
    wire_uint(&row, 2, 5); // a number where a text must be
    c.after = buf_slice(&row);
    assert_change(*state, &begin, &c, NULL);
    row.n--;
    c.after = buf_slice(&row);
    assert_change(*state, &begin, &c, NULL);
}

// A change as the WebSocket's policy leaves it when the row is too large for a frame.
static void test_omitted(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF struct buf key = {0}, row = {0}, body = {0};
    put_id(&key, 7);
    put_id(&row, 7);
    wire_uint(&body, 1, OP_INSERT);
    wire_uint(&body, 2, 1);
    wire_uint(&body, 3, 0);
    wire_bytes(&body, 4, key.p, key.n);
    wire_bytes(&body, 6, row.p, row.n);
    wire_bytes(&body, 13, "\x02\x05", 2);
    struct entry entry = {
        .body = 0, .end = (uint32_t)body.n, .kind = ENTRY_CHANGE, .op = OP_INSERT, .relation = 1};
    struct batch b = {.data = body.p, .n = body.n};
    AUTO_BUF struct buf out = {0};
    struct err e;
    f->x.begin = begin;
    assert_int_equal(json_change(&out, &f->x, &b, &entry, &e), 0);
    assert_string_equal(buf_cstr(&out),
                        "{\"op\":\"insert\",\"table\":\"public.\\\"Odd.Name\\\"\","
                        "\"key\":{\"id\":\"7\"},\"row\":{\"id\":\"7\",\"doc\":null,\"at\":null},"
                        "\"omitted\":[\"no te\",\"tags\"],"
                        "\"cursor\":\"0000000000000abc.1.16b3748.0\",\"lsn\":\"0/16B3748\","
                        "\"seq\":0,\"xid\":734,\"time\":\"2026-11-23T16:04:00.123456Z\"}");
}

// Columns whose numbers do not ascend, a number that the relation does not know, rewinding.
static void test_column_order(void **state)
{
    (void)state;
    struct seen_column columns[] = {{.name = "a", .kind = KIND_INT32},
                                    {.name = "b", .kind = KIND_INT32},
                                    {.name = "c", .kind = KIND_INT32},
                                    {.name = "d", .kind = KIND_INT32}};
    struct relation *r = table_of("t", columns, 4);
    static const uint32_t numbers[] = {2002, 1, 2001, 3};
    AUTO_BUF struct buf row = {0}, out = {0};
    for (size_t i = 0; i < 4; i++)
        r->columns[i].number = numbers[i];
    wire_uint(&row, 1, 10);
    wire_uint(&row, 3, 30);
    wire_uint(&row, 2002, 2);
    wire_uint(&row, 3000, 9);
    struct change c = {0};
    struct err e;
    assert_int_equal(json_row(&out, r, buf_slice(&row), &c, 8, false, &e), 0);
    assert_string_equal(buf_cstr(&out), "{\"a\":2,\"b\":10,\"c\":null,\"d\":30}");
    relation_free(r);
}

// ---- other entries ----

static void test_entries(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF struct buf out = {0}, row = {0};
    put_id(&row, 7);
    struct change c = {.op = OP_INSERT, .relation = 1, .after = buf_slice(&row)};
    batch_add_begin(f->builder, &begin);
    batch_add_change(f->builder, &c);
    batch_skip_change(f->builder);
    batch_add_end(f->builder, LSN + 0x30);
    batch_add_gap(f->builder, 0x10, UINT64_C(0x100000020), "slot \"s\" lost");
    struct batch *b = batch_builder_take(f->builder, false);
    BATCH_FOREACH (b, entry) {
        if (entry->kind == ENTRY_BEGIN)
            json_context_begin(&f->x, b, entry);
        else if (entry->kind == ENTRY_END)
            json_end(&out, &f->x, b, entry);
        else if (entry->kind == ENTRY_GAP)
            json_gap(&out, &f->x, b, entry);
    }
    json_progress(&out, &f->x, 0x20, position_before(0x20));
    batch_unref(b);
    assert_string_equal(
        buf_cstr(&out),
        "{\"type\":\"end\",\"lsn\":\"0/16B3748\",\"end_lsn\":\"0/16B3778\",\"xid\":734,"
        "\"changes\":2,\"cursor\":\"0000000000000abc.1.16b3748.ffffffffff\"}"
        "{\"type\":\"gap\",\"from_lsn\":\"0/10\",\"to_lsn\":\"1/20\","
        "\"reason\":\"slot \\\"s\\\" lost\","
        "\"cursor\":\"0000000000000abc.1.10000001f.ffffffffff\"}"
        "{\"type\":\"progress\",\"lsn\":\"0/20\","
        "\"cursor\":\"0000000000000abc.1.1f.ffffffffff\"}");
}

// What does not come from WAL stands above 2^40, and its cursors say so.
static void test_existing_rows(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF struct buf out = {0}, row = {0};
    struct err e = {0};
    struct snapshot_mark mark = {.at = {LSN, ORDINAL_ASIDE},
                                 .step = SNAPSHOT_BEGIN,
                                 .table = slice_of("public.\"Odd.Name\""),
                                 .reason = slice_of("asked for")};
    batch_add_snapshot_mark(f->builder, &mark);
    batch_add_begin(f->builder, &(struct begin){.lsn = LSN,
                                                .commit_time_us = TIME,
                                                .read = true,
                                                .ordinal = ORDINAL_ASIDE + 1});
    wire_uint(&row, 1, 7);
    struct change c = {
        .op = OP_READ, .relation = 1, .key = buf_slice(&row), .after = buf_slice(&row)};
    batch_add_change(f->builder, &c);
    batch_add_end(f->builder, 0);
    mark = (struct snapshot_mark){
        .at = {LSN, ORDINAL_ASIDE + 3}, .step = SNAPSHOT_END, .table = mark.table};
    batch_add_snapshot_mark(f->builder, &mark);
    struct batch *b = batch_builder_take(f->builder, false);
    BATCH_FOREACH (b, entry) {
        if (entry->kind == ENTRY_BEGIN) {
            json_context_begin(&f->x, b, entry);
            continue;
        }
        if (entry->kind == ENTRY_CHANGE)
            assert_int_equal(json_change(&out, &f->x, b, entry, &e), 0);
        else if (entry->kind == ENTRY_END)
            json_end(&out, &f->x, b, entry);
        else
            json_snapshot_mark(&out, &f->x, b, entry);
        buf_putc(&out, '\n');
    }
    batch_unref(b);
    char *read = strstr(buf_cstr(&out), "{\"op\":\"read\"");
    assert_non_null(read);
    const char *place =
        ",\"cursor\":\"0000000000000abc.1.16b3748.10000000001\",\"lsn\":\"0/16B3748\","
        "\"seq\":1099511627777,\"last\":true,\"time\":";
    assert_non_null(strstr(read, place));
    char *end = strchr(read, '\n');
    memmove(read, end + 1, strlen(end + 1) + 1);
    assert_string_equal(
        (char *)out.p,
        "{\"type\":\"snapshot\",\"step\":\"begin\",\"table\":\"public.\\\"Odd.Name\\\"\","
        "\"reason\":\"asked for\",\"lsn\":\"0/16B3748\",\"seq\":1099511627776,"
        "\"cursor\":\"0000000000000abc.1.16b3748.10000000000\"}\n"
        "{\"type\":\"end\",\"lsn\":\"0/16B3748\",\"seq\":1099511627778,\"changes\":1,"
        "\"cursor\":\"0000000000000abc.1.16b3748.10000000002\"}\n"
        "{\"type\":\"snapshot\",\"step\":\"end\",\"table\":\"public.\\\"Odd.Name\\\"\","
        "\"rows\":0,\"lsn\":\"0/16B3748\",\"seq\":1099511627779,"
        "\"cursor\":\"0000000000000abc.1.16b3748.10000000003\"}\n");
}

static void test_relation(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF struct buf out = {0};
    json_relation(&out, catalog_get(f->catalog, 1));
    const char *want =
        "{\"type\":\"relation\",\"table\":\"public.\\\"Odd.Name\\\"\",\"schema\":\"public\","
        "\"name\":\"Odd.Name\",\"replica_identity\":\"default\",\"columns\":["
        "{\"name\":\"id\",\"number\":1,\"type\":\"bigint\",\"base_type\":\"bigint\",\"key\":true},"
        "{\"name\":\"no te\",\"number\":2,\"type\":\"text\",\"base_type\":\"text\"},";
    assert_memory_equal(out.p, want, strlen(want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_array_text),
        cmocka_unit_test(test_array_round_trip),
        cmocka_unit_test(test_column_order),
        cmocka_unit_test_setup_teardown(test_insert, setup, teardown),
        cmocka_unit_test_setup_teardown(test_update, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_and_origin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_corrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_omitted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_existing_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_relation, setup, teardown),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
