#include "sinks/kafka/client.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <strings.h>

#define STRINGIFY(x) #x

// ---- properties ----

static const struct guarded {
    const char *name, *reason;
} guarded[] = {
    {"enable.idempotence", "rowcast needs it: without it retries repeat and reorder records"},
    {"enable.gapless.guarantee", "rowcast needs it: without it a failed record leaves a gap"},
    {"acks", "rowcast needs all: with less a broker's crash loses records"},
    {"request.required.acks", "rowcast needs all: with less a broker's crash loses records"},
    {"max.in.flight", "it belongs to idempotence: more reorders records"},
    {"max.in.flight.requests.per.connection", "it belongs to idempotence: more reorders records"},
    {"retries", "rowcast never gives up a record"},
    {"message.send.max.retries", "rowcast never gives up a record"},
    {"message.timeout.ms", "rowcast never gives up a record"},
    {"delivery.timeout.ms", "rowcast never gives up a record"},
    {"message.max.bytes", "rowcast asks each topic for its own max.message.bytes"},
    {"queuing.strategy", "rowcast needs first in, first out"},
    {"partitioner", "it is murmur2_random, as Java's: another one moves keys among partitions"},
    {"delivery.report.only.error", "rowcast counts delivered records to know its position"},
    {"transactional.id", "this version writes without transactions"},
    {"enable.auto.commit", "rowcast keeps its position itself"},
    {"enable.partition.eof", "rowcast reads its position up to the end of the topic"},
    {"isolation.level", "rowcast reads its position itself"},
    {"group.id", "rowcast joins no group"},
    {"log.queue", "rowcast takes librdkafka's log"},
    {"bootstrap.servers", "give the brokers with --kafka"},
    {"metadata.broker.list", "give the brokers with --kafka"},
};

static bool is_secret(const char *name)
{
    static const char *const parts[] = {
        "password", "secret", "key", "pem", "token", "jaas", "sasl.oauthbearer.config"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (strcasestr(name, parts[i]))
            return true;
    }
    return false;
}

static int set_property(rd_kafka_conf_t *conf, const char *text, struct err *e)
{
    const char *value = strchr(text, '=');
    if (!value || value == text)
        return err_set(e, ERR_USAGE, "a Kafka property is not of the form NAME=VALUE");
    AUTO_FREE char *name = xstrndup(text, (size_t)(value - text));
    for (size_t i = 0; i < ARRAY_LEN(guarded); i++) {
        if (strcmp(name, guarded[i].name) == 0)
            return err_set(e, ERR_USAGE, "Kafka property %s may not be set: %s; leave it out", name,
                           guarded[i].reason);
    }
    char why[256];
    switch (rd_kafka_conf_set(conf, name, value + 1, why, sizeof why)) {
    case RD_KAFKA_CONF_OK:
        return 0;
    case RD_KAFKA_CONF_UNKNOWN:
        return err_set(e, ERR_USAGE,
                       "Kafka property %s: librdkafka %s does not know it; its CONFIGURATION.md "
                       "lists those it knows",
                       name, rd_kafka_version_str());
    default: // the reason repeats the value
        return err_set(e, ERR_USAGE, "Kafka property %s: librdkafka refuses the value%s%s", name,
                       is_secret(name) ? "" : ": ", is_secret(name) ? "" : why);
    }
}

// Ours first: the user's properties may change them. A shorter linger costs more than it gains:
// librdkafka spins through its last millisecond.
static const char *const defaults[][2] = {
    {"client.id", "rowcast"},
    {"linger.ms", "4"},
    {"compression.codec", "lz4"},
    {"socket.nagle.disable", "true"},
    {"socket.keepalive.enable", "true"},
    {"reconnect.backoff.ms", "50"},
    {"reconnect.backoff.max.ms", "1000"},
    {"queue.buffering.max.kbytes", "16384"},
    {"queue.buffering.max.messages", "5000"},
};

static const char *const fixed[][2] = {
    {"enable.idempotence", "true"},    {"enable.gapless.guarantee", "true"},
    {"message.timeout.ms", "0"},       {"message.max.bytes", "100000000"},
    {"partitioner", "murmur2_random"},
};

static void set_ours(rd_kafka_conf_t *conf, const char *const (*list)[2], size_t n)
{
    char why[256];
    for (size_t i = 0; i < n; i++)
        CHECK(rd_kafka_conf_set(conf, list[i][0], list[i][1], why, sizeof why) == 0);
}

static int make_conf(const struct kafka_options *o, rd_kafka_conf_t **ret_conf, struct err *e)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];
    int r = 0;
    set_ours(conf, defaults, ARRAY_LEN(defaults));
    if (rd_kafka_conf_set(conf, "bootstrap.servers", o->brokers, why, sizeof why) != 0)
        r = err_set(e, ERR_USAGE, "Kafka brokers %s: %s", o->brokers, why);
    for (size_t i = 0; i < o->property_count && r == 0; i++)
        r = set_property(conf, o->properties[i], e);
    if (r != 0) {
        rd_kafka_conf_destroy(conf);
        return -1;
    }
    *ret_conf = conf;
    return 0;
}

// ---- callbacks ----

// librdkafka has the levels of syslog.
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    // Lost connections come as errors too, and are said once there.
    bool quiet = strcmp(facility, "FAIL") == 0 || strcmp(facility, "ERROR") == 0 ||
                 strcmp(facility, "CONFWARN") == 0;
    enum log_level ours = quiet || level > 4 ? LOG_DEBUG : level <= 3 ? LOG_ERROR : LOG_WARN;
    if (log_enabled(ours))
        log_write(ours, "librdkafka", "sink=kafka facility=%s text=%s", facility, log_quote(text));
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct client *c = opaque;
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        char why[sizeof c->reason - 64];
        code = rd_kafka_fatal_error(rk, why, sizeof why);
        c->fatal = true;
        snprintf(c->reason, sizeof c->reason, "%s: %s", rd_kafka_err2name(code), why);
        return;
    }
    if (c->fatal)
        return;
    snprintf(c->reason, sizeof c->reason, "%s", reason);
    bool all = code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ||
               code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL;
    if (all && !c->unreachable) {
        c->unreachable = true;
        log_warn("Kafka cannot be reached, trying on", "sink=kafka brokers=%s reason=%s",
                 c->brokers, log_quote(reason));
    } else {
        log_debug("Kafka", "sink=kafka code=%s reason=%s", rd_kafka_err2name(code),
                  log_quote(reason));
    }
}

bool client_stops(const struct client *c)
{
    int64_t at = c->stop_at ? *c->stop_at : 0;
    return at && clock_mono_us() >= at;
}

void client_answered(struct client *c)
{
    if (c->unreachable)
        log_info("Kafka is reached again", "sink=kafka brokers=%s", c->brokers);
    c->unreachable = false;
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    (void)rk;
    struct client *c = opaque;
    if (!m->err)
        client_answered(c);
    c->report(c->arg, m);
}

// ---- handles ----

static int make_handle(struct client *c, rd_kafka_type_t type, rd_kafka_conf_t *conf,
                       rd_kafka_t **ret_rk, struct err *e)
{
    char why[256];
    rd_kafka_conf_set_opaque(conf, c);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    CHECK(rd_kafka_conf_set(conf, "log.queue", "true", why, sizeof why) == 0);
    c->fatal = false;
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        return err_set(e, ERR_USAGE, "Kafka properties: %s", why);
    }
    CHECK(rd_kafka_set_log_queue(rk, NULL) == 0);
    *ret_rk = rk;
    return 0;
}

int client_producer(struct client *c, const struct kafka_options *o, size_t batch_bytes,
                    rd_kafka_t **ret_rk, struct err *e)
{
    rd_kafka_conf_t *conf = NULL;
    char why[256], size[24];
    if (make_conf(o, &conf, e) != 0)
        return -1;
    set_ours(conf, fixed, ARRAY_LEN(fixed));
    snprintf(size, sizeof size, "%zu", batch_bytes);
    if (batch_bytes < CLIENT_BATCH_BYTES)
        CHECK(rd_kafka_conf_set(conf, "batch.size", size, why, sizeof why) == 0);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    return make_handle(c, RD_KAFKA_PRODUCER, conf, ret_rk, e);
}

static void ignore_report(void *arg, const rd_kafka_message_t *m)
{
    (void)arg;
    (void)m;
}

// Only a handle shows what is wrong with keys, certificates and combinations.
int client_check_properties(const struct kafka_options *o, struct err *e)
{
    struct client c = {.brokers = o->brokers, .report = ignore_report, .unreachable = true};
    rd_kafka_t *rk = NULL;
    if (client_producer(&c, o, CLIENT_BATCH_BYTES, &rk, e) != 0)
        return -1;
    rd_kafka_destroy(rk);
    return 0;
}

// ---- reading one key's last record ----

static int read_to_end(rd_kafka_t *rk, rd_kafka_topic_t *topic, struct slice key,
                       int64_t deadline_us, bool *ret_found, struct buf *ret_value, struct err *e)
{
    const struct client *c = rd_kafka_opaque(rk);
    while (clock_mono_us() < deadline_us && !client_stops(c)) {
        rd_kafka_poll(rk, 0);
        rd_kafka_message_t *m = rd_kafka_consume(topic, 0, 100);
        if (!m)
            continue;
        rd_kafka_resp_err_t code = m->err;
        if (!code && m->key_len == key.n && memcmp(m->key, key.p, key.n) == 0) {
            *ret_found = m->len > 0;
            buf_clear(ret_value);
            buf_put(ret_value, m->payload, m->len);
        }
        if (code && code != RD_KAFKA_RESP_ERR__PARTITION_EOF)
            err_set(e, ERR_RETRY, "Kafka topic %s: cannot read the position: %s",
                    rd_kafka_topic_name(topic), rd_kafka_message_errstr(m));
        rd_kafka_message_destroy(m);
        if (code)
            return code == RD_KAFKA_RESP_ERR__PARTITION_EOF ? 0 : -1;
    }
    return err_set(e, ERR_RETRY, "Kafka topic %s: no answer when reading the position",
                   rd_kafka_topic_name(topic));
}

int client_read_last(struct client *c, const struct kafka_options *o, const char *topic,
                     struct slice key, int timeout_ms, bool *ret_found, struct buf *ret_value,
                     struct err *e)
{
    rd_kafka_conf_t *conf = NULL;
    rd_kafka_t *rk = NULL;
    char why[256];
    if (make_conf(o, &conf, e) != 0)
        return -1;
    static const char *const own[][2] = {{"enable.partition.eof", "true"},
                                         {"fetch.wait.max.ms", "10"},
                                         {"isolation.level", "read_committed"}};
    set_ours(conf, own, ARRAY_LEN(own));
    if (make_handle(c, RD_KAFKA_CONSUMER, conf, &rk, e) != 0)
        return -1;
    rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topic, NULL);
    int r = -1;
    if (!t || rd_kafka_consume_start(t, 0, RD_KAFKA_OFFSET_BEGINNING) != 0) {
        snprintf(why, sizeof why, "%s", rd_kafka_err2str(rd_kafka_last_error()));
        err_set(e, ERR_RETRY, "Kafka topic %s: %s", topic, why);
    } else {
        *ret_found = false;
        r = read_to_end(rk, t, key, clock_mono_us() + timeout_ms * INT64_C(1000), ret_found,
                        ret_value, e);
        rd_kafka_consume_stop(t, 0);
    }
    if (t)
        rd_kafka_topic_destroy(t);
    rd_kafka_destroy(rk);
    return r;
}
