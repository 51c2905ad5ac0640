// The generated .proto: its names and numbers here, that it compiles and decodes rows by protoc.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/batch.h"
#include "proto/registry.h"
#include "proto/schema.h"
#include "proto/wire.h"

#define ID_BIG UINT64_C(9007199254740993)

static struct relation *table_of(const char *schema, const char *name, struct seen_column *columns,
                                 size_t n)
{
    for (size_t i = 0; i < n; i++) {
        columns[i].attnum = (int16_t)(i + 1);
        columns[i].typmod = -1;
        columns[i].type = columns[i].type ? columns[i].type : "sometype";
        columns[i].base_type = columns[i].type;
    }
    struct seen_relation seen = {16384, schema, name, 'd', (uint16_t)n, columns};
    return registry_number(NULL, &seen, 1);
}

static struct relation *empty(const char *schema, const char *name)
{
    return table_of(schema, name, NULL, 0);
}

static void render_one(struct buf *out, struct relation *r, bool preview)
{
    const struct relation *all[] = {r};
    schema_render(out, all, 1, preview);
    relation_free(r);
}

static void assert_has(struct buf *text, const char *part)
{
    if (!strstr(buf_cstr(text), part))
        fail_msg("no \"%s\" in:\n%s", part, buf_cstr(text));
}

static void assert_message(const char *schema, const char *name, const char *want)
{
    AUTO_BUF struct buf b = {0};
    render_one(&b, empty(schema, name), false);
    AUTO_FREE char *row = xasprintf("\nmessage %s {\n", want);
    AUTO_FREE char *change = xasprintf("\nmessage %sChange {\n", want);
    assert_has(&b, row);
    assert_has(&b, change);
}

static void test_message_names(void **state)
{
    (void)state;
    assert_message("public", "orders", "PublicOrders");
    assert_message("public", "order_items2", "PublicOrderItems2");
    assert_message("a", "b_c", "ABC");
    assert_message("a_b", "c", "AB_C");
}

// The message's name of a table whose own name cannot simply stand in it.
static char *message_of(const char *schema, const char *name)
{
    AUTO_BUF struct buf b = {0};
    render_one(&b, empty(schema, name), false);
    const char *at = strstr(buf_cstr(&b), "\nmessage ") + strlen("\nmessage ");
    return xstrndup(at, strcspn(at, " "));
}

static void test_message_names_distinct(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"public", "orders"},
        {"public", "Orders"},
        {"public", "orders_"},
        {"public", "_orders"},
        {"public", "or_ders"},
        {"public", "orders__"},
        {"public", "or.ders"},
        {"public", "or ders"},
        {"public", "orders_change"},
        {"public", "OrdersChange"},
        {"public_or", "ders"},
        {"Public", "orders"},
        {"public", "order_1"},
        {"public", "order1"},
        {"1", "1"},
        {"\xc3\xa9", "\xc3\xa8"},
        {"", ""},
        {"public", ""},
        {"a", "b_c"},
        {"a_b", "c"},
        {"a", "bc"},
    };
    char *messages[ARRAY_LEN(names)];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        messages[i] = message_of(names[i][0], names[i][1]);
        assert_true(messages[i][0] >= 'A' && messages[i][0] <= 'Z');
        for (size_t k = 0; k < i; k++) {
            AUTO_FREE char *a = xasprintf("%sChange", messages[i]);
            AUTO_FREE char *b = xasprintf("%sChange", messages[k]);
            assert_string_not_equal(messages[i], messages[k]);
            assert_string_not_equal(messages[i], b);
            assert_string_not_equal(messages[k], a);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        free(messages[i]);
}

static void test_preview(void **state)
{
    (void)state;
    AUTO_BUF struct buf a = {0}, b = {0};
    render_one(&a, empty("public", "t"), false);
    render_one(&b, empty("public", "t"), true);
    assert_null(strstr(buf_cstr(&a), "PREVIEW"));
    assert_has(&b, "PREVIEW");
}

// A table with everything: each kind, odd names, reserved numbers.
static struct relation *rich(void)
{
    struct seen_column columns[] = {
        {.name = "id", .kind = KIND_INT64, .key = true, .type = "bigint"},
        {.name = "price", .kind = KIND_STRING, .type = "numeric(10,2)"},
        {.name = "user_id", .kind = KIND_INT32, .key = true},
        {.name = "userid", .kind = KIND_INT32},
        {.name = "UserId", .kind = KIND_INT32},
        {.name = "no te", .kind = KIND_STRING},
        {.name = "no.te", .kind = KIND_STRING},
        {.name = "7th", .kind = KIND_BOOL},
        {.name = "", .kind = KIND_UINT32},
        {.name = "___", .kind = KIND_FLOAT},
        {.name = "\xc3\xa9t\xc3\xa9", .kind = KIND_DOUBLE, .type = "odd\ntype"},
        {.name = "message", .kind = KIND_BYTES},
        {.name = "optional", .kind = KIND_TIMESTAMP},
        {.name = "rowcast", .kind = KIND_ARRAY + KIND_STRING},
        {.name = "google", .kind = KIND_ARRAY + KIND_TIMESTAMP},
        {.name = "a1", .kind = KIND_ARRAY + KIND_BOOL},
        {.name = "a2", .kind = KIND_ARRAY + KIND_INT32},
        {.name = "a3", .kind = KIND_ARRAY + KIND_INT64},
        {.name = "a4", .kind = KIND_ARRAY + KIND_UINT32},
        {.name = "a5", .kind = KIND_ARRAY + KIND_FLOAT},
        {.name = "a6", .kind = KIND_ARRAY + KIND_DOUBLE},
        {.name = "a7", .kind = KIND_ARRAY + KIND_BYTES},
        {.name = "reserved", .kind = KIND_STRING, .masked = true},
    };
    struct relation *r = table_of("public", "orders", columns, ARRAY_LEN(columns));
    static const char *const gone[] = {"gone", "gone", "price", "odd gone"};
    r->reserved = xcalloc(ARRAY_LEN(gone), sizeof *r->reserved);
    for (size_t i = 0; i < ARRAY_LEN(gone); i++)
        r->reserved[i] = (struct reserved_number){100 + (uint32_t)i, KIND_BYTES, xstrdup(gone[i])};
    r->reserved_count = ARRAY_LEN(gone);
    relation_seal(r);
    return r;
}

static void test_fields(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    render_one(&b, rich(), false);
    assert_has(&b, "\n  optional int64 id = 1;  // bigint, key\n");
    assert_has(&b, "\n  optional string price = 2;  // numeric(10,2)\n");
    assert_has(&b, "\n  optional int32 userid_4 = 4;  // \"userid\" sometype\n");
    assert_has(&b, "\n  optional int32 UserId_5 = 5;  // \"UserId\" sometype\n");
    assert_has(&b, "\n  optional string no_te = 6;  // \"no te\" sometype\n");
    assert_has(&b, "\n  optional string no_te_7 = 7;  // \"no.te\" sometype\n");
    assert_has(&b, "\n  optional double __t__ = 11;  // \"\xc3\xa9t\xc3\xa9\" odd type\n");
    assert_has(&b, "\n  optional .google.protobuf.Timestamp optional = 13;");
    assert_has(&b, "\n  optional .rowcast.v1.StringArray rowcast = 14;");
    assert_has(&b, "\n  optional string reserved = 23;  // sometype, masked\n");
    assert_has(&b, "\n  reserved 100, 101, 102, 103;\n  reserved \"gone\";\n");
    assert_has(&b, "\n    optional int32 user_id = 3;  // sometype, key\n  }\n");
}

// ---- by protoc ----

static void write_file(const char *dir, const char *name, const void *p, size_t n)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

// Debian's protoc comes without it.
static void write_timestamp(const char *dir)
{
    static const char text[] = "syntax = \"proto3\";\npackage google.protobuf;\n"
                               "message Timestamp { int64 seconds = 1; int32 nanos = 2; }\n";
    AUTO_FREE char *google = xasprintf("%s/google", dir);
    AUTO_FREE char *protobuf = xasprintf("%s/google/protobuf", dir);
    assert_int_equal(mkdir(google, 0700), 0);
    assert_int_equal(mkdir(protobuf, 0700), 0);
    write_file(protobuf, "timestamp.proto", text, sizeof text - 1);
}

// Runs `protoc .. tables.proto` in dir and returns what it says, of both outputs; asserts that it
// liked its input.
static char *protoc(const char *dir, const char *options)
{
    const char *root = getenv("SOURCE_ROOT");
    AUTO_FREE char *proto = realpath(root ? root : ".", NULL);
    AUTO_FREE char *command = xasprintf(
        "cd '%s' && exec protoc -I. -I'%s/proto' %s tables.proto 2>&1", dir, proto, options);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    AUTO_BUF struct buf b = {0};
    size_t n;
    while ((n = fread(buf_room(&b, 4096), 1, 4096, f)) > 0)
        b.n += n;
    if (pclose(f) != 0)
        fail_msg("%s:\n%s", command, buf_cstr(&b));
    return xstrdup(buf_cstr(&b));
}

static void put_change(struct buf *out)
{
    AUTO_BUF struct buf key = {0}, row = {0}, array = {0}, time = {0}, exact = {0};
    wire_uint(&key, 1, ID_BIG);
    wire_uint(&row, 1, ID_BIG);
    wire_string(&row, 2, "12.50");
    wire_uint(&row, 3, (uint64_t)INT64_C(-5));
    wire_uint(&time, 1, 1795447440);
    wire_bytes(&row, 13, time.p, time.n);
    wire_string(&array, 1, "a");
    wire_string(&array, 1, "");
    wire_bytes(&array, 2, "\x01", 1);
    wire_bytes(&row, 14, array.p, array.n);
    wire_uint(&exact, 1, 15);
    wire_string(&exact, 2, "{infinity}");
    wire_uint(out, 1, OP_UPDATE);
    wire_uint(out, 2, 1);
    wire_uint(out, 3, 0);
    wire_bytes(out, 4, key.p, key.n);
    wire_bytes(out, 6, row.p, row.n);
    wire_bytes(out, 7, "\x06", 1);
    wire_bytes(out, 8, exact.p, exact.n);
    wire_uint(out, 15, 1);
}

static void test_protoc(void **state)
{
    (void)state;
    if (system("protoc --version >/dev/null 2>&1") != 0)
        skip();
    char dir[] = "/tmp/rowcast-schema-XXXXXX";
    assert_non_null(mkdtemp(dir));
    AUTO_BUF struct buf schema = {0}, change = {0};
    struct relation *tables[] = {rich(), empty("public", "orders_change"), empty("a", "bc"),
                                 empty("a_b", "c")};
    const struct relation *borrowed[] = {tables[0], tables[1], tables[2], tables[3]};
    schema_render(&schema, borrowed, ARRAY_LEN(tables), true);
    put_change(&change);
    write_timestamp(dir);
    write_file(dir, "tables.proto", schema.p, schema.n);
    write_file(dir, "change", change.p, change.n);
    AUTO_FREE char *compiled = protoc(dir, "--descriptor_set_out=/dev/null");
    assert_string_equal(compiled, ""); // no warning either
    AUTO_FREE char *decoded = protoc(dir, "--decode=rowcast.tables.PublicOrdersChange <change");
    AUTO_FREE char *remove = xasprintf("rm -r '%s'", dir);
    assert_int_equal(system(remove), 0);
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        relation_free(tables[i]);
    assert_string_equal(decoded,
                        "op: OP_UPDATE\n"
                        "relation: 1\n"
                        "ordinal: 0\n"
                        "key {\n  id: 9007199254740993\n}\n"
                        "after {\n"
                        "  id: 9007199254740993\n"
                        "  price: \"12.50\"\n"
                        "  user_id: -5\n"
                        "  optional {\n    seconds: 1795447440\n  }\n"
                        "  rowcast {\n    value: \"a\"\n    value: \"\"\n    null: 1\n  }\n"
                        "}\n"
                        "unchanged: 6\n"
                        "exact {\n  number: 15\n  text: \"{infinity}\"\n}\n"
                        "last: true\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_names), cmocka_unit_test(test_message_names_distinct),
        cmocka_unit_test(test_preview),       cmocka_unit_test(test_fields),
        cmocka_unit_test(test_protoc),
    };
    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
