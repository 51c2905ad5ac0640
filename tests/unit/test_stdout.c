// The stdout sink's thread, on a journal that is only played: it delivers, never blocks its stop,
// and says what it missed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "sinks/stdout/stdout.h"

#define WAIT_MS   10000
#define STEPS_MAX 4096

// ---- the played journal: each step is what the next read gives ----

static struct {
    pthread_mutex_t lock;
    struct {
        enum read_result result;
        lsn_t progress; // READ_BATCH
    } steps[STEPS_MAX];
    size_t n, at;
    void (*wake)(void *arg);
    void *arg;
    int opened;
} play = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void play_begin(void)
{
    pthread_mutex_lock(&play.lock);
    play.n = play.at = 0;
    play.opened = 0;
    pthread_mutex_unlock(&play.lock);
}

static void play_add(enum read_result result, lsn_t progress)
{
    pthread_mutex_lock(&play.lock);
    assert_true(play.n < STEPS_MAX);
    play.steps[play.n].result = result;
    play.steps[play.n++].progress = progress;
    if (play.wake)
        play.wake(play.arg);
    pthread_mutex_unlock(&play.lock);
}

struct catalog *journal_catalog(struct journal *j)
{
    (void)j;
    return NULL;
}

struct cursor journal_latest(struct journal *j)
{
    (void)j;
    return (struct cursor){.stream_id = 0xabc, .timeline = 1, .at = {99, 0}};
}

struct cursor journal_earliest(struct journal *j)
{
    return journal_latest(j);
}

struct position journal_reader_skip(const struct journal_reader *r)
{
    (void)r;
    return (struct position){0, 0};
}

int journal_reader_open(struct journal *j, const char *name, enum journal_from from,
                        const struct cursor *c, bool gating, void (*wake)(void *arg), void *arg,
                        struct journal_reader **ret_r, struct err *e)
{
    (void)j, (void)name, (void)c, (void)e;
    pthread_mutex_lock(&play.lock);
    assert_int_equal(from, play.opened++ ? FROM_EARLIEST : FROM_NOW);
    assert_false(gating);
    play.wake = wake;
    play.arg = arg;
    pthread_mutex_unlock(&play.lock);
    *ret_r = (struct journal_reader *)&play;
    return 0;
}

void journal_reader_close(struct journal_reader *r)
{
    assert_ptr_equal(r, &play);
    pthread_mutex_lock(&play.lock);
    play.wake = NULL;
    pthread_mutex_unlock(&play.lock);
}

enum read_result journal_reader_next(struct journal_reader *r, struct batch **ret_b, struct err *e)
{
    (void)r;
    pthread_mutex_lock(&play.lock);
    enum read_result result = play.at < play.n ? play.steps[play.at].result : READ_TAIL;
    lsn_t lsn = play.at < play.n ? play.steps[play.at].progress : 0;
    play.at += play.at < play.n;
    pthread_mutex_unlock(&play.lock);
    if (result == READ_ERROR)
        (void)err_set(e, ERR_JOURNAL, "a file is gone");
    if (result == READ_BATCH) {
        struct batch_builder *bb = batch_builder_new(1 << 16);
        batch_add_progress(bb, lsn);
        *ret_b = batch_builder_take(bb, false);
        batch_builder_free(bb);
    }
    return result;
}

// ---- the tests ----

struct running {
    struct sink *sink;
    int from; // our end of the pipe
    int to;
    struct buf text; // read so far
};

static struct running start(void)
{
    int fds[2];
    struct running r = {0};
    struct err e;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    r.from = fds[0];
    r.to = fds[1];
    struct stdout_options o = {.fd = fds[1]};
    play_begin();
    assert_int_equal(stdout_sink.start(&o, NULL, &r.sink, &e), 0);
    return r;
}

static void finish(struct running *r, int64_t grace_us)
{
    stdout_sink.stop(r->sink, grace_us);
    if (r->from >= 0)
        close(r->from);
    close(r->to);
    buf_free(&r->text);
}

// Reads until `line` was there.
static void expect(struct running *r, const char *line)
{
    int64_t until = clock_mono_us() + WAIT_MS * 1000;
    while (!strstr(buf_cstr(&r->text), line)) {
        struct pollfd fd = {.fd = r->from, .events = POLLIN};
        if (clock_mono_us() > until)
            fail_msg("no %s in %s", line, buf_cstr(&r->text));
        if (poll(&fd, 1, 100) != 1)
            continue;
        ssize_t n = read(r->from, buf_room(&r->text, 4096), 4096);
        assert_true(n > 0);
        r->text.n += (size_t)n;
    }
}

static void test_delivers(void **state)
{
    (void)state;
    struct running r = start();
    play_add(READ_BATCH, 0x10);
    expect(&r, "{\"type\":\"progress\",\"lsn\":\"0/10\"");
    play_add(READ_BATCH, 0x20); // wakes it from its sleep at the tail
    expect(&r, "\"lsn\":\"0/20\"");
    struct err e;
    assert_false(stdout_sink.failed(r.sink, &e));
    assert_true(stdout_sink.durable(r.sink) == UINT64_MAX);
    finish(&r, 1000000);
}

static void test_says_what_it_missed(void **state)
{
    (void)state;
    struct running r = start();
    play_add(READ_EXPIRED, 0);
    play_add(READ_BATCH, 0x30);
    expect(&r, "\"lsn\":\"0/30\"");
    assert_true(strncmp(buf_cstr(&r.text), "{\"type\":\"reset\",\"code\":\"cursor_expired\"", 39) ==
                0);
    finish(&r, 1000000);
}

static void test_a_broken_journal_ends_it(void **state)
{
    (void)state;
    struct running r = start();
    play_add(READ_ERROR, 0);
    struct err e = {ERR_NONE, ""};
    int64_t until = clock_mono_us() + WAIT_MS * 1000;
    while (!stdout_sink.failed(r.sink, &e) && clock_mono_us() < until)
        poll(NULL, 0, 1);
    assert_int_equal(e.class, ERR_JOURNAL);
    finish(&r, 0);
}

static void test_a_closed_pipe_hurts_nobody(void **state)
{
    (void)state;
    struct running r = start();
    close(r.from);
    r.from = -1;
    play_add(READ_BATCH, 0x10);
    finish(&r, 1000000); // it would hang here if its thread had
}

// A full disk is waited for: what was to be written when it was full comes first.
static void test_goes_on_after_a_full_disk(void **state)
{
    (void)state;
    struct running r = start();
    int log[2] = {-1, -1}, err = dup(STDERR_FILENO), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    int pipe_end = dup(r.to);
    char said[512] = "";
    assert_true(full >= 0 && pipe2(log, O_CLOEXEC) == 0);
    assert_true(dup2(log[1], STDERR_FILENO) >= 0 && dup2(full, r.to) >= 0);
    play_add(READ_BATCH, 0x10);
    struct pollfd fd = {.fd = log[0], .events = POLLIN};
    if (poll(&fd, 1, WAIT_MS) == 1 && read(log[0], said, sizeof said - 1) < 0)
        said[0] = 0;
    assert_true(dup2(err, STDERR_FILENO) >= 0 && dup2(pipe_end, r.to) >= 0);
    assert_non_null(strstr(said, "no room for stdout's file"));
    expect(&r, "{\"type\":\"progress\",\"lsn\":\"0/10\"");
    close(log[0]);
    close(log[1]);
    close(err);
    close(full);
    close(pipe_end);
    finish(&r, 1000000);
}

// Nobody reads: more than a pipe takes is waiting, and stop still returns in its time.
static void test_a_full_pipe_does_not_hold_the_stop(void **state)
{
    (void)state;
    struct running r = start();
    for (lsn_t lsn = 1; lsn <= 3000; lsn++)
        play_add(READ_BATCH, lsn << 8);
    struct pollfd fd = {.fd = r.to, .events = POLLOUT};
    int64_t until = clock_mono_us() + WAIT_MS * 1000;
    while (poll(&fd, 1, 0) == 1 && clock_mono_us() < until)
        poll(NULL, 0, 1);
    assert_true(clock_mono_us() < until); // full
    int64_t before = clock_mono_us();
    finish(&r, 200000);
    assert_true(clock_mono_us() - before < WAIT_MS * 1000 / 2);
}

// What was appended before the stop comes out, in its order.
static void test_stop_delivers_the_rest(void **state)
{
    (void)state;
    struct running r = start();
    for (lsn_t lsn = 1; lsn <= 100; lsn++)
        play_add(READ_BATCH, lsn << 8);
    int from = dup(r.from);
    finish(&r, 10000000);
    struct buf text = {0};
    for (ssize_t n = 1; n > 0; text.n += n > 0 ? (size_t)n : 0)
        n = read(from, buf_room(&text, 65536), 65536);
    close(from);
    const char *at = buf_cstr(&text);
    for (unsigned lsn = 1; lsn <= 100; lsn++) {
        AUTO_FREE char *line = xasprintf("\"lsn\":\"0/%X\"", lsn << 8);
        at = strstr(at, line);
        assert_non_null(at);
    }
    buf_free(&text);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivers),
        cmocka_unit_test(test_says_what_it_missed),
        cmocka_unit_test(test_a_broken_journal_ends_it),
        cmocka_unit_test(test_a_closed_pipe_hurts_nobody),
        cmocka_unit_test(test_goes_on_after_a_full_disk),
        cmocka_unit_test(test_a_full_pipe_does_not_hold_the_stop),
        cmocka_unit_test(test_stop_delivers_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
