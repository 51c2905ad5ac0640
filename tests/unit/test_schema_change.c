// What became of a table between two versions of it, as the entry and as JSON.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/registry.h"
#include "proto/schema_change.h"
#include "proto/wire.h"

struct fixture {
    struct catalog *catalog;
    struct batch *batch;
};

static int setup(void **state)
{
    struct fixture *x = xcalloc(1, sizeof *x);
    x->catalog = catalog_new();
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    batch_unref(x->batch);
    catalog_free(x->catalog);
    free(x);
    return 0;
}

struct shape {
    uint32_t oid;
    const char *name;
    char identity;
    const char *columns; // "id:1:int*": name, attnum, type, * for a key
};

// Of a type's name: what stands behind it.
static void take_type(struct seen_column *c, const char *type)
{
    bool text = strcmp(type, "text") == 0;
    c->type = c->base_type = text ? "text" : strcmp(type, "int") == 0 ? "integer" : "bigint";
    c->kind = text ? KIND_STRING : strcmp(type, "int") == 0 ? KIND_INT32 : KIND_INT64;
}

static const struct relation *add(struct fixture *x, const struct shape *s)
{
    struct seen_column columns[8];
    AUTO_FREE char *text = xstrdup(s->columns);
    uint16_t n = 0;
    char *rest = text;
    for (char *one; (one = strsep(&rest, " ")); n++) {
        columns[n] = (struct seen_column){.name = strsep(&one, ":"), .typmod = -1};
        columns[n].attnum = (int16_t)strtol(strsep(&one, ":"), NULL, 10);
        columns[n].key = one[strlen(one) - 1] == '*';
        one[strlen(one) - columns[n].key] = 0;
        take_type(&columns[n], one);
    }
    AUTO_BUF struct buf table = {0};
    table_quote(&table, "public", s->name);
    struct seen_relation seen = {s->oid, "public", s->name, s->identity, n, columns};
    uint32_t id = catalog_next_id(x->catalog);
    catalog_add(x->catalog,
                registry_number(catalog_latest(x->catalog, buf_cstr(&table)), &seen, id));
    return catalog_get(x->catalog, id);
}

// The entry between `before` and `after`, from which on one row stands.
static void make_batch(struct fixture *x, const struct relation *before,
                       const struct relation *after)
{
    AUTO_BUF struct buf body = {0};
    struct batch_builder *bb = batch_builder_new(4096);
    schema_change_encode(&body, before, after);
    batch_add_begin(bb, &(struct begin){.lsn = 0x100, .xid = 9});
    batch_skip_change(bb);
    batch_add_schema_change(bb, after->id, buf_slice(&body));
    batch_add_relation(bb, after);
    batch_add_change(bb, &(struct change){.op = OP_DELETE, .relation = after->id});
    batch_add_end(bb, 0x110);
    batch_unref(x->batch);
    x->batch = batch_builder_take(bb, false);
    batch_builder_free(bb);
}

// Without the parts that every schema change has: what it says of a table that has columns.
static void says(struct fixture *x, const struct shape *before, const struct shape *after,
                 const char *want)
{
    AUTO_BUF struct buf out = {0};
    struct err e;
    const struct relation *a = before ? add(x, before) : NULL, *b = add(x, after);
    if (!want) {
        assert_int_equal(schema_change_step(a, b), SCHEMA_NONE);
        return;
    }
    make_batch(x, a, b);
    struct json_context context = {.catalog = x->catalog};
    json_context_begin(&context, x->batch, &x->batch->entries[0]);
    assert_int_equal(json_schema_change(&out, &context, x->batch, &x->batch->entries[1], &e), 0);
    char *text = buf_cstr(&out), *columns = strstr(text, ",\"columns\":[{\"name\":");
    assert_non_null(columns);
    assert_non_null(strstr(columns, "],\"lsn\":\"0/100\",\"xid\":9}"));
    *columns = 0;
    const char *start = "{\"type\":\"schema_change\",";
    assert_memory_equal(text, start, strlen(start));
    assert_string_equal(text + strlen(start), want);
}

#define C(name, number, type, more)                                                                \
    "{\"name\":\"" name "\",\"number\":" number ",\"type\":\"" type "\",\"base_type\":\"" type     \
    "\"" more "}"

static const struct shape plain = {10, "t", 'd', "id:1:int* a:2:text b:3:int"};

static void a_new_table(void **state)
{
    says(*state, NULL, &plain,
         "\"change\":\"created\",\"table\":\"public.t\",\"replica_identity\":\"default\","
         "\"key\":[\"id\"],\"added\":[" C("id", "1", "integer", ",\"key\":true") "," C(
             "a", "2", "text", "") "," C("b", "3", "integer", "") "]");
}

static void nothing_that_concerns_anybody(void **state)
{
    // That an attnum is known now is no news.
    says(*state, &(struct shape){10, "t", 'd', "id:1:int* a:0:text"},
         &(struct shape){10, "t", 'd', "id:1:int* a:2:text"}, NULL);
}

static void columns_come_go_and_change(void **state)
{
    says(*state, &plain, &(struct shape){10, "t", 'd', "id:1:int* b:3:bigint c:4:text"},
         "\"change\":\"altered\",\"table\":\"public.t\",\"replica_identity\":\"default\","
         "\"key\":[\"id\"],\"added\":[" C("c", "4", "text", "") "],\"dropped\":[" C(
             "a", "2", "text",
             "") "],\"changed\":[{\"before\":" C("b", "3", "integer",
                                                 "") ",\"after\":" C("b", "3", "bigint", "") "}]");
}

static void a_type_of_another_group_has_another_number(void **state)
{
    says(*state, &plain, &(struct shape){10, "t", 'd', "id:1:int* a:2:text b:3:text"},
         "\"change\":\"altered\",\"table\":\"public.t\",\"replica_identity\":\"default\","
         "\"key\":[\"id\"],\"changed\":[{\"before\":" C("b", "3", "integer", "") ",\"after\":" C(
             "b", "2001", "text", "") "}]");
}

static void a_renamed_column_that_another_follows(void **state)
{
    // a became x, and a new a was made: by attnum, not by name.
    says(*state, &plain, &(struct shape){10, "t", 'd', "id:1:int* x:2:text b:3:int a:4:text"},
         "\"change\":\"altered\",\"table\":\"public.t\",\"replica_identity\":\"default\","
         "\"key\":[\"id\"],\"added\":[" C("a", "2", "text", "") "],\"changed\":[{\"before\":" C(
             "a", "2", "text", "") ",\"after\":" C("x", "2001", "text", "") "}]");
}

static void keys_identities_and_names(void **state)
{
    static const char want[] =
        "\"change\":\"altered\",\"table\":\"public.u\",\"table_before\":\"public.t\","
        "\"replica_identity\":\"index\",\"replica_identity_before\":\"default\","
        "\"key\":[\"a\"],\"key_before\":[\"id\"],\"changed\":["
        "{\"before\":" C("id", "1", "integer",
                         ",\"key\":true") ","
                                          "\"after\":" C("id", "1", "integer",
                                                         "") "},"
                                                             "{\"before\":" C(
                                                                 "a", "2", "text",
                                                                 "") ","
                                                                     "\"after\":" C(
                                                                         "a", "2", "text",
                                                                         ",\"key\":true") "}]";
    says(*state, &plain, &(struct shape){10, "u", 'i', "id:1:int a:2:text* b:3:int"}, want);
}

static void a_table_that_was_made_again(void **state)
{
    // Its columns are others, whatever their attnums; by name they go on.
    says(*state, &plain, &(struct shape){20, "t", 'd', "id:1:int* b:2:int"},
         "\"change\":\"recreated\",\"table\":\"public.t\",\"replica_identity\":\"default\","
         "\"key\":[\"id\"],\"dropped\":[" C("a", "2", "text", "") "]");
}

// As a consumer of the protobuf form reads it.
static void the_entry(void **state)
{
    struct fixture *x = *state;
    const struct relation *a = add(x, &plain),
                          *b = add(x, &(struct shape){10, "u", 'f', "id:1:int a:2:text"});
    make_batch(x, a, b);
    const struct entry *e = &x->batch->entries[1];
    struct begin begin = batch_begin(x->batch, &x->batch->entries[0]);
    struct position at = batch_entry_position(x->batch, e, &begin);
    assert_int_equal(at.ordinal, 1); // its change's
    assert_int_equal(e->relation, 2);
    struct slice body = entry_body(x->batch, e);
    struct reader in = reader_of(body.p, body.n);
    struct wire_field f;
    size_t columns = 0;
    while (wire_next(&in, &f)) {
        if (f.number == 3)
            assert_int_equal(f.v, SCHEMA_ALTERED);
        else if (f.number == 5)
            assert_memory_equal(f.bytes.p, "public.t", f.bytes.n);
        else if (f.number == 6)
            assert_memory_equal(f.bytes.p, "default", f.bytes.n);
        else if (f.number == 7)
            assert_memory_equal(f.bytes.p, "id", f.bytes.n);
        else if (f.number == 9)
            columns++;
        else if (f.number == 10)
            assert_memory_equal(f.bytes.p, b->encoded.p, f.bytes.n);
    }
    assert_false(in.failed);
    assert_int_equal(columns, 2); // id is no key any more, b is gone
}

// Of a frame whose filter took the change: it is had with the end, or with all of the frame.
static void its_change_may_be_missing(void **state)
{
    struct fixture *x = *state;
    make_batch(x, NULL, add(x, &plain));
    for (int end = 0; end < 2; end++) {
        const struct entry *change = &x->batch->entries[3], *last = &x->batch->entries[4];
        size_t n = change->off, tail = end ? x->batch->n - last->off : 0;
        uint8_t *data = xmalloc(BATCH_HEADROOM + n + tail);
        memcpy(data + BATCH_HEADROOM, x->batch->data, n);
        memcpy(data + BATCH_HEADROOM + n, x->batch->data + last->off, tail);
        struct batch *b = NULL;
        struct err e;
        assert_int_equal(batch_parse(data, n + tail, &b, &e), 0);
        struct begin begin = batch_begin(b, &b->entries[0]);
        assert_int_equal(batch_entry_position(b, &b->entries[1], &begin).ordinal, ORDINAL_END);
        batch_unref(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_table, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_that_concerns_anybody, setup, teardown),
        cmocka_unit_test_setup_teardown(columns_come_go_and_change, setup, teardown),
        cmocka_unit_test_setup_teardown(a_type_of_another_group_has_another_number, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_renamed_column_that_another_follows, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_identities_and_names, setup, teardown),
        cmocka_unit_test_setup_teardown(a_table_that_was_made_again, setup, teardown),
        cmocka_unit_test_setup_teardown(the_entry, setup, teardown),
        cmocka_unit_test_setup_teardown(its_change_may_be_missing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
