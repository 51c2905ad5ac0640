#include "sinks/kafka/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TURN_BATCHES 16     // sent before reports are looked at again
#define DRAIN_MS     5000   // for requests that are out when a producer is given up
#define WAIT_US      500000 // the longest wait of a turn
#define EARLY_US     50000  // while the journal has nothing

void kafka_wake(void *arg)
{
    const struct kafka *k = arg;
    uint64_t one = 1;
    ssize_t r = write(k->wake, &one, sizeof one);
    CHECK(r == (ssize_t)sizeof one || errno == EAGAIN);
}

void kafka_break(struct kafka *k, const char *why)
{
    if (!k->broken)
        snprintf(k->why, sizeof k->why, "%s", why);
    k->broken = true;
}

static void fail(struct kafka *k, const struct err *e)
{
    pthread_mutex_lock(&k->lock);
    k->failed = true;
    k->failure = *e;
    pthread_mutex_unlock(&k->lock);
}

void hold_back(struct kafka *k, const struct err *why)
{
    bool passes = why->class == ERR_RETRY;
    metric_add(k->metrics.errors, 1);
    if (!k->held || strcmp(k->held_by.text, why->text) != 0)
        log_write(passes ? LOG_WARN : LOG_ERROR,
                  "nothing more goes to Kafka for now; everything else goes on",
                  "sink=kafka error=%s retry_seconds=%lld", log_quote(why->text),
                  (long long)(passes ? RETRY_US : HOLD_US) / 1000000);
    k->held = true;
    k->held_by = *why;
    k->retry_at = clock_mono_us() + (passes ? RETRY_US : HOLD_US);
    metric_set(k->metrics.held, 1);
    // What was known of the topics may have changed when it is tried again.
    if (!passes) {
        for (struct topic *t = k->topics; t; t = t->next) {
            if (t->handle && t != k->position_topic)
                t->stale = true;
        }
    }
}

static void go_on(struct kafka *k)
{
    if (k->held)
        log_info("Kafka gets changes again", "sink=kafka");
    k->held = false;
    metric_set(k->metrics.held, 0);
}

// ---- reports ----

static void on_report(void *arg, const rd_kafka_message_t *m)
{
    struct kafka *k = arg;
    bool purged =
        m->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || m->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
    if (m->err && !purged) {
        char why[sizeof k->why];
        snprintf(why, sizeof why, "topic %s: %s", rd_kafka_topic_name(m->rkt),
                 rd_kafka_message_errstr(m));
        metric_add(k->metrics.errors, 1);
        kafka_break(k, why);
    }
    if (m->_private == &k->writing) {
        position_reported(k, !m->err);
        return;
    }
    flight_report(&k->flights, m->_private, !m->err);
    if (!m->err) {
        metric_add(k->metrics.records, 1);
        metric_add(k->metrics.bytes, (int64_t)(m->len + m->key_len));
    }
}

static void on_done(void *arg, const struct batch *b)
{
    struct kafka *k = arg;
    if (b->change_count && b->commit_time_us && !(b->flags & BATCH_ASIDE))
        histogram_observe(k->metrics.commit_to_sink, clock_age_us(b->commit_time_us));
    if (b->commit_time_us)
        k->seen_commit_us = b->commit_time_us;
}

// ---- a turn ----

static bool caught_up(const struct kafka *k)
{
    return !k->flight && k->flights.count == 0 && journal_reader_at_tail(k->reader);
}

// The next batch into k->flight. False: none now.
static bool read_batch(struct kafka *k)
{
    struct batch *b;
    struct err e = {0};
    switch (journal_reader_next(k->reader, &b, &e)) {
    case READ_BATCH:
        k->flight = flights_open(&k->flights, b);
        k->skip = journal_reader_skip(k->reader);
        k->next = 0;
        k->sent = 0;
        return true;
    case READ_TAIL:
        return false;
    case READ_RESTART:
        // Records cannot be taken back: the transaction follows again from its first change, with
        // the attempt in its cursors.
        metric_add(k->metrics.restarts, 1);
        log_warn("a transaction was decoded again with other content: Kafka gets it a second time",
                 "sink=kafka");
        return true;
    case READ_EXPIRED: // not held for Kafka, or another process had the slot and delivered for us
    case READ_OTHER_STREAM:
        k->stranded = true;
        return false;
    case READ_ERROR:
        break;
    }
    fail(k, &e);
    return false;
}

static void send_batches(struct kafka *k)
{
    for (int i = 0; i < TURN_BATCHES && !k->broken; i++) {
        if (!k->flight && (k->flights.memory >= FLIGHT_MEMORY_MAX || !read_batch(k)))
            return;
        if (!k->flight)
            continue;
        enum send_result r = deliver(k);
        if (r != SEND_DONE)
            return;
        go_on(k);
    }
    kafka_wake(k); // there may be more
}

static void advance(struct kafka *k)
{
    if (flights_advance(&k->flights, on_done, k)) {
        k->dirty = k->delivered = true;
        k->renew_us = 0;
        k->seen_watermark = k->flights.done.watermark;
    }
    if (caught_up(k))
        k->seen_commit_us = clock_wall_us();
    metric_set(k->metrics.in_flight, (int64_t)k->flights.out);
    position_write(k);
}

static void wait_event(struct kafka *k, int64_t us)
{
    struct pollfd fd = {.fd = k->wake, .events = POLLIN};
    if (us > 0)
        poll(&fd, 1, (int)((us + 999) / 1000));
    uint64_t count;
    ssize_t r = read(k->wake, &count, sizeof count);
    CHECK(r == (ssize_t)sizeof count || errno == EAGAIN);
}

// Nothing in the journal: the slot is not ours yet, and Kafka's position may be another instance's
// to move. Looked at now it could be behind what that one has the slot acknowledge.
static bool too_early(const struct kafka *k)
{
    return !k->known && journal_appended(k->journal) == 0;
}

static int64_t wait_time(const struct kafka *k)
{
    int64_t now = clock_mono_us(), us = WAIT_US;
    if (k->held)
        us = k->retry_at - now < us ? k->retry_at - now : us;
    else if (too_early(k))
        us = EARLY_US;
    if (k->dirty && !k->position_out) {
        int64_t due = k->written_at + POSITION_US - now;
        us = due < us ? due : us;
    }
    if (k->stop_at)
        us = 10000 < us ? 10000 : us;
    return us;
}

static bool ended(struct kafka *k)
{
    if (k->failed)
        return true;
    if (!k->stop_at)
        return false;
    bool nothing_to_do = !k->known || ((caught_up(k) || k->held) && k->flights.out == 0 &&
                                       !k->dirty && !k->position_out);
    return nothing_to_do || clock_mono_us() >= k->stop_at;
}

static void resume(struct kafka *k)
{
    struct err e = {0};
    if ((k->position_topic->handle || resume_prepare(k, &e) == 0) && too_early(k)) {
        go_on(k);
    } else if (k->position_topic->handle && (k->known || resume_first(k, &e) == 0)) {
        go_on(k);
        kafka_wake(k);
    } else if (e.class == ERR_RETRY || e.class == ERR_KAFKA) {
        hold_back(k, &e);
    } else {
        fail(k, &e);
    }
}

static void turn(struct kafka *k)
{
    rd_kafka_poll(k->producer, 0);
    if (k->client.fatal)
        kafka_break(k, k->client.reason);
    if (k->broken)
        return;
    bool try = !k->held || clock_mono_us() >= k->retry_at;
    if (k->known && k->position_topic->handle) {
        advance(k);
        k->stranded |= k->era != journal_era(k->journal);
        if (try && !k->stranded)
            send_batches(k);
        bool settled = k->flights.count == 0 && !k->position_out;
        if (k->stranded && settled && (!k->dirty || k->era != journal_era(k->journal))) {
            resume_forget(k);
            kafka_wake(k);
        }
    } else if (try) {
        resume(k);
    }
}

// ---- sessions ----

static int session_open(struct kafka *k, struct err *e)
{
    static const uint64_t one = 1;
    k->broken = false;
    if (client_producer(&k->client, &k->o, k->batch_bytes, &k->producer, e) != 0)
        return -1;
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(k->producer);
    rd_kafka_queue_io_event_enable(queue, k->wake, &one, sizeof one);
    rd_kafka_queue_destroy(queue);
    if (k->known && k->era != journal_era(k->journal))
        resume_forget(k);
    return k->known ? resume_again(k, e) : 0;
}

// Takes back every record: first those that were not sent, then, after they had time to be
// answered, those that were, so that none of them arrives behind the next producer's.
static void session_close(struct kafka *k)
{
    int64_t patience = clock_mono_us() + DRAIN_MS * INT64_C(1000);
    if (k->stop_at && k->stop_at < patience)
        patience = k->stop_at;
    rd_kafka_purge(k->producer, RD_KAFKA_PURGE_F_QUEUE);
    bool purged = false;
    while (rd_kafka_outq_len(k->producer) > 0) {
        rd_kafka_poll(k->producer, 10);
        if (!purged && (k->client.fatal || clock_mono_us() >= patience)) {
            rd_kafka_purge(k->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
            purged = true;
        }
    }
    if (k->flights.open)
        flights_close(&k->flights);
    k->flight = NULL;
    flights_advance(&k->flights, on_done, k);
    flights_abandon(&k->flights);
    topics_reset(k);
    rd_kafka_destroy(k->producer);
    k->producer = NULL;
}

static void session_renew(struct kafka *k)
{
    char cursor[LSN_TEXT_MAX];
    metric_add(k->metrics.renewals, 1);
    log_warn("Kafka gets a new producer, which goes on behind the last delivered position",
             "sink=kafka lsn=%s reason=%s in_seconds=%lld",
             lsn_text(k->flights.done.at.lsn, cursor), log_quote(k->why),
             (long long)k->renew_us / 1000000);
    int64_t until = clock_mono_us() + k->renew_us;
    while (clock_mono_us() < until && !k->stop_at)
        wait_event(k, until - clock_mono_us());
    k->renew_us = k->renew_us ? k->renew_us * 2 : RETRY_US;
    if (k->renew_us > RENEW_US_MAX)
        k->renew_us = RENEW_US_MAX;
}

static void *run(void *arg)
{
    struct kafka *k = arg;
    pthread_setname_np(pthread_self(), "kafka");
    while (!ended(k)) {
        struct err e = {0};
        if (session_open(k, &e) != 0)
            fail(k, &e);
        while (!ended(k) && !k->broken) {
            turn(k);
            if (!k->broken && !ended(k))
                wait_event(k, wait_time(k));
        }
        if (k->producer)
            session_close(k);
        if (k->broken && !ended(k))
            session_renew(k);
    }
    return NULL;
}

// ---- metrics ----

static void metrics_init(struct kafka_metrics *m)
{
    static const char sink[] = "sink=\"kafka\"";
    m->records = metric_new(METRIC_COUNTER, "rowcast_kafka_records_total",
                            "Records that Kafka confirmed.", "", 1);
    m->bytes = metric_new(METRIC_COUNTER, "rowcast_kafka_bytes_total",
                          "Bytes of keys and values that Kafka confirmed.", "", 1);
    m->errors = metric_new(METRIC_COUNTER, "rowcast_kafka_errors_total",
                           "Failed deliveries and requests.", "", 1);
    m->renewals = metric_new(METRIC_COUNTER, "rowcast_kafka_producer_renewals_total",
                             "New producers after an error.", "", 1);
    m->in_flight = metric_new(METRIC_GAUGE, "rowcast_kafka_records_in_flight",
                              "Records given to librdkafka and not confirmed.", "", 1);
    m->held =
        metric_new(METRIC_GAUGE, "rowcast_kafka_held",
                   "1 while the next change cannot go to Kafka; the log has the cause.", "", 1);
    m->restarts = metric_new(METRIC_COUNTER, "rowcast_kafka_restarts_total",
                             "Transactions sent again because they were decoded otherwise.", "", 1);
    m->position = metric_new(METRIC_GAUGE, "rowcast_sink_position_lsn",
                             "LSN up to which the sink has delivered.", sink, 1);
    m->lag_bytes =
        metric_new(METRIC_GAUGE, "rowcast_sink_lag_bytes",
                   "WAL bytes between the journal's end and the sink's position.", sink, 1);
    m->lag_time =
        metric_new(METRIC_GAUGE, "rowcast_sink_lag_seconds",
                   "Age of the oldest commit that the sink has not delivered.", sink, 1000000);
    m->commit_to_sink = histogram_new("rowcast_commit_to_sink_seconds",
                                      "From the commit to the sink, once a batch.", sink);
}

static void metrics_update(void *arg)
{
    struct kafka *k = arg;
    lsn_t end = journal_appended(k->journal), at = k->seen_watermark;
    metric_set(k->metrics.position, (int64_t)at);
    metric_set(k->metrics.lag_bytes, end > at ? (int64_t)(end - at) : 0);
    metric_set(k->metrics.lag_time, end > at ? clock_age_us(k->seen_commit_us) : 0);
}

// ---- life ----

static void options_copy(struct kafka_options *to, const struct kafka_options *from)
{
    *to = *from;
    to->brokers = xstrdup(from->brokers);
    to->topic_prefix = xstrdup(from->topic_prefix ? from->topic_prefix : "");
    to->stream = xstrdup(from->stream);
    char **properties = xcalloc(from->property_count + 1, sizeof *properties);
    for (size_t i = 0; i < from->property_count; i++)
        properties[i] = xstrdup(from->properties[i]);
    to->properties = properties;
}

static void kafka_free(struct kafka *k)
{
    journal_reader_close(k->reader);
    flights_free(&k->flights);
    encoder_free(&k->encoder);
    routes_free(k);
    topic_names_free(k->names);
    buf_free(&k->position_key);
    for (size_t i = 0; i < k->o.property_count; i++)
        free(k->o.properties[i]);
    free((void *)k->o.properties);
    free((void *)k->o.brokers);
    free((void *)k->o.topic_prefix);
    free((void *)k->o.stream);
    if (k->wake >= 0)
        close(k->wake);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

// Topics that are no table's.
static int own_topic(struct kafka *k, const char *name, struct topic **ret_t, struct err *e)
{
    AUTO_BUF struct buf full = {0};
    if (topic_own_name(&full, k->o.topic_prefix, name, e) != 0 ||
        topic_names_claim(k->names, buf_cstr(&full), name, e) != 0)
        return -1;
    *ret_t = topic_of(k, (const char *)full.p);
    return 0;
}

static int set_up(struct kafka *k, struct err *e)
{
    if (client_check_properties(&k->o, e) != 0 ||
        own_topic(k, "position", &k->position_topic, e) != 0 ||
        own_topic(k, "event", &k->event_topic, e) != 0 ||
        own_topic(k, "message", &k->message_topic, e) != 0)
        return -1;
    k->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (k->wake < 0)
        return err_errno(e, ERR_INTERNAL, "eventfd");
    // Holds the journal's oldest changes until the position is known.
    return journal_reader_open(k->journal, "kafka", FROM_EARLIEST, NULL, k->o.gate, kafka_wake, k,
                               &k->reader, e);
}

static int start(const void *options, struct journal *j, struct sink **ret_s, struct err *e)
{
    const struct kafka_options *o = options;
    struct kafka *k = xcalloc(1, sizeof *k);
    k->sink.ops = &kafka_sink;
    k->journal = j;
    k->wake = -1;
    k->batch_bytes = CLIENT_BATCH_BYTES;
    options_copy(&k->o, o);
    pthread_mutex_init(&k->lock, NULL);
    k->names = topic_names_new();
    k->client = (struct client){
        .brokers = k->o.brokers, .report = on_report, .arg = k, .stop_at = &k->stop_at};
    encoder_init(&k->encoder, o->json ? &format_json : &format_protobuf, o->tombstones,
                 journal_catalog(j));
    position_key(&k->position_key, o->stream);
    k->durable = o->gate ? 0 : UINT64_MAX;
    k->seen_commit_us = clock_wall_us();
    if (set_up(k, e) != 0) {
        kafka_free(k);
        return -1;
    }
    metrics_init(&k->metrics);
    metrics_on_render(metrics_update, k);
    CHECK(pthread_create(&k->thread, NULL, run, k) == 0);
    *ret_s = &k->sink;
    return 0;
}

static lsn_t durable(struct sink *s)
{
    const struct kafka *k = (struct kafka *)s;
    if (!k->o.gate)
        return UINT64_MAX;
    return k->era == journal_era(k->journal) ? k->durable : 0;
}

static bool failed(struct sink *s, struct err *ret_e)
{
    struct kafka *k = (struct kafka *)s;
    pthread_mutex_lock(&k->lock);
    bool yes = k->failed;
    if (yes)
        *ret_e = k->failure;
    pthread_mutex_unlock(&k->lock);
    return yes;
}

static void stop(struct sink *s, int64_t grace_us)
{
    struct kafka *k = (struct kafka *)s;
    k->stop_at = clock_mono_us() + (grace_us > 0 ? grace_us : 0);
    kafka_wake(k);
    pthread_join(k->thread, NULL);
    metrics_off_render(metrics_update, k);
    kafka_free(k);
}

const struct sink_ops kafka_sink = {
    .name = "kafka", .start = start, .durable = durable, .failed = failed, .stop = stop};
