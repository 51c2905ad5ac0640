#include "sinks/kafka/admin.h"
#include "sinks/kafka/topic.h"

#include <stdio.h>

#define CHECK_MS 5000

// One finding a line: "ok|warn|fail: object: cause; remedy: ..".
struct findings {
    struct buf *out;
    int bad;
};

static void ok(struct findings *f, const char *object, const char *text)
{
    buf_printf(f->out, "ok: %s: %s\n", object, text);
}

static void fail(struct findings *f, const char *object, const struct err *e)
{
    buf_printf(f->out, "fail: %s: %s\n", object, e->text);
    f->bad++;
}

static int reach(rd_kafka_t *rk, struct client *c, struct findings *f)
{
    const struct rd_kafka_metadata *md;
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, NULL, &md, CHECK_MS);
    rd_kafka_poll(rk, 0);
    if (code) {
        buf_printf(f->out,
                   "fail: Kafka %s: %s%s%s; remedy: check the address, that the brokers run, and "
                   "the security properties\n",
                   c->brokers, rd_kafka_err2str(code), c->reason[0] ? ": " : "", c->reason);
        f->bad++;
        return -1;
    }
    buf_printf(f->out, "ok: Kafka %s: reached, %d brokers\n", c->brokers, md->broker_cnt);
    rd_kafka_metadata_destroy(md);
    return 0;
}

static void report_limit(struct findings *f, const struct topic_facts *t)
{
    if (!t->limit_known)
        buf_printf(f->out,
                   "warn: topic %s: its configuration may not be read, so records over its limit "
                   "are found only when it refuses them; remedy: allow this user DescribeConfigs\n",
                   t->name);
    else if (t->use == TOPIC_POSITION && (!t->compacted || t->deleted))
        buf_printf(f->out,
                   "warn: topic %s: it is not compacted, so Kafka may delete the position; remedy: "
                   "kafka-configs --alter --entity-type topics --entity-name %s --add-config "
                   "cleanup.policy=compact\n",
                   t->name, t->name);
    else
        buf_printf(f->out, "ok: topic %s: exists, max.message.bytes %zu\n", t->name, t->bytes_max);
}

static void check_topic(rd_kafka_t *rk, const struct kafka_options *o, struct topic_facts *t,
                        struct findings *f)
{
    struct err e = {0};
    char object[TOPIC_NAME_MAX + 16];
    snprintf(object, sizeof object, "topic %s", t->name);
    if (t->state == TOPIC_READY) {
        report_limit(f, t);
    } else if (t->state == TOPIC_UNKNOWN) {
        fail(f, object, &t->why);
    } else if (!o->create_topics) {
        err_set(&e, ERR_KAFKA,
                "missing, and rowcast is told not to create topics; remedy: create it, or let "
                "rowcast do it");
        fail(f, object, &e);
    } else if (admin_create(rk, o, t->name, t->use, true, CHECK_MS, &e) != 0) {
        fail(f, object, &e);
    } else {
        ok(f, object, "missing, will be created");
    }
}

// A table as given on the command line, when it is no glob: schema.name, or a name in public.
static bool split_table(const char *table, char **ret_schema, const char **ret_name)
{
    if (strpbrk(table, "*?[\""))
        return false;
    const char *dot = strchr(table, '.');
    *ret_schema = dot ? xstrndup(table, (size_t)(dot - table)) : xstrdup("public");
    *ret_name = dot ? dot + 1 : table;
    return true;
}

static size_t table_topics(const struct kafka_options *o, char *const *tables, size_t n,
                           struct topic_names *names, char **ret_topics, struct findings *f)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        char *schema;
        const char *name;
        struct err e;
        AUTO_BUF struct buf topic = {0};
        if (!split_table(tables[i], &schema, &name))
            continue;
        if (topic_name(&topic, o->topic_prefix, schema, name, &e) != 0 ||
            topic_names_claim(names, buf_cstr(&topic), tables[i], &e) != 0)
            fail(f, tables[i], &e);
        else
            ret_topics[found++] = xstrdup((const char *)topic.p);
        free(schema);
    }
    return found;
}

static size_t own_topic(const struct kafka_options *o, const char *name, struct topic_names *names,
                        char **ret_topic, struct findings *f)
{
    AUTO_BUF struct buf topic = {0};
    struct err e;
    if (topic_own_name(&topic, o->topic_prefix, name, &e) != 0 ||
        topic_names_claim(names, buf_cstr(&topic), name, &e) != 0) {
        fail(f, name, &e);
        return 0;
    }
    *ret_topic = xstrdup((const char *)topic.p);
    return 1;
}

static int check_topics(rd_kafka_t *rk, const struct kafka_options *o, char *const *tables,
                        size_t table_count, struct findings *f, struct err *e)
{
    static const struct {
        const char *name;
        enum topic_use use;
    } own[] = {{"position", TOPIC_POSITION}, {"event", TOPIC_EVENTS}, {"message", TOPIC_CHANGES}};
    char **topics = xcalloc(table_count + ARRAY_LEN(own), sizeof *topics);
    struct topic_facts *facts = xcalloc(table_count + ARRAY_LEN(own), sizeof *facts);
    struct topic_names *names = topic_names_new();
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        facts[n].use = own[i].use;
        n += own_topic(o, own[i].name, names, topics + n, f);
    }
    facts[n].use = TOPIC_CHANGES;
    n += table_topics(o, tables, table_count, names, topics + n, f);
    for (size_t i = 0; i < n; i++)
        facts[i].name = topics[i];
    int r = admin_describe(rk, facts, n, CHECK_MS, e);
    for (size_t i = 0; i < n && r == 0; i++)
        check_topic(rk, o, &facts[i], f);
    for (size_t i = 0; i < n; i++)
        free(topics[i]);
    topic_names_free(names);
    free(facts);
    free(topics);
    return r;
}

static void ignore(void *arg, const rd_kafka_message_t *m)
{
    (void)arg;
    (void)m;
}

int kafka_check(const struct kafka_options *o, char *const *tables, size_t table_count,
                struct buf *out, int *ret_bad, struct err *e)
{
    struct findings f = {.out = out};
    struct client c = {.brokers = o->brokers, .report = ignore, .unreachable = true};
    rd_kafka_t *rk;
    *ret_bad = 0;
    if (client_producer(&c, o, CLIENT_BATCH_BYTES, &rk, e) != 0) {
        fail(&f, "Kafka properties", e);
        *ret_bad = f.bad;
        return 0;
    }
    int r = 0;
    if (reach(rk, &c, &f) == 0)
        r = check_topics(rk, o, tables, table_count, &f, e);
    rd_kafka_destroy(rk);
    if (r != 0)
        fail(&f, "Kafka", e);
    *ret_bad = f.bad;
    return 0;
}
