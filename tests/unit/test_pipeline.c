// The pipeline's order of life, with a source, a journal and sinks that are only played.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "pipeline.h"

#define WAIT_S 5

static struct {
    pthread_mutex_t lock;
    pthread_cond_t all;
    int started, stopping;
    bool apart; // one was stopped while the others were not
    int64_t grace_us;
} play = {.lock = PTHREAD_MUTEX_INITIALIZER, .all = PTHREAD_COND_INITIALIZER};

// ---- played: the journal and the source ----

int journal_open(const struct journal_options *o, struct journal **ret_j, struct err *e)
{
    (void)o, (void)e;
    *ret_j = (struct journal *)&play;
    return 0;
}

void journal_close(struct journal *j)
{
    assert_ptr_equal(j, &play);
}

bool journal_failed(struct journal *j, struct err *ret_e)
{
    (void)j, (void)ret_e;
    return false;
}

bool journal_identity(const struct journal *j, struct journal_identity *ret_id)
{
    (void)j, (void)ret_id;
    return false;
}

struct cursor journal_earliest(struct journal *j)
{
    (void)j;
    return (struct cursor){0};
}

struct cursor journal_latest(struct journal *j)
{
    (void)j;
    return (struct cursor){0};
}

lsn_t journal_appended(struct journal *j)
{
    (void)j;
    return 0;
}

lsn_t journal_watermark(struct journal *j)
{
    (void)j;
    return 0;
}

void journal_on_durable(struct journal *j, void (*wake)(void *arg), void *arg)
{
    (void)j, (void)wake, (void)arg;
}

struct source *source_new(const struct source_options *o, struct journal *j, struct health *h)
{
    (void)o, (void)j, (void)h;
    return (struct source *)&play;
}

int source_run(struct source *s, struct err *e)
{
    (void)s, (void)e;
    return 0; // as after a signal
}

void source_set_gate(struct source *s, lsn_t (*safe)(void *arg, const char **who), void *arg)
{
    (void)s, (void)safe, (void)arg;
}

int source_request_snapshot(struct source *s, const char *glob, struct buf *out, struct err *e)
{
    (void)s, (void)glob, (void)out;
    return err_set(e, ERR_RETRY, "played");
}

void source_wake(struct source *s)
{
    (void)s;
}

bool source_attach(struct source *s)
{
    (void)s;
    return false;
}

void source_detach(struct source *s)
{
    (void)s;
}

void source_stop(struct source *s)
{
    (void)s;
}

void source_free(struct source *s)
{
    (void)s;
}

// ---- played: three sinks, none of which has done before all are told ----

static lsn_t durable(struct sink *s)
{
    (void)s;
    return UINT64_MAX;
}

static bool failed(struct sink *s, struct err *ret_e)
{
    (void)s, (void)ret_e;
    return false;
}

static void stop(struct sink *s, int64_t grace_us)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&play.lock);
    play.grace_us = grace_us;
    play.stopping++;
    pthread_cond_broadcast(&play.all);
    while (play.stopping < play.started && !play.apart)
        play.apart = pthread_cond_timedwait(&play.all, &play.lock, &until) != 0;
    pthread_mutex_unlock(&play.lock);
    free(s);
}

static int start(const struct sink_ops *ops, struct sink **ret_s)
{
    struct sink *s = xcalloc(1, sizeof *s);
    s->ops = ops;
    play.started++;
    *ret_s = s;
    return 0;
}

#define PLAYED_SINK(NAME)                                                                          \
    static int NAME##_start(const void *o, struct journal *j, struct sink **ret_s, struct err *e)  \
    {                                                                                              \
        (void)o, (void)j, (void)e;                                                                 \
        return start(&NAME##_sink, ret_s);                                                         \
    }                                                                                              \
    const struct sink_ops NAME##_sink = {                                                          \
        .name = #NAME, .start = NAME##_start, .durable = durable, .failed = failed, .stop = stop};
PLAYED_SINK(websocket)
PLAYED_SINK(kafka)
PLAYED_SINK(stdout)

// ---- the tests ----

static void the_sinks_share_one_grace(void **state)
{
    (void)state;
    const struct websocket_options websocket = {0};
    const struct kafka_options kafka = {0};
    const struct stdout_options std_out = {0};
    char dir[] = "/tmp/rowcast-pipeline-XXXXXX"; // for the control socket
    assert_non_null(mkdtemp(dir));
    const struct pipeline_options o = {.journal = {.dir = dir},
                                       .websocket = &websocket,
                                       .kafka = &kafka,
                                       .std_out = &std_out,
                                       .stop_grace_us = 1234};
    struct err e;
    assert_int_equal(pipeline_run(&o, &e), 0);
    assert_int_equal(rmdir(dir), 0); // it left nothing
    assert_int_equal(play.started, 3);
    assert_int_equal(play.stopping, 3);
    assert_int_equal(play.grace_us, 1234);
    assert_false(play.apart);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sinks_share_one_grace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
