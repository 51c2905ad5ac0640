// What clients may ask of the WebSocket server, and who may ask: parsers, Host and Origin,
// selections.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sinks/websocket/guard.h"
#include "sinks/websocket/request.h"
#include "sinks/websocket/selection.h"

#define CURSOR "9f86d081884c7d65.1.16B3748.3"

static enum request_fault json(const char *text, struct request *q)
{
    struct err e = {0};
    request_init(q);
    enum request_fault fault = request_json(slice_of(text), q, &e);
    assert_true((fault == REQUEST_OK) == (e.text[0] == 0));
    return fault;
}

static void json_requests(void **state)
{
    (void)state;
    struct request q;
    assert_int_equal(json("{\"subscribe\":{}}", &q), REQUEST_OK);
    assert_int_equal(q.kind, REQUEST_SUBSCRIBE);
    assert_int_equal(q.table_count, 0);
    assert_int_equal(q.ops, 0);
    assert_int_equal(q.from, FROM_NOW);
    assert_string_equal(q.id, "");
    request_fini(&q);
    assert_int_equal(json("{\"subscribe\":{\"id\":\"a\",\"tables\":[\"public.*\",\"shop.x\"],"
                          "\"ops\":[\"insert\",\"delete\"],\"from\":\"" CURSOR "\"}}",
                          &q),
                     REQUEST_OK);
    assert_string_equal(q.id, "a");
    assert_int_equal(q.table_count, 2);
    assert_string_equal(q.tables[1], "shop.x");
    assert_int_equal(q.ops, 1U << OP_INSERT | 1U << OP_DELETE);
    assert_int_equal(q.from, FROM_POSITION);
    assert_int_equal(q.cursor.at.lsn, 0x16B3748);
    assert_int_equal(q.cursor.at.ordinal, 3);
    request_fini(&q);
    assert_int_equal(json("{\"unsubscribe\":{\"id\":\"a\"}}", &q), REQUEST_OK);
    assert_int_equal(q.kind, REQUEST_UNSUBSCRIBE);
    assert_int_equal(json(" {\"ask\":{}} ", &q), REQUEST_OK);
    assert_int_equal(q.kind, REQUEST_ASK);
}

static void json_faults(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum request_fault fault;
    } cases[] = {
        {"", REQUEST_MALFORMED},
        {"{", REQUEST_MALFORMED},
        {"{\"ask\":{}}x", REQUEST_MALFORMED},
        {"{\"ask\":{},\"ask\":{}}", REQUEST_MALFORMED},
        {"{\"subscribe\":{\"id\":\"a\",\"id\":\"b\"}}", REQUEST_MALFORMED},
        {"{\"subscribe\":{\"id\":\"\xff\"}}", REQUEST_MALFORMED},
        {"[]", REQUEST_BAD},
        {"{}", REQUEST_BAD},
        {"{\"ask\":{},\"unsubscribe\":{}}", REQUEST_BAD},
        {"{\"ask\":{\"id\":\"a\"}}", REQUEST_BAD},
        {"{\"ask\":1}", REQUEST_BAD},
        {"{\"listen\":{}}", REQUEST_BAD},
        {"{\"subscribe\":{\"table\":[\"a\"]}}", REQUEST_BAD},
        {"{\"subscribe\":{\"tables\":\"a\"}}", REQUEST_BAD},
        {"{\"subscribe\":{\"tables\":[1]}}", REQUEST_BAD},
        {"{\"subscribe\":{\"tables\":[\"\"]}}", REQUEST_BAD},
        {"{\"subscribe\":{\"ops\":[\"upsert\"]}}", REQUEST_BAD},
        {"{\"subscribe\":{\"ops\":[\"none\"]}}", REQUEST_BAD},
        {"{\"subscribe\":{\"from\":3}}", REQUEST_BAD},
        {"{\"unsubscribe\":{\"from\":\"now\"}}", REQUEST_BAD},
        {"{\"subscribe\":{\"from\":\"yesterday\"}}", REQUEST_CURSOR},
        {"{\"subscribe\":{\"from\":\"" CURSOR "x\"}}", REQUEST_CURSOR},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct request q;
        assert_int_equal(json(cases[i].text, &q), cases[i].fault);
    }
}

// An answer says what it is about, wherever the fault stands.
static void a_fault_leaves_the_id(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "{\"subscribe\":{\"from\":\"zzz\",\"id\":\"a\"}}",
        "{\"subscribe\":{\"tables\":[\"t\",\"\"],\"id\":\"a\"}}",
        "{\"subscribe\":{\"tabels\":[],\"id\":\"a\"}}",
        "{\"unsubscribe\":{\"from\":\"now\",\"id\":\"a\"}}",
    };
    struct request q;
    struct err e;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_not_equal(json(cases[i], &q), REQUEST_OK);
        assert_string_equal(q.id, "a");
        assert_int_equal(q.table_count, 0);
    }
    assert_int_equal(json("{\"subscribe\":{\"id\":7}}", &q), REQUEST_BAD);
    assert_string_equal(q.id, "");
    assert_int_equal(json("{\"ask\":{\"id\":\"a\"}}", &q), REQUEST_BAD);
    assert_string_equal(q.id, "");
    static const uint8_t from_x[] = {0x0a, 6, 0x0a, 1, 'a', 0x22, 1, 'x'};
    assert_int_equal(request_proto((struct slice){from_x, sizeof from_x}, &q, &e), REQUEST_CURSOR);
    assert_string_equal(q.id, "a");
    assert_int_equal(request_proto((struct slice){from_x, 3}, &q, &e), REQUEST_MALFORMED);
    assert_string_equal(q.id, "");
}

static void limits(void **state)
{
    (void)state;
    struct request q;
    struct err e;
    char id[128] = "";
    memset(id, 'x', REQUEST_ID_MAX + 1);
    AUTO_BUF struct buf text = {0};
    buf_printf(&text, "{\"unsubscribe\":{\"id\":\"%s\"}}", id);
    assert_int_equal(json(buf_cstr(&text), &q), REQUEST_BAD);
    buf_clear(&text);
    buf_puts(&text, "{\"subscribe\":{\"tables\":[\"a\"");
    for (int i = 0; i < REQUEST_TABLES_MAX; i++)
        buf_puts(&text, ",\"a\"");
    buf_puts(&text, "]}}");
    assert_int_equal(request_json(buf_slice(&text), &q, &e), REQUEST_BAD);
}

static void proto_requests(void **state)
{
    (void)state;
    static const uint8_t subscribe[] = {0x0a, 18,  0x0a, 1,   'a', 0x12, 8,         'p',  'u', 'b',
                                        'l',  'i', 'c',  '.', '*', 0x18, OP_UPDATE, 0x22, 1,   'x'};
    struct request q;
    struct err e;
    // from "x" is no cursor; without it the rest is a subscription.
    assert_int_equal(request_proto((struct slice){subscribe, sizeof subscribe}, &q, &e),
                     REQUEST_CURSOR);
    uint8_t shorter[sizeof subscribe];
    memcpy(shorter, subscribe, sizeof subscribe);
    shorter[1] = 15;
    assert_int_equal(request_proto((struct slice){shorter, 17}, &q, &e), REQUEST_OK);
    assert_string_equal(q.id, "a");
    assert_int_equal(q.table_count, 1);
    assert_string_equal(q.tables[0], "public.*");
    assert_int_equal(q.ops, 1U << OP_UPDATE);
    request_fini(&q);
    assert_int_equal(request_proto((struct slice){shorter, 16}, &q, &e), REQUEST_MALFORMED);
    assert_int_equal(request_proto((struct slice){shorter, 0}, &q, &e), REQUEST_BAD);
    static const uint8_t ask[] = {0x1a, 0};
    assert_int_equal(request_proto((struct slice){ask, sizeof ask}, &q, &e), REQUEST_OK);
    assert_int_equal(q.kind, REQUEST_ASK);
    static const uint8_t unknown[] = {0x1a, 0, 0x78, 1};
    assert_int_equal(request_proto((struct slice){unknown, sizeof unknown}, &q, &e), REQUEST_BAD);
}

static void arguments(void **state)
{
    (void)state;
    struct request q;
    struct err e;
    request_init(&q);
    assert_int_equal(request_argument(&q, "table=public.\"Odd Name\"", &e), REQUEST_OK);
    assert_int_equal(request_argument(&q, "op=truncate", &e), REQUEST_OK);
    assert_int_equal(request_argument(&q, "from=earliest", &e), REQUEST_OK);
    assert_string_equal(q.tables[0], "public.\"Odd Name\"");
    assert_int_equal(q.ops, 1U << OP_TRUNCATE);
    assert_int_equal(q.from, FROM_EARLIEST);
    assert_int_equal(request_argument(&q, "tables=a", &e), REQUEST_BAD);
    assert_int_equal(request_argument(&q, "table", &e), REQUEST_BAD);
    assert_int_equal(request_argument(&q, "from=", &e), REQUEST_CURSOR);
    request_fini(&q);
}

static void hosts(void **state)
{
    (void)state;
    char *names[] = {(char *)"db.example", (char *)"other.example:8080"};
    struct guard g = {.hosts = names, .host_count = 2};
    static const char *const good[] = {"localhost",      "localhost:7654", "LOCALHOST:1",
                                       "127.0.0.1:7654", "[::1]:7654",     "10.1.2.3:7654",
                                       "db.example",     "DB.example:443", "other.example:8080"};
    static const char *const bad[] = {"",
                                      "evil.example",
                                      "localhost.evil.example",
                                      "evil.example:7654",
                                      "10.1.2.4:7654",
                                      "localhost:1,evil.example",
                                      "localhost, evil.example",
                                      "localhost:x",
                                      "[::1",
                                      "[::1]x",
                                      "localhost@evil.example",
                                      "other.example"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(guard_host(&g, good[i], "10.1.2.3"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(guard_host(&g, bad[i], "10.1.2.3"));
    assert_false(guard_host(&g, NULL, "10.1.2.3"));
}

static void origins(void **state)
{
    (void)state;
    char *names[] = {(char *)"https://app.example"}, *all[] = {(char *)"*"};
    struct guard g = {.origins = names, .origin_count = 1}, open = {.origins = all, 1};
    assert_true(guard_origin(&g, NULL, "localhost:7654"));
    assert_true(guard_origin(&g, "http://localhost:7654", "localhost:7654"));
    assert_true(guard_origin(&g, "https://app.example", "localhost:7654"));
    assert_true(guard_origin(&g, "http://db.example", "db.example:80"));
    assert_true(guard_origin(&g, "https://db.example:443", "db.example"));
    assert_false(guard_origin(&g, "http://localhost:7655", "localhost:7654"));
    assert_false(guard_origin(&g, "http://localhost", "localhost:7654"));
    assert_false(guard_origin(&g, "https://db.example", "db.example:80"));
    assert_false(guard_origin(&g, "http://evil.example", "localhost:7654"));
    assert_false(guard_origin(&g, "https://app.example.evil.example", "localhost:7654"));
    assert_false(guard_origin(&g, "null", "localhost:7654"));
    assert_false(guard_origin(&g, "", "localhost:7654"));
    assert_true(guard_origin(&open, "null", "localhost:7654"));
}

static struct relation *table(uint32_t id, const char *schema, const char *name)
{
    struct relation *r = xcalloc(1, sizeof *r);
    r->id = id;
    r->schema = xstrdup(schema);
    r->name = xstrdup(name);
    r->replica_identity = 'd';
    relation_seal(r);
    return r;
}

static struct selection *select_by(struct selection **list, const char *text)
{
    struct request q;
    assert_int_equal(json(text, &q), REQUEST_OK);
    struct selection *sel = selection_get(list, &q, true);
    request_fini(&q);
    return sel;
}

static void selections(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    catalog_add(c, table(1, "public", "orders"));
    catalog_add(c, table(2, "shop", "items"));
    struct selection *list = NULL;
    struct selection *all = select_by(&list, "{\"subscribe\":{}}");
    struct selection *star = select_by(&list, "{\"subscribe\":{\"tables\":[\"*\"]}}");
    struct selection *some =
        select_by(&list, "{\"subscribe\":{\"tables\":[\"orders\"],\"ops\":[\"insert\"]}}");
    struct selection *again =
        select_by(&list, "{\"subscribe\":{\"tables\":[\"orders\"],\"ops\":[\"insert\"]}}");
    struct selection *messages =
        select_by(&list, "{\"subscribe\":{\"tables\":[\"shop.*\"],\"ops\":[\"message\"]}}");
    assert_true(all->everything && star->everything && !some->everything);
    assert_ptr_equal(some, again);
    assert_true(selection_wants(all, c, 0, OP_MESSAGE));
    assert_true(selection_wants(some, c, 1, OP_INSERT));
    assert_false(selection_wants(some, c, 1, OP_UPDATE));
    assert_false(selection_wants(some, c, 2, OP_INSERT));
    assert_false(selection_wants(some, c, 0, OP_MESSAGE));
    assert_true(selection_wants(messages, c, 0, OP_MESSAGE));
    // A version that comes later is looked at when it comes.
    catalog_add(c, table(3, "public", "orders"));
    assert_true(selection_wants(some, c, 3, OP_INSERT));
    selection_put(&list, all);
    selection_put(&list, star);
    selection_put(&list, some);
    assert_true(selection_wants(again, c, 1, OP_INSERT));
    selection_put(&list, again);
    selection_put(&list, messages);
    assert_null(list);
    catalog_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_requests),
        cmocka_unit_test(json_faults),
        cmocka_unit_test(limits),
        cmocka_unit_test(proto_requests),
        cmocka_unit_test(arguments),
        cmocka_unit_test(hosts),
        cmocka_unit_test(origins),
        cmocka_unit_test(selections),
        cmocka_unit_test(a_fault_leaves_the_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
