// The journal's threads: readers at the tail and behind it, while batches are appended, cut and
// appended again, and old segments go. Run under ThreadSanitizer too.
#include "journal_fixture.h"

#include <semaphore.h>

#define READERS 6
#define TXNS    400

struct follower {
    struct fixture *f;
    pthread_t thread;
    sem_t wake;
    struct seen had;
    size_t restarts;
    uint64_t slow; // pauses after each so many batches; 0: never
    _Atomic bool ready;
    const char *failure;
    struct err e;
};

static void on_wake(void *arg)
{
    sem_post(&((struct follower *)arg)->wake);
}

// Reads until TXNS transactions have ended.
static void *follow(void *arg)
{
    struct follower *w = arg;
    struct journal_reader *r;
    struct batch *b;
    if (journal_reader_open(w->f->j, "follower", FROM_EARLIEST, NULL, false, on_wake, w, &r,
                            &w->e)) {
        w->failure = "open";
        atomic_store(&w->ready, true);
        return NULL;
    }
    atomic_store(&w->ready, true);
    for (uint64_t n = 1; w->had.ends < TXNS && !w->failure; n++) {
        struct timespec until;
        switch (journal_reader_next(r, &b, &w->e)) {
        case READ_BATCH:
            seen_batch(&w->had, b, journal_reader_skip(r));
            batch_unref(b);
            if (w->slow && n % w->slow == 0)
                sched_yield();
            break;
        case READ_RESTART:
            seen_restart(&w->had);
            w->restarts++;
            break;
        case READ_TAIL:
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec += 60;
            if (sem_timedwait(&w->wake, &until) != 0)
                w->failure = "was not woken";
            break;
        case READ_EXPIRED:
        case READ_OTHER_STREAM:
            w->failure = "expired";
            break;
        case READ_ERROR:
            w->failure = "error";
            break;
        }
    }
    journal_reader_close(r);
    return NULL;
}

static void start(struct follower *w, struct fixture *f)
{
    w->f = f;
    sem_init(&w->wake, 0, 0);
    assert_int_equal(pthread_create(&w->thread, NULL, follow, w), 0);
    while (!atomic_load(&w->ready))
        sched_yield();
}

static void finish(struct follower *w, const struct seen *model)
{
    pthread_join(w->thread, NULL);
    if (w->failure)
        fail_msg("a follower: %s: %s", w->failure, w->e.text);
    seen_equal(model, &w->had);
    seen_free(&w->had);
    sem_destroy(&w->wake);
}

static void append_to_model(struct fixture *f, struct batch *b, struct seen *model)
{
    static const struct position none = {0, 0};
    seen_batch(model, b, none);
    while (!journal_has_room(f->j, NULL))
        sched_yield();
    journal_append(f->j, b);
}

static void followers_see_everything(void **state)
{
    struct fixture *f = *state;
    struct follower *w = xcalloc(READERS, sizeof *w);
    struct seen model = {0};
    for (size_t i = 0; i < READERS; i++) {
        w[i].slow = i;
        if (i < READERS / 2)
            start(&w[i], f);
    }
    for (size_t i = 0; i < TXNS; i++) {
        if (i == TXNS / 2) { // these begin behind
            for (size_t k = READERS / 2; k < READERS; k++)
                start(&w[k], f);
        }
        append_to_model(f, txn_batch(f, 1 + i % 7, 50 + i % 200), &model);
    }
    for (size_t i = 0; i < READERS; i++)
        finish(&w[i], &model);
    seen_free(&model);
    free(w);
}

// Every tenth transaction is lost in the middle; every other of those comes again otherwise.
static void followers_and_cuts(void **state)
{
    struct fixture *f = *state;
    struct follower *w = xcalloc(READERS, sizeof *w);
    struct seen model = {0};
    for (size_t i = 0; i < READERS; i++) {
        w[i].slow = i;
        start(&w[i], f);
    }
    for (size_t i = 0; i < TXNS; i++) {
        if (i % 10 != 9) {
            append_to_model(f, txn_batch(f, 1 + i % 7, 100), &model);
            continue;
        }
        bool same = i % 20 == 9;
        begin_txn(f, f->lsn, 0);
        for (size_t k = 0; k < 8; k++)
            journal_append(f->j, partial_batch(f, 3, 150, f->lsn + k * 3));
        if (i % 30 == 9)
            wait_written(f);
        struct journal_cut cut = journal_cut(f->j);
        batch_builder_reset(f->bb);
        assert_int_equal(cut.lsn, f->lsn);
        journal_hold(f->j);
        begin_txn(f, f->lsn, same ? 0 : 1);
        for (size_t k = 0; k < 8; k++)
            append_to_model(f, partial_batch(f, 3, 150, f->lsn + k * 3 + (same ? 0 : 77)), &model);
        assert_true(same == (batch_builder_txn_hash(f->bb) == cut.hash));
        journal_cut_done(f->j);
        journal_release(f->j);
        batch_add_end(f->bb, f->lsn + 0x10);
        append_to_model(f, take(f, false), &model);
        f->lsn += 0x100;
    }
    for (size_t i = 0; i < READERS; i++)
        finish(&w[i], &model);
    seen_free(&model);
    free(w);
}

static void *look_around(void *arg)
{
    struct fixture *f = arg;
    AUTO_BUF struct buf out = {0};
    struct journal_identity id;
    while (journal_watermark(f->j) < 0x1000 + TXNS * 0x100 - 0x100 + 0x10) {
        struct cursor earliest = journal_earliest(f->j), latest = journal_latest(f->j);
        // While this thread waits for a core, retention may have passed what was the latest.
        CHECK(journal_check_cursor(f->j, &latest) == CURSOR_OK ||
              position_cmp(latest.at, journal_earliest(f->j).at) < 0);
        CHECK(position_cmp(earliest.at, latest.at) <= 0);
        CHECK(journal_identity(f->j, &id));
        buf_clear(&out);
        metrics_render(&out);
        sched_yield();
    }
    return NULL;
}

static void retention_beside_readers(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct journal_options o = *small_options(f);
    o.retain_bytes = 64000;
    fixture_close(f);
    fixture_open(f, &o);
    pthread_t looker;
    assert_int_equal(pthread_create(&looker, NULL, look_around, f), 0);
    struct journal_reader *gate;
    assert_int_equal(
        journal_reader_open(f->j, "gate", FROM_EARLIEST, NULL, true, NULL, NULL, &gate, &e), 0);
    size_t ends = 0;
    for (size_t i = 0; i < TXNS; i++) {
        const char *why;
        while (!journal_has_room(f->j, &why)) { // the gate catches up
            struct seen had = {0};
            seen_read(&had, gate);
            ends += had.ends;
            journal_reader_acknowledge(gate, journal_latest(f->j).at);
            seen_free(&had);
            sched_yield();
        }
        journal_append(f->j, txn_batch(f, 10, 300));
    }
    struct seen had = {0};
    seen_read(&had, gate);
    assert_int_equal(ends + had.ends, TXNS);
    seen_free(&had);
    pthread_join(looker, NULL);
    journal_reader_close(gate);
}

// Small transactions that come one after another share syncs; the first does not wait for others.
static void syncs_are_shared(void **state)
{
    struct fixture *f = *state;
    struct journal_options o = *small_options(f);
    o.segment_bytes = 1 << 20; // each new one is a sync more
    fixture_close(f);
    fixture_open(f, &o);
    int64_t before = metric_get(f->j->metrics.fsyncs), began = clock_mono_us();
    journal_append(f->j, txn_batch(f, 1, 10));
    wait_written(f);
    int64_t next = 0;
    for (int64_t now = began; now < began + 20 * GATHER_US; now = clock_mono_us()) {
        if (now >= next) {
            journal_append(f->j, txn_batch(f, 1, 10));
            next = now + 200;
        }
        sched_yield();
    }
    wait_written(f);
    int64_t most = (clock_mono_us() - began) / GATHER_US + 2;
    int64_t syncs = metric_get(f->j->metrics.fsyncs) - before;
    if (syncs > most)
        fail_msg("%" PRId64 " syncs in the time of %" PRId64, syncs, most);
}

static _Atomic bool sync_held;

static int held_sync(int fd)
{
    while (sync_held)
        sched_yield();
    return fdatasync(fd);
}

// What cannot be had from WAL again is not seen before it is on disk, nor what comes behind it.
static void asides_are_synced_before_they_are_seen(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    struct file_ops real = file_ops;
    file_ops.fdatasync = held_sync;
    fixture_open(f, small_options(f));
    journal_append(f->j, txn_batch(f, 1, 10));
    wait_written(f);
    struct journal_reader *r = reader_from(f, FROM_NOW, NULL);
    sync_held = true;
    struct position at = position_aside(journal_last(f->j));
    batch_add_snapshot_mark(
        f->bb, &(struct snapshot_mark){.at = at, .step = SNAPSHOT_BEGIN, .table = slice_of("t")});
    journal_append(f->j, batch_builder_take(f->bb, false));
    journal_append(f->j, txn_batch(f, 1, 10));
    expect_tail(r);
    assert_true(position_cmp(journal_latest(f->j).at, at) < 0);
    sync_held = false;
    wait_written(f);
    struct batch *b = next_batch(r);
    assert_int_equal(position_cmp(b->last, at), 0);
    batch_unref(b);
    batch_unref(next_batch(r));
    expect_tail(r);
    journal_reader_close(r);
    fixture_close(f);
    file_ops = real;
    fixture_open(f, small_options(f));
}

// What waits while a sync takes long is compressed in haste, and is the same when it is read.
static void what_was_written_in_haste_is_read(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    struct file_ops real = file_ops;
    file_ops.fdatasync = held_sync;
    struct journal_options o = *small_options(f);
    o.segment_bytes = 64 << 20;
    o.compression = -1;
    fixture_open(f, &o);
    enum { BATCHES = 100, ROW = 100, ROWS = 600 };
    struct batch *appended[BATCHES];
    sync_held = true;
    for (size_t i = 0; i < BATCHES; i++) {
        appended[i] = txn_batch(f, ROWS, ROW);
        journal_append(f->j, batch_ref(appended[i]));
    }
    pthread_mutex_lock(&f->j->lock);
    size_t waits = f->j->unwritten;
    pthread_mutex_unlock(&f->j->lock);
    sync_held = false;
    assert_true(waits > (size_t)5 << 20);
    wait_written(f);
    fixture_close(f);
    file_ops = real;
    fixture_open(f, small_options(f));
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    for (size_t i = 0; i < BATCHES; i++) {
        struct batch *b = next_batch(r);
        assert_int_equal(b->n, appended[i]->n);
        assert_memory_equal(b->data, appended[i]->data, b->n);
        batch_unref(b);
        batch_unref(appended[i]);
    }
    expect_tail(r);
    journal_reader_close(r);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(followers_see_everything),
        TEST(followers_and_cuts),
        TEST(retention_beside_readers),
        TEST(syncs_are_shared),
        TEST(asides_are_synced_before_they_are_seen),
        TEST(what_was_written_in_haste_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
