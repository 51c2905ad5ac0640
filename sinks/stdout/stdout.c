// One thread, one reader of the journal from its tail on. It writes only as much as the pipe takes
// without blocking, so that it can always be stopped; a reader of the pipe that is slow costs
// nobody else anything: we fall behind in the journal. Behind retention the output says so and goes
// on with what is kept. A file on a full disk is waited for as a slow pipe is; a reader that went
// away does not come back, and ends this sink alone.
#include "sinks/stdout/stdout.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "sinks/stdout/lines.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STDOUT_MAGIC  0x7464756f
#define FULL_PAUSE_MS 100

struct stdout_sink {
    struct sink sink;
    uint32_t magic;
    struct stdout_options o;
    struct journal *journal;
    struct journal_reader *reader; // of the thread, once it runs
    struct lines *lines;
    pthread_t thread;
    int wake;                   // eventfd
    _Atomic int64_t stop_at_us; // clock_mono_us; 0: run
    _Atomic bool failed;
    struct err failure; // written before `failed`
    struct buf out;
    bool full; // its disk is, and that was said
    struct metric *lsn, *lag_bytes, *lag_time;
    _Atomic int64_t committed_us; // of the last change delivered
    struct histogram *latency;
};

static void on_wake(void *arg)
{
    struct stdout_sink *s = arg;
    CHECK(s->magic == STDOUT_MAGIC);
    uint64_t one = 1;
    ssize_t n = write(s->wake, &one, sizeof one);
    (void)n; // full: it is awake already
}

static bool time_is_up(struct stdout_sink *s)
{
    return s->stop_at_us && clock_mono_us() >= s->stop_at_us;
}

// Until the journal has more, or stop is called.
static void wait_for_more(struct stdout_sink *s)
{
    struct pollfd fd = {.fd = s->wake, .events = POLLIN};
    if (poll(&fd, 1, -1) == 1) {
        uint64_t count;
        ssize_t n = read(s->wake, &count, sizeof count);
        (void)n;
    }
}

// A write failed. False: for good.
static bool write_failed(struct stdout_sink *s, int why)
{
    if (why == EINTR || why == EAGAIN)
        return true;
    if (why != ENOSPC && why != EDQUOT) {
        log_warn("nothing more goes to stdout until rowcast is started again; the others go on",
                 "sink=stdout error=%s", log_quote(strerror(why)));
        return false;
    }
    if (!s->full)
        log_warn("no room for stdout's file; going on when there is", "sink=stdout error=%s",
                 log_quote(strerror(why)));
    s->full = true;
    poll(NULL, 0, FULL_PAUSE_MS);
    return true;
}

static void wrote(struct stdout_sink *s)
{
    if (s->full)
        log_info("stdout's file has room again", "sink=stdout");
    s->full = false;
}

// False when the output is closed, or the time to stop has come.
static bool flush(struct stdout_sink *s)
{
    for (size_t at = 0; at < s->out.n;) {
        // A pipe that is ready takes PIPE_BUF bytes without blocking.
        struct pollfd fd = {.fd = s->o.fd, .events = POLLOUT};
        if (time_is_up(s))
            return false;
        if (poll(&fd, 1, 100) != 1)
            continue;
        ssize_t n = write(s->o.fd, s->out.p + at, size_min(s->out.n - at, PIPE_BUF));
        if (n < 0 && !write_failed(s, errno))
            return false;
        if (n > 0)
            wrote(s);
        at += n > 0 ? (size_t)n : 0;
    }
    buf_clear(&s->out);
    return true;
}

static int reader_open(struct stdout_sink *s, enum journal_from from, struct err *e)
{
    return journal_reader_open(s->journal, "stdout", from, NULL, false, on_wake, s, &s->reader, e);
}

// Retention was faster than whoever reads our output, or the journal has started over: say it
// there, and go on with what is left.
static int start_again(struct stdout_sink *s, bool expired, struct err *e)
{
    char cursor[CURSOR_TEXT_MAX];
    struct cursor earliest = journal_earliest(s->journal);
    cursor_text(&earliest, cursor);
    const char *code = expired ? "cursor_expired" : "other_stream";
    const char *text = expired ? "the reader of stdout was slower than the journal's retention: "
                                 "changes are missing here"
                               : "the source's history was broken: the gap that follows says why";
    buf_printf(&s->out,
               "{\"type\":\"reset\",\"code\":\"%s\",\"text\":\"%s\",\"earliest\":\"%s\"}\n", code,
               text, cursor);
    log_warn("stdout cannot go on where it was; going on with the oldest that is kept",
             "sink=stdout code=%s cursor=%s", code, cursor);
    journal_reader_close(s->reader);
    s->reader = NULL;
    return reader_open(s, FROM_EARLIEST, e);
}

static int fail(struct stdout_sink *s, const struct err *e)
{
    s->failure = *e;
    s->failed = true;
    return -1;
}

// One step of the reader; 1: at the tail, 0: go on, -1: the end.
static int step(struct stdout_sink *s)
{
    struct err e;
    struct batch *b = NULL;
    switch (journal_reader_next(s->reader, &b, &e)) {
    case READ_TAIL:
        return 1;
    case READ_RESTART:
        lines_restart(s->lines, &s->out);
        return 0;
    case READ_EXPIRED:
        return start_again(s, true, &e) == 0 ? 0 : fail(s, &e);
    case READ_OTHER_STREAM:
        return start_again(s, false, &e) == 0 ? 0 : fail(s, &e);
    case READ_ERROR:
        return fail(s, &e);
    case READ_BATCH:
        break;
    }
    bool changes = b->change_count && !(b->flags & BATCH_ASIDE); // not read rows
    int64_t committed = changes ? b->commit_time_us : 0;
    lsn_t upto = b->last.lsn;
    int r = lines_batch(s->lines, journal_latest(s->journal), b, journal_reader_skip(s->reader),
                        &s->out, &e);
    batch_unref(b);
    if (r != 0)
        return fail(s, &e);
    if (!flush(s))
        return -1;
    if (committed) {
        histogram_observe(s->latency, clock_age_us(committed));
        s->committed_us = committed;
    }
    if (upto)
        metric_set(s->lsn, (int64_t)upto);
    return 0;
}

// Brings the lag up to date when metrics are read.
static void on_render(void *arg)
{
    struct stdout_sink *s = arg;
    int64_t at = metric_get(s->lsn);
    int64_t behind = at ? (int64_t)journal_latest(s->journal).at.lsn - at : 0;
    metric_set(s->lag_bytes, behind > 0 ? behind : 0);
    // At most that old: what is next was committed after what was last.
    metric_set(s->lag_time, behind > 0 && s->committed_us ? clock_age_us(s->committed_us) : 0);
}

static void *run(void *arg)
{
    struct stdout_sink *s = arg;
    CHECK(s->magic == STDOUT_MAGIC);
    while (!time_is_up(s)) {
        int r = step(s);
        if (r < 0)
            break;
        if (r > 0 && s->stop_at_us)
            break; // all is out
        if (r > 0)
            wait_for_more(s);
    }
    return NULL;
}

// ---- the sink ----

static int stdout_start(const void *options, struct journal *j, struct sink **ret_s, struct err *e)
{
    struct stdout_sink *s = xcalloc(1, sizeof *s);
    s->sink.ops = &stdout_sink;
    s->magic = STDOUT_MAGIC;
    s->o = *(const struct stdout_options *)options;
    s->journal = j;
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(s->wake >= 0);
    if (reader_open(s, FROM_NOW, e) != 0) {
        close(s->wake);
        free(s);
        return -1;
    }
    s->lines = lines_new(journal_catalog(j), s->o.tables, s->o.table_count);
    const char *sink = "sink=\"stdout\"";
    s->lsn = metric_new(METRIC_GAUGE, "rowcast_sink_position_lsn",
                        "LSN up to which the sink has delivered.", sink, 1);
    s->lag_bytes =
        metric_new(METRIC_GAUGE, "rowcast_sink_lag_bytes",
                   "WAL bytes between the journal's end and the sink's position.", sink, 1);
    s->lag_time =
        metric_new(METRIC_GAUGE, "rowcast_sink_lag_seconds",
                   "Age of the oldest commit that the sink has not delivered.", sink, 1000000);
    s->latency = histogram_new("rowcast_commit_to_sink_seconds",
                               "From the commit to the sink, once a batch.", sink);
    metrics_on_render(on_render, s);
    CHECK(pthread_create(&s->thread, NULL, run, s) == 0);
    *ret_s = &s->sink;
    return 0;
}

static lsn_t stdout_durable(struct sink *sink)
{
    (void)sink;
    return UINT64_MAX; // never holds the slot
}

static bool stdout_failed(struct sink *sink, struct err *ret_e)
{
    struct stdout_sink *s = (struct stdout_sink *)sink;
    if (!s->failed)
        return false;
    *ret_e = s->failure;
    return true;
}

static void stdout_stop(struct sink *sink, int64_t grace_us)
{
    struct stdout_sink *s = (struct stdout_sink *)sink;
    s->stop_at_us = clock_mono_us() + grace_us;
    on_wake(s);
    metrics_off_render(on_render, s);
    pthread_join(s->thread, NULL);
    if (s->reader)
        journal_reader_close(s->reader);
    lines_free(s->lines);
    buf_free(&s->out);
    close(s->wake);
    free(s);
}

const struct sink_ops stdout_sink = {
    .name = "stdout",
    .start = stdout_start,
    .durable = stdout_durable,
    .failed = stdout_failed,
    .stop = stdout_stop,
};
