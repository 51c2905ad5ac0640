// The Kafka sink's pure parts: names of topics, batches in flight, positions, records of a change.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/wire.h"
#include "sinks/kafka/flight.h"
#include "sinks/kafka/position.h"
#include "sinks/kafka/record.h"
#include "sinks/kafka/topic.h"

// ---- topics ----

static void assert_topic(const char *prefix, const char *schema, const char *name, const char *want)
{
    struct buf out = {0};
    struct err e;
    assert_int_equal(topic_name(&out, prefix, schema, name, &e), 0);
    assert_string_equal(buf_cstr(&out), want);
    buf_free(&out);
}

static void topics_are_named(void **state)
{
    (void)state;
    assert_topic("shop", "public", "orders", "shop.public.orders");
    assert_topic("", "public", "orders", "public.orders");
    assert_topic(NULL, "public", "orders", "public.orders");
    assert_topic("a", "Odd Schema", "n\xc3\xa4me$", "a.Odd_Schema.n__me_");
    assert_topic("a", "b-c", "d_e.f", "a.b-c.d_e.f");
}

static void long_topics_are_refused(void **state)
{
    (void)state;
    char name[TOPIC_NAME_MAX + 1];
    memset(name, 'x', sizeof name);
    name[TOPIC_NAME_MAX - 4] = 0; // "p.s." and the rest: just fits
    struct buf out = {0};
    struct err e;
    assert_int_equal(topic_name(&out, "p", "s", name, &e), 0);
    assert_int_equal(out.n, TOPIC_NAME_MAX);
    assert_int_equal(topic_name(&out, "pp", "s", name, &e), -1);
    assert_int_equal(out.n, TOPIC_NAME_MAX);
    assert_non_null(strstr(e.text, "249"));
    buf_free(&out);
}

static void collisions_are_refused(void **state)
{
    (void)state;
    struct topic_names *n = topic_names_new();
    struct err e;
    assert_int_equal(topic_names_claim(n, "p.a.b_c", "a.b_c", &e), 0);
    assert_int_equal(topic_names_claim(n, "p.a.b_c", "a.b_c", &e), 0);
    assert_int_equal(topic_names_claim(n, "p.a.b_c", "a.\"b$c\"", &e), -1);
    assert_non_null(strstr(e.text, "a.b_c"));
    // Kafka does not tell . and _ apart
    assert_int_equal(topic_names_claim(n, "p.a_b.c", "a_b.c", &e), -1);
    assert_int_equal(topic_names_claim(n, "p.a.d", "a.d", &e), 0);
    topic_names_free(n);
}

// ---- flights ----

static struct batch *batch_at(lsn_t lsn)
{
    struct batch_builder *bb = batch_builder_new(4096);
    batch_add_begin(bb, &(struct begin){.lsn = lsn, .xid = 1, .commit_time_us = (int64_t)lsn});
    batch_add_change(bb, &(struct change){.op = OP_INSERT, .relation = 1, .after = slice_of("x")});
    batch_add_end(bb, lsn + 8);
    struct batch *b = batch_builder_take(bb, false);
    batch_builder_free(bb);
    return b;
}

static void count_done(void *arg, const struct batch *b)
{
    assert_non_null(b);
    (*(int *)arg)++;
}

static struct flight *fly(struct flights *f, lsn_t lsn, int records)
{
    struct flight *x = flights_open(f, batch_at(lsn));
    for (int i = 0; i < records; i++)
        flight_sent(f, x);
    flights_close(f);
    return x;
}

static void the_position_moves_in_order(void **state)
{
    (void)state;
    struct flights f = {0};
    int done = 0;
    struct flight *a = fly(&f, 100, 2), *b = fly(&f, 200, 1);
    fly(&f, 300, 0);
    flight_report(&f, b, true);
    assert_false(flights_advance(&f, count_done, &done));
    flight_report(&f, a, true);
    assert_false(flights_advance(&f, count_done, &done));
    assert_int_equal(f.out, 1);
    flight_report(&f, a, true);
    assert_true(flights_advance(&f, count_done, &done));
    assert_int_equal(done, 3);
    assert_int_equal(f.done.at.lsn, 300);
    assert_int_equal(f.done.at.ordinal, ORDINAL_END);
    assert_int_equal(f.done.watermark, 308);
    assert_int_equal(f.count, 0);
    assert_int_equal(f.memory, 0);
    flights_free(&f);
}

static void a_lost_record_stops_the_position(void **state)
{
    (void)state;
    struct flights f = {0};
    int done = 0;
    struct flight *a = fly(&f, 100, 1), *b = fly(&f, 200, 2), *c = fly(&f, 300, 1);
    flight_report(&f, a, true);
    flight_report(&f, b, false);
    flight_report(&f, b, true);
    flight_report(&f, c, true);
    assert_true(flights_advance(&f, count_done, &done));
    assert_int_equal(f.done.at.lsn, 100);
    assert_false(flights_advance(&f, count_done, &done));
    flights_abandon(&f);
    assert_int_equal(f.done.at.lsn, 100);
    flights_free(&f);
}

static void an_open_batch_holds_the_position(void **state)
{
    (void)state;
    struct flights f = {0};
    int done = 0;
    for (lsn_t lsn = 100; lsn <= 4000; lsn += 100) // the ring grows and wraps
        flight_report(&f, fly(&f, lsn, 1), true);
    struct flight *x = flights_open(&f, batch_at(5000));
    flight_sent(&f, x);
    flight_report(&f, x, true);
    assert_true(flights_advance(&f, count_done, &done));
    assert_int_equal(f.done.at.lsn, 4000);
    flights_close(&f);
    assert_true(flights_advance(&f, count_done, &done));
    assert_int_equal(f.done.at.lsn, 5000);
    flights_free(&f);
}

// ---- positions ----

static void positions_round_trip(void **state)
{
    (void)state;
    struct kafka_position p = {.cursor = {.stream_id = 0xfedcba9876543210,
                                          .timeline = 3,
                                          .at = {0x16B3748, ORDINAL_END},
                                          .attempt = 2},
                               .watermark = UINT64_C(0xF00000001),
                               .system_id = UINT64_MAX,
                               .database_oid = UINT32_MAX,
                               .generation = 7};
    struct kafka_position q;
    struct buf out = {0};
    struct err e;
    position_encode(&out, &p);
    assert_int_equal(position_decode(buf_slice(&out), &q, &e), 0);
    assert_true(p.system_id == q.system_id && p.watermark == q.watermark);
    struct buf again = {0};
    position_encode(&again, &q);
    assert_int_equal(again.n, out.n);
    assert_memory_equal(again.p, out.p, out.n);
    buf_free(&again);
    for (size_t n = 0; n < out.n; n++) // no part of it is a position
        assert_int_equal(position_decode((struct slice){out.p, n}, &q, &e), -1);
    buf_free(&out);
}

// ---- records ----

static struct relation *relation_of(struct catalog *catalog, bool with_key)
{
    // the key's numbers do not stand in the order of its columns
    static const struct {
        const char *name, *type;
        uint32_t number;
        enum kind kind;
        bool key;
    } columns[] = {{"note", "text", 1, KIND_STRING, false},
                   {"b", "text", 3, KIND_STRING, true},
                   {"a", "bigint", 2, KIND_INT64, true}};
    struct relation *r = xcalloc(1, sizeof *r);
    r->id = catalog_next_id(catalog);
    r->schema = xstrdup("public");
    r->name = xstrdup("orders");
    r->replica_identity = 'd';
    r->column_count = ARRAY_LEN(columns);
    r->columns = xcalloc(ARRAY_LEN(columns), sizeof *r->columns);
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        r->columns[i] = (struct column){.name = xstrdup(columns[i].name),
                                        .type = xstrdup(columns[i].type),
                                        .base_type = xstrdup(columns[i].type),
                                        .number = columns[i].number,
                                        .kind = columns[i].kind,
                                        .key = columns[i].key && with_key};
    relation_seal(r);
    catalog_add(catalog, r);
    return r;
}

struct fixture {
    struct catalog *catalog;
    struct relation *relation;
    struct key_columns key;
    struct encoder encoder;
    struct batch *batch;
    struct buf key_row, new_key_row, row;
    struct record records[RECORDS_MAX];
    struct err e;
};

static void put_row(struct buf *out, const char *note, int64_t a, const char *b)
{
    buf_clear(out);
    if (note)
        wire_string(out, 1, note);
    wire_uint(out, 2, (uint64_t)a);
    if (b)
        wire_string(out, 3, b);
}

static void fixture_open(struct fixture *x, const struct format *format, bool with_key)
{
    *x = (struct fixture){.catalog = catalog_new()};
    x->relation = relation_of(x->catalog, with_key);
    key_columns_init(&x->key, x->relation);
    encoder_init(&x->encoder, format, true, x->catalog);
    put_row(&x->key_row, NULL, 7, "old");
    put_row(&x->new_key_row, NULL, 7, "new");
}

// The records of one change, how many.
static int records_of(struct fixture *x, const struct change *c)
{
    struct batch_builder *bb = batch_builder_new(4096);
    batch_add_begin(bb, &(struct begin){.lsn = 0x16B3748, .xid = 734, .origin = slice_of("far")});
    batch_skip_change(bb);
    batch_add_change(bb, c);
    batch_add_end(bb, 0x16B3750);
    batch_unref(x->batch);
    x->batch = batch_builder_take(bb, false);
    batch_builder_free(bb);
    encoder_identify(&x->encoder, 0xabc, 1);
    encoder_begin(&x->encoder, x->batch, &x->batch->entries[0]);
    return encoder_change(&x->encoder, x->batch, &x->batch->entries[1], x->relation, &x->key,
                          x->records, &x->e);
}

static void fixture_close(struct fixture *x)
{
    batch_unref(x->batch);
    encoder_free(&x->encoder);
    key_columns_free(&x->key);
    catalog_free(x->catalog);
    buf_free(&x->key_row);
    buf_free(&x->new_key_row);
    buf_free(&x->row);
}

static void assert_slice(struct slice a, struct slice b)
{
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.p, b.p, a.n);
}

static struct slice header(const struct record *r, const char *name)
{
    for (size_t i = 0; i < r->header_count; i++) {
        if (strcmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    }
    return (struct slice){NULL, 0};
}

static void assert_header(const struct record *r, const char *name, const char *want)
{
    struct slice v = header(r, name);
    assert_non_null(v.p);
    assert_slice(v, slice_of(want));
}

static void an_insert_is_one_record(void **state)
{
    (void)state;
    struct fixture x;
    fixture_open(&x, &format_protobuf, true);
    put_row(&x.row, "hello", 7, "old");
    struct change c = {.op = OP_INSERT, .relation = 1, .after = buf_slice(&x.row)};
    for (int with_key = 0; with_key < 2; with_key++) {
        if (with_key)
            c.key = buf_slice(&x.key_row);
        assert_int_equal(records_of(&x, &c), 1);
        const struct record *r = &x.records[0];
        assert_slice(r->key, buf_slice(&x.key_row));
        assert_true(r->borrowed);
        assert_ptr_equal(r->value.p, x.batch->data + x.batch->entries[1].body);
        assert_header(r, "op", "insert");
        assert_header(r, "cursor", "0000000000000abc.1.16b3748.1");
        assert_header(r, "xid", "734");
        assert_header(r, "origin", "far");
    }
    fixture_close(&x);
}

static void an_update_keeps_its_key(void **state)
{
    (void)state;
    struct fixture x;
    fixture_open(&x, &format_protobuf, true);
    put_row(&x.row, "hello", 7, "old");
    struct change c = {.op = OP_UPDATE, .relation = 1, .after = buf_slice(&x.row)};
    assert_int_equal(records_of(&x, &c), 1);
    assert_slice(x.records[0].key, buf_slice(&x.key_row));
    c.key = buf_slice(&x.key_row);
    assert_int_equal(records_of(&x, &c), 1);
    assert_slice(x.records[0].key, buf_slice(&x.key_row));
    // a part of the key is large and did not change
    put_row(&x.row, "hello", 7, NULL);
    c.after = buf_slice(&x.row);
    c.unchanged = slice_of("\3");
    assert_int_equal(records_of(&x, &c), 1);
    assert_slice(x.records[0].key, buf_slice(&x.key_row));
    fixture_close(&x);
}

static void a_key_change_is_split(void **state)
{
    (void)state;
    struct fixture x;
    fixture_open(&x, &format_protobuf, true);
    put_row(&x.row, "hello", 7, "new");
    struct change c = {.op = OP_UPDATE,
                       .relation = 1,
                       .key = buf_slice(&x.key_row),
                       .before = slice_of(""),
                       .after = buf_slice(&x.row)};
    assert_int_equal(records_of(&x, &c), 3);
    const struct record *gone = &x.records[0], *tomb = &x.records[1], *come = &x.records[2];
    struct change d;
    assert_slice(gone->key, buf_slice(&x.key_row));
    assert_header(gone, "op", "delete");
    assert_slice(header(gone, "new_key"), buf_slice(&x.new_key_row));
    assert_int_equal(change_decode(gone->value, &d), 0);
    assert_int_equal(d.op, OP_DELETE);
    assert_int_equal(d.ordinal, 1);
    assert_slice(d.key, buf_slice(&x.key_row));
    assert_null(d.after.p);
    assert_false(d.last);

    assert_slice(tomb->key, buf_slice(&x.key_row));
    assert_null(tomb->value.p);
    assert_header(tomb, "part", "1");

    assert_slice(come->key, buf_slice(&x.new_key_row));
    assert_header(come, "op", "insert");
    assert_header(come, "part", "2");
    assert_slice(header(come, "old_key"), buf_slice(&x.key_row));
    assert_int_equal(change_decode(come->value, &d), 0);
    assert_int_equal(d.op, OP_INSERT);
    assert_slice(d.key, buf_slice(&x.new_key_row));
    assert_slice(d.after, buf_slice(&x.row));
    assert_null(d.before.p);
    assert_true(d.last);
    for (int i = 0; i < 3; i++)
        assert_header(&x.records[i], "cursor", "0000000000000abc.1.16b3748.1");
    fixture_close(&x);
}

static void a_key_change_is_split_in_json(void **state)
{
    (void)state;
    struct fixture x;
    fixture_open(&x, &format_json, true);
    put_row(&x.row, "hello", 7, "new");
    struct change c = {
        .op = OP_UPDATE, .relation = 1, .key = buf_slice(&x.key_row), .after = buf_slice(&x.row)};
    assert_int_equal(records_of(&x, &c), 3);
    assert_slice(x.records[0].key, slice_of("{\"b\":\"old\",\"a\":\"7\"}"));
    assert_slice(x.records[2].key, slice_of("{\"b\":\"new\",\"a\":\"7\"}"));
    struct slice value = x.records[0].value;
    assert_non_null(memmem(value.p, value.n, "\"op\":\"delete\"", 13));
    assert_null(memmem(value.p, value.n, "\"row\"", 5));
    value = x.records[2].value;
    assert_non_null(memmem(value.p, value.n, "\"op\":\"insert\"", 13));
    assert_non_null(memmem(value.p, value.n, "\"seq\":1", 7));
    fixture_close(&x);
}

static void a_delete_has_a_tombstone(void **state)
{
    (void)state;
    struct fixture x;
    fixture_open(&x, &format_protobuf, true);
    struct change c = {.op = OP_DELETE, .relation = 1, .key = buf_slice(&x.key_row)};
    assert_int_equal(records_of(&x, &c), 2);
    assert_slice(x.records[0].key, x.records[1].key);
    assert_non_null(x.records[0].value.p);
    assert_null(x.records[1].value.p);
    x.encoder.tombstones = false;
    assert_int_equal(records_of(&x, &c), 1);
    fixture_close(&x);
}

static void without_identity_keys_are_null(void **state)
{
    (void)state;
    struct fixture x;
    fixture_open(&x, &format_protobuf, false);
    put_row(&x.row, "hello", 7, "old");
    struct change c = {.op = OP_DELETE, .relation = 1, .before = buf_slice(&x.row)};
    assert_int_equal(records_of(&x, &c), 1);
    assert_null(x.records[0].key.p);
    c = (struct change){.op = OP_TRUNCATE, .relation = 1, .truncate = slice_of("")};
    assert_int_equal(records_of(&x, &c), 1);
    assert_null(x.records[0].key.p);
    fixture_close(&x);
}

static void a_truncate_has_an_empty_key(void **state)
{
    (void)state;
    struct fixture x;
    struct change c = {.op = OP_TRUNCATE, .relation = 1, .truncate = slice_of("")};
    fixture_open(&x, &format_protobuf, true);
    assert_int_equal(records_of(&x, &c), 1);
    assert_non_null(x.records[0].key.p);
    assert_int_equal(x.records[0].key.n, 0);
    fixture_close(&x);
    fixture_open(&x, &format_json, true);
    assert_int_equal(records_of(&x, &c), 1);
    assert_slice(x.records[0].key, slice_of("{}"));
    fixture_close(&x);
}

static void put_exact(struct buf *out, uint32_t field, const char *text)
{
    struct buf m = {0};
    buf_clear(out);
    wire_uint(&m, 1, 3);
    wire_string(&m, 2, text);
    wire_bytes(out, field, m.p, m.n);
    buf_free(&m);
}

// Keys that their type cannot hold still differ, and their changes are seen.
static void exact_keys_differ(void **state)
{
    (void)state;
    struct fixture x;
    struct buf old = {0}, new = {0};
    fixture_open(&x, &format_protobuf, true);
    put_row(&x.key_row, NULL, 7, NULL);
    put_row(&x.row, "hello", 7, NULL);
    put_exact(&old, 10, "infinity");
    put_exact(&new, 8, "infinity");
    struct change c = {.op = OP_UPDATE,
                       .relation = 1,
                       .key = buf_slice(&x.key_row),
                       .after = buf_slice(&x.row),
                       .exact_key = buf_slice(&old),
                       .exact = buf_slice(&new)};
    assert_int_equal(records_of(&x, &c), 1);
    assert_true(x.records[0].key.n > x.key_row.n);
    put_exact(&new, 8, "-infinity");
    c.exact = buf_slice(&new);
    assert_int_equal(records_of(&x, &c), 3);
    assert_int_equal(x.records[0].key.n + 1, x.records[2].key.n);
    buf_free(&old);
    buf_free(&new);
    fixture_close(&x);
}

static void a_message_is_keyed_by_its_prefix(void **state)
{
    (void)state;
    struct fixture x;
    fixture_open(&x, &format_json, true);
    struct buf m = {0};
    wire_string(&m, 1, "audit");
    struct change c = {.op = OP_MESSAGE, .message = buf_slice(&m)};
    assert_int_equal(records_of(&x, &c), 1);
    assert_slice(x.records[0].key, slice_of("{\"prefix\":\"audit\"}"));
    buf_free(&m);
    fixture_close(&x);
}

// Existing rows are records of their table, marks and gaps records of the topic of events.
static void what_a_snapshot_leaves(void **state)
{
    (void)state;
    static const struct format *const formats[] = {&format_protobuf, &format_json};
    static const char *const keys[] = {"\n\x0apublic.\"T\"", "{\"table\":\"public.\\\"T\\\"\"}"};
    static const char *const gap_keys[] = {"", "{}"};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        struct fixture x;
        fixture_open(&x, formats[i], true);
        put_row(&x.row, "hello", 7, "old");
        struct batch_builder *bb = batch_builder_new(4096);
        struct snapshot_mark mark = {.at = {0x500, ORDINAL_ASIDE},
                                     .step = SNAPSHOT_BEGIN,
                                     .table = slice_of("public.\"T\"")};
        batch_add_snapshot_mark(bb, &mark);
        batch_add_begin(bb,
                        &(struct begin){.lsn = 0x500, .read = true, .ordinal = ORDINAL_ASIDE + 1});
        batch_add_change(bb, &(struct change){.op = OP_READ,
                                              .relation = 1,
                                              .key = buf_slice(&x.key_row),
                                              .after = buf_slice(&x.row)});
        batch_add_end(bb, 0);
        batch_add_gap(bb, 0x600, 0x700, "lost");
        x.batch = batch_builder_take(bb, false);
        batch_builder_free(bb);
        const struct entry *entries = x.batch->entries;
        encoder_identify(&x.encoder, 0xabc, 1);

        assert_int_equal(encoder_event(&x.encoder, x.batch, &entries[0], x.records, &x.e), 1);
        assert_header(x.records, "type", "snapshot");
        assert_header(x.records, "cursor", "0000000000000abc.1.500.10000000000");
        assert_slice(x.records[0].key, slice_of(keys[i]));
        assert_true(x.records[0].value.n > 0);

        encoder_begin(&x.encoder, x.batch, &entries[1]);
        assert_int_equal(
            encoder_change(&x.encoder, x.batch, &entries[2], x.relation, &x.key, x.records, &x.e),
            1);
        assert_header(x.records, "op", "read");
        assert_header(x.records, "cursor", "0000000000000abc.1.500.10000000001");
        assert_null(header(x.records, "xid").p);

        assert_int_equal(encoder_event(&x.encoder, x.batch, &entries[4], x.records, &x.e), 1);
        assert_header(x.records, "type", "gap");
        assert_header(x.records, "cursor", "0000000000000abc.1.6ff.ffffffffff");
        assert_non_null(x.records[0].key.p); // null keys are refused by compacted topics
        assert_slice(x.records[0].key, slice_of(gap_keys[i]));
        fixture_close(&x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topics_are_named),
        cmocka_unit_test(long_topics_are_refused),
        cmocka_unit_test(collisions_are_refused),
        cmocka_unit_test(the_position_moves_in_order),
        cmocka_unit_test(a_lost_record_stops_the_position),
        cmocka_unit_test(an_open_batch_holds_the_position),
        cmocka_unit_test(positions_round_trip),
        cmocka_unit_test(an_insert_is_one_record),
        cmocka_unit_test(an_update_keeps_its_key),
        cmocka_unit_test(a_key_change_is_split),
        cmocka_unit_test(a_key_change_is_split_in_json),
        cmocka_unit_test(a_delete_has_a_tombstone),
        cmocka_unit_test(without_identity_keys_are_null),
        cmocka_unit_test(a_truncate_has_an_empty_key),
        cmocka_unit_test(exact_keys_differ),
        cmocka_unit_test(a_message_is_keyed_by_its_prefix),
        cmocka_unit_test(what_a_snapshot_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
