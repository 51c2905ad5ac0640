// The Kafka sink against librdkafka's mock brokers: faults that a real broker does not make on
// request. Whatever happens, nothing is missing, and each key's first records come in order.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "memory_journal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/wire.h"
#include "sinks/kafka/admin.h"

#include <librdkafka/rdkafka_mock.h>
#include <time.h>

#define DEADLINE_US 30000000
#define PARTITIONS  4 // the mock's topics have so many
#define API_PRODUCE 0
#define TABLE_TOPIC "p.public.t"

struct fixture {
    rd_kafka_t *handle;
    rd_kafka_mock_cluster_t *mock;
    struct journal *journal;
    struct batch_builder *builder;
    struct kafka_options options;
    struct sink *sink;
    int64_t rows; // appended
    lsn_t lsn;
};

// The mock knows nothing of the requests in sinks/kafka/admin.c: these stand in for it.
static _Atomic size_t bytes_max = 1000000;
static _Atomic int refusals; // of topics, still to come

int admin_describe(rd_kafka_t *rk, struct topic_facts *t, size_t n, int timeout_ms, struct err *e)
{
    (void)rk;
    (void)timeout_ms;
    (void)e;
    for (size_t i = 0; i < n; i++) {
        t[i].state = TOPIC_READY;
        t[i].bytes_max = bytes_max;
    }
    return 0;
}

int admin_create(rd_kafka_t *rk, const struct kafka_options *o, const char *name,
                 enum topic_use use, bool dry, int timeout_ms, struct err *e)
{
    (void)rk;
    (void)o;
    (void)name;
    (void)use;
    (void)dry;
    (void)timeout_ms;
    (void)e;
    return 0;
}

int admin_partitions(rd_kafka_t *rk, rd_kafka_topic_t *topic, int timeout_ms, int *ret_n,
                     struct err *e)
{
    (void)rk;
    (void)topic;
    (void)timeout_ms;
    (void)e;
    *ret_n = PARTITIONS;
    return 0;
}

int admin_prepare(rd_kafka_t *rk, const struct kafka_options *o, struct topic_facts *t, size_t n,
                  int timeout_ms, struct err *e)
{
    (void)o;
    if (t[0].use != TOPIC_POSITION && refusals > 0) {
        refusals--;
        return err_set(e, ERR_RETRY, "topic %s: not now", t[0].name);
    }
    return admin_describe(rk, t, n, timeout_ms, e);
}

static struct relation *relation_of_t(void)
{
    struct relation *r = xcalloc(1, sizeof *r);
    *r = (struct relation){.id = 1,
                           .schema = xstrdup("public"),
                           .name = xstrdup("t"),
                           .replica_identity = 'd',
                           .column_count = 1};
    r->columns = xcalloc(1, sizeof *r->columns);
    r->columns[0] = (struct column){.name = xstrdup("id"),
                                    .type = xstrdup("bigint"),
                                    .base_type = xstrdup("bigint"),
                                    .number = 1,
                                    .kind = KIND_INT64,
                                    .key = true};
    relation_seal(r);
    return r;
}

static void open_fixture(struct fixture *x)
{
    char why[256];
    *x = (struct fixture){.lsn = 1000};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "0", why, sizeof why);
    x->handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    assert_non_null(x->handle);
    x->mock = rd_kafka_mock_cluster_new(x->handle, 1);
    assert_non_null(x->mock);
    x->journal = memory_journal_new(77);
    catalog_add(x->journal->catalog, relation_of_t());
    x->builder = batch_builder_new(4096);
    x->options = (struct kafka_options){.brokers = rd_kafka_mock_cluster_bootstraps(x->mock),
                                        .topic_prefix = "p",
                                        .stream = "slot",
                                        .tombstones = true,
                                        .create_topics = true,
                                        .partitions = -1,
                                        .replication_factor = -1,
                                        .gate = true};
}

static void close_fixture(struct fixture *x)
{
    batch_builder_free(x->builder);
    memory_journal_free(x->journal);
    rd_kafka_mock_cluster_destroy(x->mock);
    rd_kafka_destroy(x->handle);
}

static void start(struct fixture *x)
{
    struct err e;
    if (kafka_sink.start(&x->options, x->journal, &x->sink, &e) != 0)
        fail_msg("%s", e.text);
}

static void stop(struct fixture *x)
{
    kafka_sink.stop(x->sink, DEADLINE_US);
    x->sink = NULL;
}

// Appends transactions of one row each, ids counting up.
static void append(struct fixture *x, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        struct buf row = {0};
        x->lsn += 100;
        wire_uint(&row, 1, (uint64_t)++x->rows);
        batch_add_begin(x->builder, &(struct begin){.lsn = x->lsn, .xid = 9, .commit_time_us = 1});
        batch_add_change(x->builder, &(struct change){.op = OP_INSERT,
                                                      .relation = 1,
                                                      .key = buf_slice(&row),
                                                      .after = buf_slice(&row)});
        batch_add_end(x->builder, x->lsn + 8);
        buf_free(&row);
        if (batch_builder_full(x->builder))
            journal_append(x->journal, batch_builder_take(x->builder, false));
    }
    struct batch *b = batch_builder_take(x->builder, false);
    if (b)
        journal_append(x->journal, b);
}

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

static void wait_durable(struct fixture *x)
{
    int64_t deadline = clock_mono_us() + DEADLINE_US;
    struct err e;
    while (kafka_sink.durable(x->sink) < x->lsn + 8) {
        if (kafka_sink.failed(x->sink, &e))
            fail_msg("%s", e.text);
        assert_true(clock_mono_us() < deadline);
        pause_ms(2);
    }
}

static uint64_t id_of(const rd_kafka_message_t *m)
{
    struct reader r = reader_of(m->key, m->key_len);
    struct wire_field f = {0};
    assert_true(wire_next(&r, &f));
    return f.v;
}

// Reads a partition of the topic to its end: how often each id is there. Ids whose first record
// comes behind a later one's fail.
static void read_partition(struct fixture *x, int32_t partition, int *counts)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", x->options.brokers, why, sizeof why);
    rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", why, sizeof why);
    rd_kafka_conf_set(conf, "enable.partition.eof", "true", why, sizeof why);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, TABLE_TOPIC, NULL);
    assert_int_equal(rd_kafka_consume_start(topic, partition, RD_KAFKA_OFFSET_BEGINNING), 0);
    uint64_t newest = 0;
    for (bool end = false; !end;) {
        rd_kafka_message_t *m = rd_kafka_consume(topic, partition, 10000);
        assert_non_null(m);
        end = m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        if (!end) {
            assert_int_equal(m->err, 0);
            uint64_t id = id_of(m);
            assert_true(id >= 1 && id <= (uint64_t)x->rows);
            assert_true(counts[id]++ > 0 || id > newest);
            newest = u64_max(newest, id);
        }
        rd_kafka_message_destroy(m);
    }
    rd_kafka_consume_stop(topic, partition);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
}

// Every row is there; returns how many records are repeats.
static int64_t assert_all_there(struct fixture *x)
{
    int *counts = xcalloc((size_t)x->rows + 1, sizeof *counts);
    int64_t repeats = 0;
    for (int32_t partition = 0; partition < PARTITIONS; partition++)
        read_partition(x, partition, counts);
    for (int64_t i = 1; i <= x->rows; i++) {
        assert_true(counts[i] > 0);
        repeats += counts[i] - 1;
    }
    free(counts);
    return repeats;
}

static int64_t renewals(void)
{
    return metric_get(
        metric_new(METRIC_COUNTER, "rowcast_kafka_producer_renewals_total", "", "", 1));
}

static void a_restart_goes_on(void **state)
{
    (void)state;
    struct fixture x;
    open_fixture(&x);
    append(&x, 500);
    start(&x);
    wait_durable(&x);
    stop(&x);
    append(&x, 500);
    start(&x);
    wait_durable(&x);
    stop(&x);
    assert_int_equal(x.journal->acknowledged.lsn, x.lsn);
    assert_int_equal(assert_all_there(&x), 0);
    close_fixture(&x);
}

// The next produce requests fail with `code`; nothing is missing afterwards.
static void survive(rd_kafka_resp_err_t code, bool renews)
{
    struct fixture x;
    int64_t before = renewals();
    open_fixture(&x);
    start(&x);
    append(&x, 200);
    wait_durable(&x);
    rd_kafka_mock_push_request_errors(x.mock, API_PRODUCE, 1, code);
    append(&x, 2000);
    wait_durable(&x);
    stop(&x);
    assert_all_there(&x);
    assert_int_equal(renewals() > before, renews);
    close_fixture(&x);
}

static void a_fatal_error_renews_the_producer(void **state)
{
    (void)state;
    survive(RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, true);
}

static void a_refused_record_leaves_no_gap(void **state)
{
    (void)state;
    survive(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, true);
}

static void a_passing_error_is_retried(void **state)
{
    (void)state;
    survive(RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, false);
}

static void a_broker_comes_and_goes(void **state)
{
    (void)state;
    struct fixture x;
    open_fixture(&x);
    rd_kafka_mock_broker_set_down(x.mock, 1);
    start(&x);
    append(&x, 500);
    pause_ms(100);
    assert_int_equal(kafka_sink.durable(x.sink), 0);
    rd_kafka_mock_broker_set_up(x.mock, 1);
    wait_durable(&x);
    rd_kafka_mock_broker_set_down(x.mock, 1);
    append(&x, 20000); // more than the queue takes
    pause_ms(100);
    assert_true(kafka_sink.durable(x.sink) < x.lsn);
    rd_kafka_mock_broker_set_up(x.mock, 1);
    wait_durable(&x);
    stop(&x);
    assert_all_there(&x);
    close_fixture(&x);
}

static void stopping_without_a_broker_ends(void **state)
{
    (void)state;
    struct fixture x;
    open_fixture(&x);
    rd_kafka_mock_broker_set_down(x.mock, 1);
    start(&x);
    append(&x, 10);
    pause_ms(20);
    int64_t began = clock_mono_us();
    kafka_sink.stop(x.sink, 200000);
    assert_true(clock_mono_us() - began < 3000000);
    close_fixture(&x);
}

static void a_topic_that_comes_late_is_waited_for(void **state)
{
    (void)state;
    struct fixture x;
    open_fixture(&x);
    refusals = 2;
    append(&x, 100);
    start(&x);
    wait_durable(&x);
    assert_int_equal(refusals, 0);
    stop(&x);
    assert_int_equal(assert_all_there(&x), 0);
    close_fixture(&x);
}

static void a_record_over_the_limit_holds_only_kafka(void **state)
{
    (void)state;
    struct fixture x;
    struct metric *held = metric_new(METRIC_GAUGE, "rowcast_kafka_held", "", "", 1);
    open_fixture(&x);
    bytes_max = 100; // below what headers alone need
    start(&x);
    append(&x, 1);
    int64_t deadline = clock_mono_us() + DEADLINE_US;
    while (metric_get(held) == 0) {
        assert_true(clock_mono_us() < deadline);
        pause_ms(2);
    }
    struct err e;
    assert_false(kafka_sink.failed(x.sink, &e));
    assert_true(kafka_sink.durable(x.sink) < x.lsn);
    stop(&x); // does not wait for what cannot be
    bytes_max = 1000000;
    start(&x);
    wait_durable(&x);
    assert_int_equal(metric_get(held), 0);
    stop(&x);
    assert_int_equal(assert_all_there(&x), 0);
    close_fixture(&x);
}

static void wait_failed(struct fixture *x, const char *text)
{
    int64_t deadline = clock_mono_us() + DEADLINE_US;
    struct err e;
    while (!kafka_sink.failed(x->sink, &e)) {
        assert_true(clock_mono_us() < deadline);
        pause_ms(2);
    }
    assert_non_null(strstr(e.text, text));
}

static void another_history_is_refused(void **state)
{
    (void)state;
    struct fixture x;
    open_fixture(&x);
    append(&x, 10);
    start(&x);
    wait_durable(&x);
    stop(&x);

    x.journal->earliest = (struct position){x.lsn + 1000, 0};
    start(&x);
    wait_failed(&x, "older than all that the journal has kept");
    stop(&x);
    x.journal->earliest = (struct position){0, 0};

    x.journal->id.stream_id++;
    start(&x);
    wait_failed(&x, "another stream");
    stop(&x);

    x.journal->id.system_id++;
    start(&x);
    wait_failed(&x, "another server");
    stop(&x);
    close_fixture(&x);
}

// A standby with a journal of its own: what the leader moves until it dies counts.
static void the_position_is_asked_for_when_there_is_something_to_send(void **state)
{
    (void)state;
    struct fixture x, leader;
    open_fixture(&x);
    leader = x;
    leader.builder = batch_builder_new(4096);
    leader.journal = memory_journal_new(77);
    catalog_add(leader.journal->catalog, relation_of_t());
    start(&x);
    append(&leader, 10);
    start(&leader);
    wait_durable(&leader);
    stop(&leader);
    // It acknowledged more than Kafka has: what the slot brings now begins behind that.
    x.journal->earliest = (struct position){leader.lsn + 1000, 0};
    x.lsn = leader.lsn + 2000;
    append(&x, 1);
    wait_failed(&x, "older than all that the journal has kept");
    stop(&x);
    batch_builder_free(leader.builder);
    memory_journal_free(leader.journal);
    close_fixture(&x);
}

// Existing rows behind the last transaction, ids counting up.
static void append_existing(struct fixture *x, uint64_t ordinal, int64_t rows)
{
    batch_builder_set_watermark(x->builder, x->lsn + 8);
    batch_add_begin(
        x->builder,
        &(struct begin){.lsn = x->lsn, .read = true, .ordinal = ORDINAL_ASIDE + ordinal});
    for (int64_t i = 0; i < rows; i++) {
        struct buf row = {0};
        wire_uint(&row, 1, (uint64_t)++x->rows);
        batch_add_change(x->builder, &(struct change){.op = OP_READ,
                                                      .relation = 1,
                                                      .key = buf_slice(&row),
                                                      .after = buf_slice(&row)});
        buf_free(&row);
    }
    batch_add_end(x->builder, 0);
    journal_append(x->journal, batch_builder_take(x->builder, false));
}

// They stand below the watermark, which the position in Kafka may have: that does not cover them.
static void existing_rows_are_not_passed_over(void **state)
{
    (void)state;
    struct fixture x;
    open_fixture(&x);
    append(&x, 10);
    append_existing(&x, 0, 10);
    start(&x);
    wait_durable(&x);
    stop(&x);
    assert_int_equal(x.journal->acknowledged.ordinal, ORDINAL_ASIDE + 10);
    append_existing(&x, 11, 10);
    start(&x);
    wait_durable(&x);
    stop(&x);
    assert_int_equal(x.journal->acknowledged.ordinal, ORDINAL_ASIDE + 21);
    assert_int_equal(assert_all_there(&x), 0);
    close_fixture(&x);
}

static void refused_at(const char *property, const char *why)
{
    struct fixture x;
    struct err e;
    char *properties[] = {(char *)property};
    open_fixture(&x);
    x.options.properties = properties;
    x.options.property_count = 1;
    assert_int_equal(kafka_sink.start(&x.options, x.journal, &x.sink, &e), -1);
    assert_int_equal(e.class, ERR_USAGE);
    assert_non_null(strstr(e.text, why));
    assert_null(strstr(e.text, "hunter2"));
    close_fixture(&x);
}

static void properties_are_guarded(void **state)
{
    (void)state;
    refused_at("acks=1", "crash loses records");
    refused_at("partitioner=random", "murmur2_random");
    refused_at("no.such.thing=1", "does not know it");
    refused_at("linger.ms=soon", "linger.ms");
    refused_at("nonsense", "NAME=VALUE");
    refused_at("sasl.pasword=hunter2", "does not know it");
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restart_goes_on),
        cmocka_unit_test(a_fatal_error_renews_the_producer),
        cmocka_unit_test(a_refused_record_leaves_no_gap),
        cmocka_unit_test(a_passing_error_is_retried),
        cmocka_unit_test(a_broker_comes_and_goes),
        cmocka_unit_test(stopping_without_a_broker_ends),
        cmocka_unit_test(a_topic_that_comes_late_is_waited_for),
        cmocka_unit_test(a_record_over_the_limit_holds_only_kafka),
        cmocka_unit_test(another_history_is_refused),
        cmocka_unit_test(the_position_is_asked_for_when_there_is_something_to_send),
        cmocka_unit_test(existing_rows_are_not_passed_over),
        cmocka_unit_test(properties_are_guarded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
