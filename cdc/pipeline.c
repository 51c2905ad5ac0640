// Order of life: journal, then sinks, then the source in this thread; at the end the sinks side by
// side, then source and journal. Signals are taken by a thread of their own, so that no other one
// is ever interrupted.
//
// Failure: a sink or the journal that cannot go on is noticed by the watch thread, which stops the
// source; pipeline_run then returns that error, after the others were stopped cleanly.
#include "pipeline.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "control.h"
#include "proto/json.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define WATCH_INTERVAL_MS 250
#define SINKS_MAX         3

struct pipeline {
    const struct pipeline_options *o;
    struct health health;
    struct journal *journal;
    struct source *source;
    struct control *control;
    struct sink *sinks[SINKS_MAX];
    size_t sink_count;
    struct control_handler handlers[4];
    struct websocket_options websocket; // with the health filled in

    pthread_t watcher;
    bool watching;
    int signals; // signalfd
    _Atomic bool done;
    bool failed; // written by the watcher, read after it was joined
    struct err failure;
};

// ---- the gate ----

static lsn_t gate(void *arg, const char **ret_who)
{
    struct pipeline *p = arg;
    lsn_t safe = UINT64_MAX;
    for (size_t i = 0; i < p->sink_count; i++) {
        lsn_t lsn = p->sinks[i]->ops->durable(p->sinks[i]);
        if (lsn >= safe)
            continue;
        safe = lsn;
        if (ret_who)
            *ret_who = p->sinks[i]->ops->name;
    }
    return safe;
}

static void on_durable(void *arg)
{
    struct pipeline *p = arg;
    source_wake(p->source);
}

// ---- the watcher: signals and failures ----

static void on_signal(struct pipeline *p, bool *first)
{
    struct signalfd_siginfo info;
    if (read(p->signals, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (!*first) {
        log_warn("stopping at once", "signal=%u", info.ssi_signo);
        _exit(128 + (int)info.ssi_signo);
    }
    *first = false;
    log_info("stopping", "signal=%u", info.ssi_signo);
    source_stop(p->source);
}

static void look_for_failure(struct pipeline *p)
{
    if (p->failed)
        return;
    p->failed = journal_failed(p->journal, &p->failure);
    for (size_t i = 0; i < p->sink_count && !p->failed; i++)
        p->failed = p->sinks[i]->ops->failed(p->sinks[i], &p->failure);
    if (p->failed)
        source_stop(p->source);
}

static void *watch(void *arg)
{
    struct pipeline *p = arg;
    bool first = true;
    while (!p->done) {
        struct pollfd fd = {.fd = p->signals, .events = POLLIN};
        if (poll(&fd, 1, WATCH_INTERVAL_MS) == 1)
            on_signal(p, &first);
        look_for_failure(p);
        // A gating sink may have moved without the journal: the source must hear of it.
        source_wake(p->source);
    }
    return NULL;
}

static int watch_start(struct pipeline *p, struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    // Blocked before any other thread exists: they inherit it.
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    p->signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (p->signals < 0)
        return err_errno(e, ERR_INTERNAL, "signalfd");
    return 0;
}

// ---- what the control socket answers ----

static void put_text(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, ",\"%s\":", key);
    json_string(out, text, strlen(text));
}

static void put_lsn(struct buf *out, const char *key, lsn_t lsn)
{
    buf_printf(out, ",\"%s\":\"" LSN_FMT "\"", key, LSN_ARG(lsn));
}

static void put_cursor(struct buf *out, const char *key, struct cursor cursor)
{
    char text[CURSOR_TEXT_MAX];
    cursor_text(&cursor, text);
    put_text(out, key, text);
}

static void put_sinks(const struct pipeline *p, struct buf *out)
{
    buf_puts(out, ",\"sinks\":{");
    for (size_t i = 0; i < p->sink_count; i++) {
        lsn_t lsn = p->sinks[i]->ops->durable(p->sinks[i]);
        buf_printf(out, "%s\"%s\":{\"gates\":%s", i ? "," : "", p->sinks[i]->ops->name,
                   lsn == UINT64_MAX ? "false" : "true");
        if (lsn != UINT64_MAX)
            put_lsn(out, "durable", lsn);
        buf_putc(out, '}');
    }
    buf_putc(out, '}');
}

static struct metric *lsn_metric(const char *labels)
{
    return metric_new(METRIC_GAUGE, "rowcast_lsn",
                      "WAL position, as a number, by how far it is taken care of.", labels, 1);
}

static int status(void *arg, const char *argument, struct buf *out, struct err *e)
{
    struct pipeline *p = arg;
    char text[sizeof p->health.text], since[CLOCK_TEXT_MAX];
    int64_t since_us;
    (void)argument, (void)e;
    enum health_state state = health_get(&p->health, &since_us, text, sizeof text);
    clock_text(since_us, since);
    buf_printf(out, "{\"server\":\"rowcast/" ROWCAST_VERSION "\",\"pid\":%d", (int)getpid());
    put_text(out, "slot", p->o->source.slot);
    put_text(out, "state", health_state_name(state));
    put_text(out, "since", since);
    put_text(out, "text", text);
    char warning[sizeof p->health.warning];
    health_warning(&p->health, warning, sizeof warning);
    put_text(out, "warning", warning);
    struct journal_identity id;
    if (journal_identity(p->journal, &id)) {
        buf_printf(out, ",\"stream\":\"%016lx\",\"timeline\":%u", (unsigned long)id.stream_id,
                   id.timeline);
        put_cursor(out, "earliest", journal_earliest(p->journal));
        put_cursor(out, "latest", journal_latest(p->journal));
    }
    put_lsn(out, "received", (lsn_t)metric_get(lsn_metric("kind=\"received\"")));
    put_lsn(out, "appended", journal_appended(p->journal));
    put_lsn(out, "watermark", journal_watermark(p->journal));
    put_lsn(out, "acknowledged", (lsn_t)metric_get(lsn_metric("kind=\"acknowledged\"")));
    put_sinks(p, out);
    buf_puts(out, "}\n");
    return 0;
}

static int snapshot(void *arg, const char *argument, struct buf *out, struct err *e)
{
    struct pipeline *p = arg;
    return source_request_snapshot(p->source, argument, out, e);
}

static int attach(void *arg, const char *argument, struct buf *out, struct err *e)
{
    const struct pipeline *p = arg;
    (void)argument, (void)e;
    buf_puts(out, source_attach(p->source) ? "attaching\n" : "it is not detached\n");
    return 0;
}

static int detach(void *arg, const char *argument, struct buf *out, struct err *e)
{
    const struct pipeline *p = arg;
    (void)argument, (void)e;
    source_detach(p->source);
    buf_puts(out, "detaching as soon as nothing is in work\n");
    return 0;
}

// Without it the stream is as good as with it: said, and gone on.
static void control_start(struct pipeline *p)
{
    struct err e;
    p->handlers[0] = (struct control_handler){"status", status, p};
    p->handlers[1] = (struct control_handler){"snapshot", snapshot, p};
    p->handlers[2] = (struct control_handler){"attach", attach, p};
    p->handlers[3] = (struct control_handler){"detach", detach, p};
    if (control_open(p->o->journal.dir, p->handlers, ARRAY_LEN(p->handlers), &p->control, &e) != 0)
        log_warn("no control socket: rowcast status and others cannot ask this process", "cause=%s",
                 log_quote(e.text));
}

// ---- life ----

static int sink_start(struct pipeline *p, const struct sink_ops *ops, const void *options,
                      struct err *e)
{
    CHECK(p->sink_count < SINKS_MAX);
    if (ops->start(options, p->journal, &p->sinks[p->sink_count], e) != 0)
        return -1;
    CHECK(p->sinks[p->sink_count]->ops == ops);
    p->sink_count++;
    return 0;
}

// The journal; with `standby` another process may have it, for years. Stopped meanwhile: NULL.
static int open_journal(struct pipeline *p, struct err *e)
{
    bool said = false;
    while (journal_open(&p->o->journal, &p->journal, e) != 0) {
        struct pollfd fd = {.fd = p->signals, .events = POLLIN};
        struct signalfd_siginfo info;
        if (!p->o->standby || e->class != ERR_IN_USE)
            return -1;
        if (!said)
            log_warn("standing by until the journal is free", "cause=%s", log_quote(e->text));
        said = true;
        if (poll(&fd, 1, WATCH_INTERVAL_MS) == 1 &&
            read(p->signals, &info, sizeof info) == (ssize_t)sizeof info)
            return 0;
    }
    if (said)
        log_info("the journal is free: taking over", "dir=%s", p->o->journal.dir);
    return 0;
}

static int start(struct pipeline *p, struct err *e)
{
    const struct pipeline_options *o = p->o;
    p->source = source_new(&o->source, p->journal, &p->health);
    if (o->websocket) {
        p->websocket = *o->websocket;
        p->websocket.health = &p->health;
        if (sink_start(p, &websocket_sink, &p->websocket, e) != 0)
            return -1;
    }
    if (o->kafka && sink_start(p, &kafka_sink, o->kafka, e) != 0)
        return -1;
    if (o->std_out && sink_start(p, &stdout_sink, o->std_out, e) != 0)
        return -1;
    source_set_gate(p->source, gate, p);
    journal_on_durable(p->journal, on_durable, p);
    CHECK(pthread_create(&p->watcher, NULL, watch, p) == 0);
    p->watching = true;
    control_start(p);
    return 0;
}

struct ending {
    pthread_t thread;
    struct sink *sink;
    int64_t grace_us;
};

static void *end_sink(void *arg)
{
    struct ending *s = arg;
    s->sink->ops->stop(s->sink, s->grace_us);
    return NULL;
}

// All at once: the grace is the process's, and none of them may use up another's.
static void stop_sinks(struct pipeline *p)
{
    struct ending endings[SINKS_MAX];
    for (size_t i = 0; i < p->sink_count; i++) {
        endings[i].sink = p->sinks[i];
        endings[i].grace_us = p->o->stop_grace_us;
        CHECK(pthread_create(&endings[i].thread, NULL, end_sink, &endings[i]) == 0);
    }
    for (size_t i = 0; i < p->sink_count; i++)
        pthread_join(endings[i].thread, NULL);
    p->sink_count = 0;
}

static void stop(struct pipeline *p)
{
    p->done = true;
    control_close(p->control); // asks sinks, source and journal
    if (p->watching)
        pthread_join(p->watcher, NULL);
    // From here a second signal has its default effect: the process ends at once.
    if (p->signals >= 0) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    }
    stop_sinks(p);
    if (p->journal)
        journal_on_durable(p->journal, NULL, NULL);
    source_free(p->source);
    journal_close(p->journal);
    if (p->signals >= 0)
        close(p->signals);
}

int pipeline_run(const struct pipeline_options *o, struct err *e)
{
    struct pipeline p = {.o = o, .signals = -1};
    health_init(&p.health);
    int r = watch_start(&p, e);
    if (r == 0)
        r = open_journal(&p, e);
    if (r == 0 && p.journal)
        r = start(&p, e);
    if (r == 0 && p.journal)
        r = source_run(p.source, e);
    stop(&p);
    if (r == 0 && p.failed) {
        *e = p.failure;
        r = -1;
    }
    return r;
}
