#include "sinks/kafka/admin.h"

#include "base/clock.h"

#include <stdio.h>

#define WAIT_MS 50
#define LOOK_MS 20

// Waits for the one answer; NULL: none came in time, or it is an error.
static rd_kafka_event_t *answer(rd_kafka_t *rk, rd_kafka_queue_t *queue, int timeout_ms,
                                const char *what, struct err *e)
{
    rd_kafka_event_t *event = NULL;
    for (int ms = 0; ms < timeout_ms && !event && !client_stops(rd_kafka_opaque(rk));
         ms += WAIT_MS) {
        event = rd_kafka_queue_poll(queue, WAIT_MS);
        rd_kafka_poll(rk, 0);
    }
    if (!event) {
        err_set(e, ERR_RETRY, "Kafka did not answer when asked to %s", what);
    } else if (rd_kafka_event_error(event)) {
        bool old = rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE;
        err_set(e, old ? ERR_KAFKA : ERR_RETRY, "Kafka, asked to %s: %s", what,
                rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
        event = NULL;
    }
    return event;
}

static rd_kafka_AdminOptions_t *options(rd_kafka_t *rk, rd_kafka_admin_op_t op, int timeout_ms)
{
    char why[256];
    rd_kafka_AdminOptions_t *a = rd_kafka_AdminOptions_new(rk, op);
    CHECK(rd_kafka_AdminOptions_set_request_timeout(a, timeout_ms, why, sizeof why) == 0);
    return a;
}

// ---- describing ----

static void take_config(struct topic_facts *t, const rd_kafka_ConfigResource_t *r)
{
    size_t n;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(r, &n);
    t->state = TOPIC_READY;
    t->compacted = t->deleted = false;
    for (size_t i = 0; i < n; i++) {
        const char *name = rd_kafka_ConfigEntry_name(entries[i]);
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);
        if (value && strcmp(name, "max.message.bytes") == 0) {
            t->bytes_max = strtoul(value, NULL, 10);
            t->limit_known = true;
        } else if (value && strcmp(name, "cleanup.policy") == 0) {
            t->compacted = strstr(value, "compact") != NULL;
            t->deleted = strstr(value, "delete") != NULL;
        }
    }
}

static void take_answer(struct topic_facts *t, const rd_kafka_ConfigResource_t *r)
{
    rd_kafka_resp_err_t code = rd_kafka_ConfigResource_error(r);
    if (!code) {
        take_config(t, r);
    } else if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
        t->state = TOPIC_MISSING;
    } else {
        const char *text = rd_kafka_ConfigResource_error_string(r);
        err_set(&t->why, ERR_KAFKA, "topic %s: %s", t->name, text ? text : rd_kafka_err2str(code));
    }
}

static struct topic_facts *find(struct topic_facts *t, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(t[i].name, name) == 0)
            return &t[i];
    }
    return NULL;
}

// Whether the topic is there, without a right to read configurations, or on a broker without them.
static int look_up(rd_kafka_t *rk, struct topic_facts *t, int timeout_ms, struct err *e)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, t->name, NULL);
    int partitions;
    if (!topic)
        return err_set(e, ERR_KAFKA, "topic %s: %s", t->name,
                       rd_kafka_err2str(rd_kafka_last_error()));
    int r = admin_partitions(rk, topic, timeout_ms, &partitions, e);
    rd_kafka_topic_destroy(topic);
    if (r == 0)
        t->state = TOPIC_READY;
    return r;
}

int admin_describe(rd_kafka_t *rk, struct topic_facts *t, size_t n, int timeout_ms, struct err *e)
{
    rd_kafka_ConfigResource_t **asked = xcalloc(n + 1, sizeof(void *));
    for (size_t i = 0; i < n; i++) {
        asked[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, t[i].name);
        t[i].state = TOPIC_UNKNOWN;
        t[i].limit_known = false;
        t[i].bytes_max = TOPIC_BYTES_DEFAULT;
        t[i].why = (struct err){0};
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *a = options(rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout_ms);
    rd_kafka_DescribeConfigs(rk, asked, n, a, queue);
    rd_kafka_event_t *event = answer(rk, queue, timeout_ms + 1000, "describe topics", e);
    size_t m = 0;
    const rd_kafka_ConfigResource_t **answers =
        event ? rd_kafka_DescribeConfigs_result_resources(
                    rd_kafka_event_DescribeConfigs_result(event), &m)
              : NULL;
    for (size_t i = 0; i < m; i++) {
        struct topic_facts *of = find(t, n, rd_kafka_ConfigResource_name(answers[i]));
        if (of)
            take_answer(of, answers[i]);
    }
    bool told = event || e->class == ERR_KAFKA; // a broker without this request
    rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(a);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy_array(asked, n);
    free(asked);
    return told ? 0 : -1;
}

int admin_partitions(rd_kafka_t *rk, rd_kafka_topic_t *topic, int timeout_ms, int *ret_n,
                     struct err *e)
{
    const struct rd_kafka_metadata *md;
    const char *name = rd_kafka_topic_name(topic);
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, topic, &md, timeout_ms);
    if (code)
        return err_set(e, ERR_RETRY, "topic %s: its partitions cannot be had: %s", name,
                       rd_kafka_err2str(code));
    code = md->topic_cnt == 1 ? md->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    int n = code ? 0 : md->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(md);
    if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        return err_set(e, ERR_KAFKA,
                       "topic %s: not authorized; allow this user Describe and Write on it", name);
    if (code || n == 0)
        return err_set(e, ERR_RETRY, "topic %s: %s", name,
                       code ? rd_kafka_err2str(code) : "it has no partitions yet");
    *ret_n = n;
    return 0;
}

// ---- creating ----

static rd_kafka_NewTopic_t *new_topic(const struct kafka_options *o, const char *name,
                                      enum topic_use use, struct err *e)
{
    char why[256];
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(name, use == TOPIC_CHANGES ? o->partitions : 1,
                                                   o->replication_factor, why, sizeof why);
    if (!t) {
        err_set(e, ERR_KAFKA, "topic %s cannot be created: %s", name, why);
    } else if (use == TOPIC_POSITION) {
        // Small segments: only closed ones are compacted, and all of it is read at each start.
        static const char *const configs[][2] = {{"cleanup.policy", "compact"},
                                                 {"segment.bytes", "1048576"},
                                                 {"min.cleanable.dirty.ratio", "0.1"}};
        for (size_t i = 0; i < ARRAY_LEN(configs); i++)
            CHECK(rd_kafka_NewTopic_set_config(t, configs[i][0], configs[i][1]) == 0);
    }
    return t;
}

static int refused(const char *name, rd_kafka_resp_err_t code, const char *text, struct err *e)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS:
        return 0;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        return err_set(e, ERR_KAFKA,
                       "topic %s is missing and may not be created (%s): allow this user Create on "
                       "it, or create it yourself",
                       name, rd_kafka_err2str(code));
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_NOT_CONTROLLER:
    case RD_KAFKA_RESP_ERR__TRANSPORT:
        return err_set(e, ERR_RETRY, "topic %s cannot be created: %s", name,
                       text ? text : rd_kafka_err2str(code));
    default:
        return err_set(e, ERR_KAFKA,
                       "topic %s is missing and cannot be created: %s; create it yourself, or "
                       "change what it names",
                       name, text ? text : rd_kafka_err2str(code));
    }
}

int admin_create(rd_kafka_t *rk, const struct kafka_options *o, const char *name,
                 enum topic_use use, bool dry, int timeout_ms, struct err *e)
{
    rd_kafka_NewTopic_t *t = new_topic(o, name, use, e);
    if (!t)
        return -1;
    char why[256];
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *a = options(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout_ms);
    CHECK(rd_kafka_AdminOptions_set_operation_timeout(a, timeout_ms, why, sizeof why) == 0);
    if (dry)
        CHECK(rd_kafka_AdminOptions_set_validate_only(a, 1, why, sizeof why) == 0);
    rd_kafka_CreateTopics(rk, &t, 1, a, queue);
    rd_kafka_event_t *event = answer(rk, queue, timeout_ms + 1000, "create a topic", e);
    int r = -1;
    if (event) {
        size_t n;
        const rd_kafka_topic_result_t **results =
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
        r = n == 1 ? refused(name, rd_kafka_topic_result_error(results[0]),
                             rd_kafka_topic_result_error_string(results[0]), e)
                   : err_set(e, ERR_RETRY, "topic %s: no answer to its creation", name);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_AdminOptions_destroy(a);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(t);
    return r;
}

// ---- both ----

// A created topic is there a little later.
static int await(rd_kafka_t *rk, struct topic_facts *t, int timeout_ms, struct err *e)
{
    int64_t deadline = clock_mono_us() + timeout_ms * INT64_C(1000);
    while (look_up(rk, t, timeout_ms, e) != 0) {
        if (e->class != ERR_RETRY || clock_mono_us() >= deadline ||
            client_stops(rd_kafka_opaque(rk)))
            return -1;
        rd_kafka_poll(rk, LOOK_MS);
    }
    return 0;
}

static int make_missing(rd_kafka_t *rk, const struct kafka_options *o, struct topic_facts *t,
                        int timeout_ms, struct err *e)
{
    static const char *const needs[] = {
        [TOPIC_CHANGES] = "",
        [TOPIC_EVENTS] = " --partitions 1",
        [TOPIC_POSITION] = " --partitions 1 --config cleanup.policy=compact",
    };
    if (o->create_topics) {
        if (admin_create(rk, o, t->name, t->use, false, timeout_ms, e) != 0 ||
            await(rk, t, timeout_ms, e) != 0 || admin_describe(rk, t, 1, timeout_ms, e) != 0)
            return -1;
        t->state = TOPIC_READY; // whatever the describing broker has heard of it
        return 0;
    }
    // Asking for it creates it where the broker does so by itself; its position must be compacted.
    if (t->use != TOPIC_POSITION && look_up(rk, t, timeout_ms, e) == 0)
        return 0;
    return err_set(e, ERR_KAFKA,
                   "topic %s is missing and rowcast is told not to create topics: create it "
                   "(kafka-topics --create --topic %s%s), or let rowcast do it",
                   t->name, t->name, needs[t->use]);
}

int admin_prepare(rd_kafka_t *rk, const struct kafka_options *o, struct topic_facts *t, size_t n,
                  int timeout_ms, struct err *e)
{
    if (admin_describe(rk, t, n, timeout_ms, e) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        int r = 0;
        if (t[i].state == TOPIC_MISSING)
            r = make_missing(rk, o, &t[i], timeout_ms, e);
        else if (t[i].state == TOPIC_UNKNOWN)
            r = look_up(rk, &t[i], timeout_ms, e);
        if (r != 0)
            return -1;
    }
    return 0;
}
