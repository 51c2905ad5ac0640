// The control socket: questions and answers, and clients and servers that do not behave.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "control.h"

struct fixture {
    char dir[256];
    struct control *c;
};

static int echo(void *arg, const char *argument, struct buf *out, struct err *e)
{
    (void)arg, (void)e;
    buf_puts(out, argument);
    return 0;
}

static int refuse(void *arg, const char *argument, struct buf *out, struct err *e)
{
    (void)arg;
    buf_puts(out, "this is dropped");
    return err_set(e, ERR_SLOT_LOST, "no: %s", argument);
}

static int much(void *arg, const char *argument, struct buf *out, struct err *e)
{
    (void)arg, (void)argument, (void)e;
    memset(buf_room(out, 1u << 20), 'x', 1u << 20);
    out->n += 1u << 20;
    return 0;
}

static const struct control_handler handlers[] = {
    {"echo", echo, NULL}, {"refuse", refuse, NULL}, {"much", much, NULL}};

static void open_control(struct fixture *f)
{
    struct err e = {ERR_NONE, ""};
    if (control_open(f->dir, handlers, ARRAY_LEN(handlers), &f->c, &e) != 0)
        fail_msg("%s", e.text);
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/rowcast-control-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    open_control(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    control_close(f->c);
    AUTO_FREE char *path = xasprintf("%s/" CONTROL_FILE, f->dir);
    assert_int_not_equal(access(path, F_OK), 0); // the socket is gone with the thread
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static void asks(const char *dir, const char *verb, const char *argument, const char *expected)
{
    AUTO_BUF struct buf reply = {0};
    struct err e = {ERR_NONE, ""};
    if (control_ask(dir, verb, argument, &reply, &e) != 0)
        fail_msg("%s: %s", verb, e.text);
    assert_string_equal(buf_cstr(&reply), expected);
}

static void refused(const char *dir, const char *verb, const char *argument, enum err_class class,
                    const char *because)
{
    AUTO_BUF struct buf reply = {0};
    struct err e = {ERR_NONE, ""};
    assert_int_equal(control_ask(dir, verb, argument, &reply, &e), -1);
    assert_int_equal(e.class, class);
    if (!strstr(e.text, because))
        fail_msg("%s: \"%s\" does not say \"%s\"", verb, e.text, because);
    assert_int_equal(reply.n, 0);
}

static int raw(const struct fixture *f)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%.90s/" CONTROL_FILE, f->dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void an_answer_and_a_refusal(void **state)
{
    const struct fixture *f = *state;
    asks(f->dir, "echo", "", "");
    asks(f->dir, "echo", "two words", "two words");
    refused(f->dir, "refuse", "because", ERR_SLOT_LOST, "no: because");
    refused(f->dir, "dance", "", ERR_USAGE, "does not know the request \"dance\"");
    AUTO_FREE char *path = xasprintf("%s/" CONTROL_FILE, f->dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void what_is_no_line_is_not_sent(void **state)
{
    const struct fixture *f = *state;
    char longest[CONTROL_REQUEST_MAX];
    memset(longest, 'a', sizeof longest);
    longest[CONTROL_REQUEST_MAX - strlen("echo \n")] = 0;
    asks(f->dir, "echo", longest, longest);
    longest[CONTROL_REQUEST_MAX - strlen("echo \n")] = 'a';
    longest[CONTROL_REQUEST_MAX - 1] = 0;
    refused(f->dir, "echo", longest, ERR_USAGE, "too long");
    refused(f->dir, "echo", "a\nb", ERR_USAGE, "more than a line");
}

static void a_client_sends_what_is_no_request(void **state)
{
    const struct fixture *f = *state;
    char noise[CONTROL_REQUEST_MAX], answer[200];
    memset(noise, 'a', sizeof noise);
    static const struct {
        size_t n;
        const char *end, *says;
    } sent[] = {{CONTROL_REQUEST_MAX, "", "error usage\nthe request is longer than"},
                {0, "ec\0ho\n", "error usage\nthe request has a NUL"},
                {0, "\n", "error usage\nthe running rowcast"}};
    for (size_t i = 0; i < ARRAY_LEN(sent); i++) {
        int fd = raw(f);
        assert_int_equal(send(fd, noise, sent[i].n, 0), sent[i].n);
        size_t n = i == 1 ? 6 : strlen(sent[i].end);
        if (n) // else it is answered already, and may be closed
            assert_int_equal(send(fd, sent[i].end, n, 0), n);
        ssize_t got = recv(fd, answer, sizeof answer - 1, MSG_WAITALL);
        assert_true(got > 0);
        answer[got] = 0;
        if (strncmp(answer, sent[i].says, strlen(sent[i].says)) != 0)
            fail_msg("case %zu: %s", i, answer);
        close(fd);
    }
}

// All places are taken by clients that say nothing or take nothing.
static void silent_clients_lose_their_place(void **state)
{
    const struct fixture *f = *state;
    int fds[CONTROL_CLIENTS_MAX + 2];
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = raw(f);
        if (i % 2) // half of the answer fits into no socket's buffer
            assert_int_equal(send(fds[i], "much\n", 5, 0), 5);
    }
    asks(f->dir, "echo", "still here", "still here");
    char byte;
    assert_int_equal(recv(fds[0], &byte, 1, 0), 0); // the oldest was let go
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
}

static void a_silent_client_is_let_go_in_time(void **state)
{
    const struct fixture *f = *state;
    int fd = raw(f);
    int64_t began = clock_mono_us();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 4 * CONTROL_PATIENCE_US / 1000), 1);
    assert_true(clock_mono_us() - began >= CONTROL_PATIENCE_US - 100000);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

// The socket of a process that was killed is there, and nobody behind it.
static void a_stale_socket_is_replaced(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *path = xasprintf("%s/" CONTROL_FILE, f->dir);
    control_close(f->c);
    f->c = NULL;
    refused("/nonexistent", "echo", "", ERR_JOURNAL, "no rowcast runs with journal /nonexistent");
    refused(f->dir, "echo", "", ERR_JOURNAL, "no rowcast runs with journal");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%.100s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof a), 0);
    close(fd);
    refused(f->dir, "echo", "", ERR_JOURNAL, "no rowcast runs with journal");
    open_control(f);
    asks(f->dir, "echo", "new", "new");
}

static void somebodys_file_is_not_touched(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *path = xasprintf("%s/" CONTROL_FILE, f->dir);
    struct err e = {ERR_NONE, ""};
    control_close(f->c);
    f->c = NULL;
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(control_open(f->dir, handlers, 1, &f->c, &e), -1);
    assert_int_equal(e.class, ERR_JOURNAL);
    assert_int_equal(unlink(path), 0); // it was left there
}

static void a_path_longer_than_a_socket_address(void **state)
{
    const struct fixture *f = *state;
    struct fixture deep = {.c = NULL};
    char name[150];
    memset(name, 'd', sizeof name - 1);
    name[sizeof name - 1] = 0;
    snprintf(deep.dir, sizeof deep.dir, "%.60s/%s", f->dir, name);
    assert_int_equal(mkdir(deep.dir, 0700), 0);
    open_control(&deep);
    asks(deep.dir, "echo", "deep", "deep");
    control_close(deep.c);
    assert_int_equal(rmdir(deep.dir), 0);
}

struct liar {
    int fd;
    const char *says;
};

static void *lie(void *arg)
{
    const struct liar *l = arg;
    char request[100];
    int fd = accept(l->fd, NULL, NULL);
    (void)recv(fd, request, sizeof request, 0);
    (void)send(fd, l->says, strlen(l->says), MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static void what_answers_may_be_anything(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *says;
        enum err_class class;
        const char *because;
    } lies[] = {{"", ERR_JOURNAL, "does not answer"},
                {"okay\n", ERR_JOURNAL, "does not answer"},
                {"error", ERR_JOURNAL, "does not answer"},
                {"error nonsense\nwhy\nmore", ERR_INTERNAL, "why"},
                {"error data\n", ERR_DATA, ""}};
    control_close(f->c);
    f->c = NULL;
    AUTO_FREE char *path = xasprintf("%s/" CONTROL_FILE, f->dir);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%.100s", path);
    struct liar l = {.fd = socket(AF_UNIX, SOCK_STREAM, 0)};
    assert_int_equal(bind(l.fd, (const struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(l.fd, 1), 0);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        pthread_t t;
        l.says = lies[i].says;
        assert_int_equal(pthread_create(&t, NULL, lie, &l), 0);
        refused(f->dir, "echo", "", lies[i].class, lies[i].because);
        pthread_join(t, NULL);
    }
    close(l.fd);
    open_control(f);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(an_answer_and_a_refusal),           TEST(what_is_no_line_is_not_sent),
        TEST(a_client_sends_what_is_no_request), TEST(silent_clients_lose_their_place),
        TEST(a_silent_client_is_let_go_in_time), TEST(a_stale_socket_is_replaced),
        TEST(somebodys_file_is_not_touched),     TEST(a_path_longer_than_a_socket_address),
        TEST(what_answers_may_be_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
