// How eagerly the source reads: at once while little comes, with pauses while a backlog floods in.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/reading.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS     INT64_C(1000)
#define AT(ms) (INT64_C(3600000000) + (ms)*MS) // a clock's time

// A connected pair that is a Unix socket, or stands for TCP.
static struct reading attached(bool local, int fds[2])
{
    struct reading r;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    reading_attach(&r, fds[0], AT(0));
    assert_true(r.local);
    r.local = local;
    return r;
}

static void done(int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

static struct reading in_flood(bool local, int fds[2])
{
    struct reading r = attached(local, fds);
    r.messages = 16;
    reading_round(&r, AT(1));
    assert_int_equal(reading_pause_us(&r, AT(1)) > 0, 1);
    return r;
}

static void tcp_is_not_local(void **state)
{
    (void)state;
    struct reading r;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    reading_attach(&r, fd, AT(0));
    assert_false(r.local);
    close(fd);
}

static void little_is_read_at_once(void **state)
{
    (void)state;
    int fds[2];
    struct reading r = attached(false, fds);
    for (int i = 1; i <= 100; i++) { // 15 a millisecond
        r.messages = 15;
        reading_round(&r, AT(i));
        assert_int_equal(reading_pause_us(&r, AT(i)), 0);
    }
    done(fds);
}

static void large_rows_are_a_flood_too(void **state)
{
    (void)state;
    int fds[2];
    struct reading r = attached(false, fds);
    r.messages = 1;
    r.bytes = 100000;
    reading_round(&r, AT(1));
    assert_int_equal(reading_pause_us(&r, AT(1)) > 0, 1);
    done(fds);
}

static void a_keepalive_ends_a_flood(void **state)
{
    (void)state;
    int fds[2];
    struct reading r = in_flood(false, fds);
    r.messages = 1000;
    r.caught_up = true;
    reading_round(&r, AT(2));
    assert_int_equal(reading_pause_us(&r, AT(2)), 0);
    // And a walsender that keeps up, however fast, never makes one.
    for (int i = 3; i < 100; i++) {
        r.messages = 1000;
        r.caught_up = true;
        reading_round(&r, AT(i));
        assert_int_equal(reading_pause_us(&r, AT(i)), 0);
    }
    done(fds);
}

static void silence_ends_a_flood(void **state)
{
    (void)state;
    int fds[2];
    struct reading r = in_flood(false, fds);
    reading_round(&r, AT(10)); // too soon to tell
    assert_int_equal(reading_pause_us(&r, AT(10)) > 0, 1);
    reading_round(&r, AT(22));
    assert_int_equal(reading_pause_us(&r, AT(22)), 0);
    done(fds);
}

static void pauses_grow_and_stay_within_a_sixteenth(void **state)
{
    (void)state;
    int fds[2];
    struct reading r = in_flood(false, fds);
    int64_t before = 0;
    for (int ms = 10; ms < 1000; ms += 10) {
        r.messages = 1000;
        reading_round(&r, AT(ms));
        int64_t pause = reading_pause_us(&r, AT(ms));
        assert_true(pause >= before && pause <= ms * MS / 16 && pause <= 10 * MS);
        before = pause;
    }
    assert_int_equal(before, 10 * MS);
    assert_int_equal(reading_pause_us(&r, AT(5000)), 10 * MS);
    r.open = true; // nobody gets anything of it yet
    assert_int_equal(reading_pause_us(&r, AT(320)), 20 * MS);
    assert_int_equal(reading_pause_us(&r, AT(5000)), 40 * MS);
    done(fds);
    r = in_flood(true, fds); // what a Unix socket holds is there much sooner
    r.open = true;
    r.messages = 1000000;
    reading_round(&r, AT(1000));
    assert_int_equal(reading_pause_us(&r, AT(1000)), 150);
    done(fds);
}

static void only_little_is_left_for_the_next_round(void **state)
{
    (void)state;
    static const uint8_t much[8000];
    int fds[2];
    struct reading quiet = attached(false, fds);
    assert_false(reading_enough(&quiet, fds[0], 100));
    done(fds);
    struct reading r = in_flood(false, fds);
    assert_true(reading_enough(&r, fds[0], 100));
    assert_false(reading_enough(&r, fds[0], 8000));
    // A read that completed nothing, of a message of which more waits.
    assert_int_equal(write(fds[1], much, sizeof much), sizeof much);
    assert_false(reading_enough(&r, fds[0], 0));
    done(fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_is_not_local),
        cmocka_unit_test(little_is_read_at_once),
        cmocka_unit_test(large_rows_are_a_flood_too),
        cmocka_unit_test(a_keepalive_ends_a_flood),
        cmocka_unit_test(silence_ends_a_flood),
        cmocka_unit_test(pauses_grow_and_stay_within_a_sixteenth),
        cmocka_unit_test(only_little_is_left_for_the_next_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
