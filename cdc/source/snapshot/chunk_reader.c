#include "source/snapshot/chunk_reader.h"

#include "base/clock.h"
#include "source/snapshot/chunk_plan.h"
#include "source/snapshot/chunk_read.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define IDLE_S 30 // a connection is closed when there was nothing to read for so long

struct worker {
    struct chunk_reader *reader;
    pthread_t thread;
    bool started;
    struct waiter waiter;
    _Atomic bool stopped; // give up what is being read; seen by the waiter
    struct chunk *busy;   // under the lock
    struct chunk_read read;
};

struct chunk_reader {
    struct chunk_reader_options o;
    pthread_mutex_t lock;
    pthread_cond_t work, quiet; // an order, room or an end; a worker gave up
    bool ending;
    bool cancelling;
    char *host, *port, *hostaddr; // of the server to read from; NULL: as configured
    struct chunk *queued, **queued_end;
    struct chunk *ready, **ready_end;
    size_t pending;
    int64_t rate_until; // reading may begin again
    size_t worker_count;
    struct worker workers[];
};

static void append(struct chunk ***end, struct chunk *c)
{
    c->next = NULL;
    **end = c;
    *end = &c->next;
}

static struct chunk *take_first(struct chunk **first, struct chunk ***end)
{
    struct chunk *c = *first;
    if (c) {
        *first = c->next;
        c->next = NULL;
        if (!*first)
            *end = first;
    }
    return c;
}

static void free_all(struct chunk **first, struct chunk ***end)
{
    struct chunk *c;
    while ((c = take_first(first, end)))
        chunk_free(c);
}

// ---- the rate ----

static void count_rate(struct chunk_reader *r, size_t bytes)
{
    int64_t rate = r->o.source->snapshot_rate;
    if (rate <= 0)
        return;
    pthread_mutex_lock(&r->lock);
    int64_t now = clock_mono_us();
    if (r->rate_until < now)
        r->rate_until = now;
    r->rate_until += (int64_t)((double)bytes / (double)rate * 1e6);
    pthread_mutex_unlock(&r->lock);
}

// -1: to be given up.
static int wait_rate(struct worker *w)
{
    for (;;) {
        pthread_mutex_lock(&w->reader->lock);
        int64_t until = w->reader->rate_until;
        pthread_mutex_unlock(&w->reader->lock);
        if (until <= clock_mono_us())
            return 0;
        if (waiter_wait(&w->waiter, -1, 0, until) == WAIT_STOPPED)
            return -1;
    }
}

// ---- connections ----

// A table that somebody has locked is left to him, and tried again: others want this connection.
static int prepare(struct connection *c, struct err *e)
{
    AUTO_BUF struct buf sql = {0};
    buf_puts(&sql, "set application_name = 'rowcast_snapshot'; set lock_timeout = '200ms'; "
                   "set row_security = off; set idle_in_transaction_session_timeout = 0; "
                   "set max_parallel_workers_per_gather = 0");
    if (c->version >= 110000)
        buf_puts(&sql, "; set jit = off");
    if (c->version >= 140000) // a query that we gave up ends there too
        buf_puts(&sql, "; set idle_session_timeout = 0; "
                       "set client_connection_check_interval = '2s'");
    if (c->version >= 170000)
        buf_puts(&sql, "; set transaction_timeout = 0");
    AUTO_RESULT PGresult *q = NULL;
    return connection_query(c, clock_mono_us() + INT64_C(10000000), &q, e, "%s", buf_cstr(&sql));
}

static void set_server(struct chunk_reader *r, struct conninfo *ci)
{
    pthread_mutex_lock(&r->lock);
    if (r->host) {
        conninfo_set(ci, "host", r->host);
        conninfo_set(ci, "port", r->port);
        conninfo_set(ci, "hostaddr", r->hostaddr);
    }
    pthread_mutex_unlock(&r->lock);
}

static int ensure_connection(struct worker *w, struct err *e)
{
    if (w->read.c)
        return 0;
    struct conninfo ci;
    if (conninfo_make(w->reader->o.source, CONNINFO_SQL, &ci, e) != 0)
        return -1;
    set_server(w->reader, &ci);
    int r = connection_open(&ci, &w->waiter, &w->read.c, e);
    conninfo_fini(&ci);
    if (r != 0)
        return -1;
    if (prepare(w->read.c, e) == 0)
        return 0;
    connection_close(w->read.c);
    w->read.c = NULL;
    return -1;
}

static void disconnect(struct worker *w)
{
    connection_close(w->read.c);
    w->read.c = NULL;
}

// ---- work ----

// Hands over what is ready. A part of a whole table waits for its forerunner to be taken.
static int hand_over(struct worker *w, struct chunk *c, bool last)
{
    struct chunk_reader *r = w->reader;
    pthread_mutex_lock(&r->lock);
    while (!last && r->ready && !w->stopped)
        pthread_cond_wait(&r->work, &r->lock);
    bool given_up = w->stopped;
    if (!given_up) {
        append(&r->ready_end, c);
        r->pending -= last;
    }
    if (last)
        w->busy = NULL;
    pthread_mutex_unlock(&r->lock);
    if (given_up) {
        chunk_free(c);
        return -1;
    }
    r->o.wake(r->o.arg);
    return 0;
}

static int deliver(void *arg, struct chunk *part)
{
    struct worker *w = arg;
    size_t bytes = part->data.n;
    if (hand_over(w, part, false) != 0)
        return -1;
    count_rate(w->reader, bytes);
    return wait_rate(w);
}

static bool fail(struct worker *w, struct chunk *c)
{
    c->status = CHUNK_FAILED;
    return !w->stopped;
}

static bool unreachable(struct worker *w, struct chunk *c)
{
    c->unreachable = true;
    return fail(w, c);
}

// False: given up.
static bool read_rows(struct worker *w, struct chunk *c)
{
    for (;;) {
        if (wait_rate(w) != 0)
            return false;
        if (ensure_connection(w, &c->err) != 0)
            return unreachable(w, c);
        enum chunk_read_result result = chunk_read_run(&w->read, c);
        if (!w->read.keep)
            disconnect(w);
        if (result == CHUNK_READ_STOPPED)
            return false;
        count_rate(w->reader, c->data.n);
        if (result == CHUNK_READ_AGAIN)
            continue;
        if (result == CHUNK_READ_CUT &&
            (ensure_connection(w, &c->err) != 0 ||
             chunk_read_insert_lsn(w->read.c, &c->insert_lsn, &c->err) != 0)) {
            disconnect(w);
            return fail(w, c);
        }
        return true;
    }
}

static bool make_plan(struct worker *w, struct chunk *c)
{
    if (ensure_connection(w, &c->err) != 0)
        return unreachable(w, c);
    if (chunk_plan_make(&w->read.c, w->reader->o.source, &w->waiter, c) == 0)
        return true;
    disconnect(w);
    return fail(w, c);
}

// Waits for an order; NULL: the end. An idle connection is closed.
static struct chunk *next_order(struct worker *w)
{
    struct chunk_reader *r = w->reader;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_S;
    pthread_mutex_lock(&r->lock);
    while (!r->ending && (!r->queued || r->cancelling)) {
        if (!w->read.c) {
            pthread_cond_wait(&r->work, &r->lock);
        } else if (pthread_cond_timedwait(&r->work, &r->lock, &until) != 0) {
            pthread_mutex_unlock(&r->lock);
            disconnect(w);
            pthread_mutex_lock(&r->lock);
        }
    }
    struct chunk *c = r->ending ? NULL : take_first(&r->queued, &r->queued_end);
    w->busy = c;
    pthread_mutex_unlock(&r->lock);
    return c;
}

static void *run(void *arg)
{
    struct worker *w = arg;
    struct chunk_reader *r = w->reader;
    struct chunk *c;
    while ((c = next_order(w))) {
        bool answered = c->order.kind == CHUNK_PLAN ? make_plan(w, c) : read_rows(w, c);
        if (answered && hand_over(w, c, true) == 0)
            continue;
        if (!answered)
            chunk_free(c);
        disconnect(w);
        pthread_mutex_lock(&r->lock);
        w->busy = NULL;
        w->stopped = false;
        pthread_cond_broadcast(&r->quiet);
        pthread_mutex_unlock(&r->lock);
    }
    disconnect(w);
    chunk_read_fini(&w->read);
    return NULL;
}

// ---- what the source's thread does ----

struct chunk_reader *chunk_reader_new(const struct chunk_reader_options *o)
{
    size_t n = (size_t)o->source->snapshot_connections;
    CHECK(n >= 1 && n <= CHUNK_CONNECTIONS_MAX);
    struct chunk_reader *r = xcalloc(1, sizeof *r + n * sizeof r->workers[0]);
    r->o = *o;
    r->worker_count = n;
    r->queued_end = &r->queued;
    r->ready_end = &r->ready;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, &attr);
    pthread_cond_init(&r->quiet, &attr);
    pthread_condattr_destroy(&attr);
    for (size_t i = 0; i < n; i++) {
        struct worker *w = &r->workers[i];
        w->reader = r;
        w->waiter.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        CHECK(w->waiter.wake_fd >= 0);
        w->waiter.stopped = &w->stopped;
        w->read.source = o->source;
        w->read.deliver = deliver;
        w->read.arg = w;
    }
    return r;
}

void chunk_reader_follow(struct chunk_reader *r, const struct connection *c)
{
    pthread_mutex_lock(&r->lock);
    free(r->host);
    free(r->port);
    free(r->hostaddr);
    r->host = xstrdup(PQhost(c->pg));
    r->port = xstrdup(PQport(c->pg));
    r->hostaddr = xstrdup(PQhostaddr(c->pg));
    pthread_mutex_unlock(&r->lock);
}

// As many threads as there are orders, up to the limit. Signals are for others.
static void start_worker(struct chunk_reader *r)
{
    for (size_t i = 0; i < r->worker_count && i < r->pending; i++) {
        struct worker *w = &r->workers[i];
        if (w->started)
            continue;
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        w->started = pthread_create(&w->thread, NULL, run, w) == 0;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        CHECK(w->started || i > 0);
    }
}

void chunk_reader_order(struct chunk_reader *r, struct chunk_order *o)
{
    struct chunk *c = xcalloc(1, sizeof *c);
    c->order = *o;
    o->key_from = o->key_to = o->keys = (struct buf){0};
    pthread_mutex_lock(&r->lock);
    append(&r->queued_end, c);
    r->pending++;
    start_worker(r);
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
}

struct chunk *chunk_reader_take(struct chunk_reader *r)
{
    pthread_mutex_lock(&r->lock);
    struct chunk *c = take_first(&r->ready, &r->ready_end);
    if (c)
        pthread_cond_broadcast(&r->work); // there is room
    pthread_mutex_unlock(&r->lock);
    return c;
}

size_t chunk_reader_pending(struct chunk_reader *r)
{
    pthread_mutex_lock(&r->lock);
    size_t n = r->pending;
    pthread_mutex_unlock(&r->lock);
    return n;
}

size_t chunk_reader_threads(const struct chunk_reader *r)
{
    return r->worker_count;
}

void chunk_reader_cancel(struct chunk_reader *r)
{
    pthread_mutex_lock(&r->lock);
    r->cancelling = true;
    free_all(&r->queued, &r->queued_end);
    for (size_t i = 0; i < r->worker_count; i++) {
        struct worker *w = &r->workers[i];
        if (!w->busy)
            continue;
        w->stopped = true;
        uint64_t one = 1;
        CHECK(write(w->waiter.wake_fd, &one, sizeof one) == sizeof one);
    }
    pthread_cond_broadcast(&r->work);
    for (size_t i = 0; i < r->worker_count; i++) {
        while (r->workers[i].busy)
            pthread_cond_wait(&r->quiet, &r->lock);
    }
    free_all(&r->ready, &r->ready_end);
    r->pending = 0;
    r->cancelling = false;
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
}

void chunk_reader_free(struct chunk_reader *r)
{
    if (!r)
        return;
    chunk_reader_cancel(r);
    pthread_mutex_lock(&r->lock);
    r->ending = true;
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < r->worker_count; i++) {
        if (r->workers[i].started)
            pthread_join(r->workers[i].thread, NULL);
        close(r->workers[i].waiter.wake_fd);
    }
    free(r->host);
    free(r->port);
    free(r->hostaddr);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->work);
    pthread_cond_destroy(&r->quiet);
    free(r);
}
