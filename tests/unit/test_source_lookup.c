// What is asked in the background is asked without waiting, also where that takes a new connection:
// the stream is read meanwhile. A peer that says what it has to, or nothing, stands for the server.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "source/lookup.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define QUESTION    "select 'a question'"

struct fixture {
    int listener, peer;
    char conninfo[128];
    struct source_options o;
    _Atomic bool stopped;
    struct waiter waiter;
    struct lookup *l;
};

static int64_t waited(void *arg)
{
    (void)arg;
    fail_msg("it waits");
    return INT64_MAX;
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    f->peer = -1;
    f->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(f->listener, 8), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&at, &n), 0);
    snprintf(f->conninfo, sizeof f->conninfo,
             "host=127.0.0.1 port=%d user=u dbname=d sslmode=disable gssencmode=disable",
             ntohs(at.sin_port));
    f->o = (struct source_options){.conninfo = f->conninfo, .slot = "theslot"};
    f->waiter = (struct waiter){.wake_fd = -1, .stopped = &f->stopped, .tick = waited};
    f->l = lookup_new(&f->o, &f->waiter);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    lookup_free(f->l);
    close(f->listener);
    close(f->peer);
    free(f);
    return 0;
}

// What the loop of the stream does.
static bool step(struct lookup *l, PGresult **ret_r)
{
    struct pollfd p = {0};
    p.fd = lookup_fd(l, &p.events);
    assert_true(p.fd >= 0);
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    return lookup_answer(l, ret_r);
}

// One message from the look-up; the first one has no kind.
static void receive(struct fixture *f, bool first, char *text, size_t size)
{
    uint8_t head[5];
    size_t skip = first ? 1 : 0;
    struct pollfd p = {.fd = f->peer, .events = POLLIN};
    PGresult *none = NULL;
    while (poll(&p, 1, 0) == 0)
        assert_false(step(f->l, &none));
    assert_int_equal(recv(f->peer, head + skip, 5 - skip, MSG_WAITALL), 5 - skip);
    size_t n = (size_t)head[3] << 8 | head[4];
    assert_true(head[1] == 0 && head[2] == 0 && n >= 4 && n - 4 < size);
    assert_int_equal(recv(f->peer, text, n - 4, MSG_WAITALL), n - 4);
    text[n - 4] = 0;
}

static void send_message(int fd, char kind, const void *p, size_t n)
{
    AUTO_BUF struct buf b = {0};
    buf_putc(&b, kind);
    const uint8_t length[4] = {0, 0, (uint8_t)((n + 4) >> 8), (uint8_t)(n + 4)};
    buf_put(&b, length, 4);
    buf_put(&b, p, n);
    assert_int_equal(send(fd, b.p, b.n, 0), b.n);
}

static void send_row(int fd, const char *const *values, size_t n)
{
    AUTO_BUF struct buf names = {0}, row = {0};
    static const uint8_t zero[18]; // an empty name's end has been put; table, type, sizes, format
    const uint8_t count[2] = {0, (uint8_t)n};
    buf_put(&names, count, 2);
    buf_put(&row, count, 2);
    for (size_t i = 0; i < n; i++) {
        buf_putc(&names, 0);
        buf_put(&names, zero, 18);
        const uint8_t length[4] = {0, 0, 0, (uint8_t)strlen(values[i])};
        buf_put(&row, length, 4);
        buf_puts(&row, values[i]);
    }
    send_message(fd, 'T', names.p, names.n);
    send_message(fd, 'D', row.p, row.n);
}

static void a_silent_server_is_not_waited_for(void **state)
{
    struct fixture *f = *state;
    PGresult *none = NULL;
    short events;
    lookup_ask(f->l, QUESTION);
    int fd = lookup_fd(f->l, &events);
    assert_true(fd >= 0);
    assert_false(step(f->l, &none)); // its greeting is sent
    assert_null(lookup_connection(f->l));
    lookup_ask(f->l, QUESTION); // not answered in all the time: begun anew
    assert_true(lookup_fd(f->l, &events) >= 0);
    f->peer = accept(f->listener, NULL, NULL);
    char byte[1024];
    while (recv(f->peer, byte, sizeof byte, 0) > 0) // the first one is given up
        continue;
}

static void a_server_that_goes_is_let_go(void **state)
{
    struct fixture *f = *state;
    char text[1024];
    PGresult *none = NULL;
    short events;
    lookup_ask(f->l, QUESTION);
    f->peer = accept(f->listener, NULL, NULL);
    receive(f, true, text, sizeof text);
    shutdown(f->peer, SHUT_RDWR);
    while (lookup_fd(f->l, &events) >= 0)
        assert_false(step(f->l, &none));
    assert_null(lookup_connection(f->l));
}

static void an_answer_comes_over_a_new_connection(void **state)
{
    struct fixture *f = *state;
    static const char *const values[] = {"0/30", "", "7"};
    char text[1024];
    lookup_ask(f->l, QUESTION);
    f->peer = accept(f->listener, NULL, NULL);
    receive(f, true, text, sizeof text);
    send_message(f->peer, 'R', "\0\0\0", 4);
    send_message(f->peer, 'S',
                 "server_version\0"
                 "15.0",
                 20);
    send_message(f->peer, 'Z', "I", 1);
    receive(f, false, text, sizeof text);
    assert_non_null(strstr(text, "set application_name = 'rowcast_lookup'"));
    assert_non_null(strstr(text, QUESTION));
    send_message(f->peer, 'C', "SET", 4);
    send_row(f->peer, values, ARRAY_LEN(values));
    send_message(f->peer, 'C', "SELECT 1", 9);
    send_message(f->peer, 'Z', "I", 1);
    AUTO_RESULT PGresult *got = NULL;
    while (!step(f->l, &got))
        continue;
    assert_string_equal(result_text(got, 0, 0), "0/30");
    assert_string_equal(result_text(got, 0, 2), "7");
    assert_non_null(lookup_connection(f->l));
    assert_int_equal(lookup_end(f->l), LOOKUP_GOES_ON);
}

#define FIELDS(state) "SFATAL\0C" state "\0Mterminating connection\0"

// Its own session is ended while it asks nothing: then a new one is refused.
static void a_server_that_stops_is_told_apart(void **state)
{
    struct fixture *f = *state;
    char text[1024];
    PGresult *none = NULL;
    short events;
    an_answer_comes_over_a_new_connection(state);
    send_message(f->peer, 'E', FIELDS("57P01"), sizeof FIELDS("57P01"));
    shutdown(f->peer, SHUT_RDWR);
    while (lookup_fd(f->l, &events) >= 0)
        assert_false(step(f->l, &none));
    assert_int_equal(lookup_end(f->l), LOOKUP_ENDED);
    assert_int_equal(lookup_end(f->l), LOOKUP_GOES_ON); // it is told once
    close(f->peer);
    lookup_ask(f->l, QUESTION);
    f->peer = accept(f->listener, NULL, NULL);
    receive(f, true, text, sizeof text);
    send_message(f->peer, 'E', FIELDS("57P03"), sizeof FIELDS("57P03"));
    shutdown(f->peer, SHUT_RDWR);
    while (lookup_fd(f->l, &events) >= 0)
        assert_false(step(f->l, &none));
    assert_int_equal(lookup_end(f->l), LOOKUP_REFUSED);
}

// A server's number is bounded before it is reckoned with.
static void numbers_have_a_bound(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t number;
    } said[] = {{"", 0},
                {"-1", -1},
                {"60000", 60000},
                {"9223372036854775807", 100000},
                {"99999999999999999999", 100000},
                {"-9223372036854775808", -100000}};
    PGresAttDesc column = {.name = (char *)"n", .typid = 20, .typlen = 8};
    PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_true(PQsetResultAttrs(r, 1, &column));
    for (int i = 0; i < (int)ARRAY_LEN(said); i++) {
        assert_true(PQsetvalue(r, i, 0, (char *)said[i].text, (int)strlen(said[i].text)));
        assert_int_equal(result_i64(r, i, 0, 100000), said[i].number);
    }
    PQclear(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_silent_server_is_not_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_goes_is_let_go, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_comes_over_a_new_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_stops_is_told_apart, setup, teardown),
        cmocka_unit_test(numbers_have_a_bound),
    };
    return cmocka_run_group_tests_name("source_lookup", tests, NULL, NULL);
}
