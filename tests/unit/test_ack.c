// The arithmetic of acknowledgement: never more than was sent and is safe, never back, on time.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/ack.h"

#define SECOND  INT64_C(1000000)
#define NO_GATE UINT64_MAX

static struct ack started(void)
{
    struct ack a;
    ack_init(&a, 100, 90, 60 * SECOND, 1000 * SECOND);
    return a;
}

static void only_what_is_durable(void **state)
{
    (void)state;
    struct ack a = started();
    int64_t now = 1000 * SECOND;
    assert_int_equal(ack_status(&a, 100, NO_GATE, now), 100); // the first word, at once
    ack_end(&a, 200, true);
    assert_int_equal(ack_status(&a, 100, NO_GATE, now + SECOND), 0);
    assert_int_equal(ack_status(&a, 200, NO_GATE, now + SECOND), 200);
    ack_end(&a, 300, true);
    assert_int_equal(ack_status(&a, 300, 250, now + 2 * SECOND), 250); // a sink is behind
    assert_int_equal(ack_status(&a, 300, 250, now + 3 * SECOND), 0);
    assert_int_equal(ack_status(&a, 300, 300, now + 3 * SECOND), 300);
}

static void never_back_and_never_beyond(void **state)
{
    (void)state;
    struct ack a = started();
    int64_t now = 1000 * SECOND;
    assert_int_equal(ack_status(&a, 0, NO_GATE, now), 90); // where the slot is already
    ack_end(&a, 200, true);
    assert_int_equal(ack_status(&a, 5000, NO_GATE, now + SECOND), 200); // never sent to us
    assert_int_equal(ack_status(&a, 150, 120, now + 30 * SECOND), 200);
}

static void at_most_every_ten_milliseconds(void **state)
{
    (void)state;
    struct ack a = started();
    int64_t now = 1000 * SECOND;
    assert_int_equal(ack_status(&a, 100, NO_GATE, now), 100);
    ack_end(&a, 200, true);
    assert_int_equal(ack_status(&a, 200, NO_GATE, now + 9999), 0);
    assert_int_equal(ack_deadline(&a, 200, NO_GATE, false), now + 10000);
    assert_int_equal(ack_status(&a, 200, NO_GATE, now + 10000), 200);
    // Asked again and again with nothing new, as in a shutdown that waits for somebody else.
    ack_keepalive(&a, 200, true, false, now);
    assert_int_equal(ack_status(&a, 200, NO_GATE, now + 15000), 0);
    assert_int_equal(ack_status(&a, 200, NO_GATE, now + 20000), 200);
}

static void unasked_on_a_timer(void **state)
{
    (void)state;
    struct ack a = started();
    int64_t now = 1000 * SECOND;
    ack_status(&a, 100, NO_GATE, now);
    assert_int_equal(ack_deadline(&a, 100, NO_GATE, false), now + 5 * SECOND);
    assert_int_equal(ack_status(&a, 100, NO_GATE, now + 5 * SECOND - 1), 0);
    assert_int_equal(ack_status(&a, 100, NO_GATE, now + 5 * SECOND), 100);
    ack_init(&a, 100, 90, 2 * SECOND, now); // a short wal_sender_timeout
    ack_status(&a, 100, NO_GATE, now);
    assert_int_equal(ack_status(&a, 100, NO_GATE, now + SECOND / 2), 100);
}

static void idle_traffic_becomes_progress(void **state)
{
    (void)state;
    struct ack a = started();
    int64_t now = 1000 * SECOND;
    assert_int_equal(ack_progress(&a, false, now), 0); // nothing new
    ack_keepalive(&a, 150, false, false, now);
    assert_int_equal(ack_progress(&a, false, now), 150); // the first at once
    ack_keepalive(&a, 160, false, false, now);
    assert_int_equal(ack_progress(&a, false, now + SECOND - 1), 0);
    assert_true(ack_deadline(&a, 100, NO_GATE, false) <= now); // the first status is due
    assert_int_equal(ack_progress(&a, false, now + SECOND), 160);
    assert_int_equal(ack_progress(&a, false, now + 9 * SECOND), 0);
    // It is acknowledged when it is durable, not before.
    assert_int_equal(ack_status(&a, 100, NO_GATE, now + 9 * SECOND), 100);
    assert_int_equal(ack_status(&a, 160, NO_GATE, now + 10 * SECOND), 160);
}

static void transactions_carry_it_themselves(void **state)
{
    (void)state;
    struct ack a = started();
    int64_t now = 1000 * SECOND;
    ack_keepalive(&a, 150, false, true, now);
    assert_int_equal(ack_progress(&a, true, now), 0); // not inside a transaction
    ack_end(&a, 200, true);
    assert_int_equal(ack_progress(&a, false, now), 0); // its end says more
    ack_end(&a, 210, false);                           // one without a change of ours
    assert_int_equal(ack_progress(&a, false, now), 210);
}

static void a_stopping_server_is_not_kept_waiting(void **state)
{
    (void)state;
    struct ack a = started();
    int64_t now = 1000 * SECOND;
    ack_keepalive(&a, 150, false, false, now);
    assert_int_equal(ack_progress(&a, false, now), 150);
    ack_status(&a, 150, NO_GATE, now);
    ack_keepalive(&a, 160, true, false, now); // its last record, and it wants an answer
    assert_int_equal(ack_progress(&a, false, now + 9999), 0);
    assert_int_equal(ack_deadline(&a, 150, NO_GATE, false), now + 10000);
    assert_int_equal(ack_progress(&a, false, now + 10000), 160);
    assert_int_equal(ack_status(&a, 160, NO_GATE, now + 10000), 160);
}

// The server asks every 10 ms until `until`; true when we are in its way.
static bool asked(struct ack *a, lsn_t gate, int64_t *now, int64_t until)
{
    for (; *now < until; *now += ACK_INTERVAL_US) {
        ack_keepalive(a, 200, true, false, *now);
        if (ack_in_the_way(a))
            return true;
        ack_status(a, 200, gate, *now);
    }
    return false;
}

static void a_stopping_server_does_not_wait_for_a_sink(void **state)
{
    (void)state;
    struct ack a = started();
    int64_t now = 1000 * SECOND, slow = now + 5 * SECOND;
    ack_end(&a, 200, true);
    // A sink that moves is waited for.
    for (lsn_t gate = 150; now < slow; gate++)
        assert_false(asked(&a, gate, &now, now + ASKED_LONG_US / 2));
    assert_true(asked(&a, 160, &now, now + 2 * ASKED_LONG_US));
}

static void a_server_that_only_asks_is_not_left(void **state)
{
    (void)state;
    struct ack a = started();
    int64_t now = 1000 * SECOND;
    ack_end(&a, 200, true);
    for (int i = 0; i < 100; i++, now += SECOND / 2) { // an idle one, as wal_sender_timeout says
        ack_keepalive(&a, 200, true, false, now);
        assert_false(ack_in_the_way(&a));
        ack_status(&a, 200, 150, now);
    }
    assert_false(asked(&a, NO_GATE, &now, now + 10 * SECOND)); // nothing is held back
}

static void what_is_too_far_is_not_believed(void **state)
{
    (void)state;
    struct ack a;
    struct err e;
    ack_init(&a, 0x1000, 0x1000, 0, 0);
    assert_int_equal(ack_check(&a, UINT64_MAX, &e), 0); // nothing is known
    a.far = 0x1000 + FAR_BYTES;
    assert_int_equal(ack_check(&a, a.far, &e), 0);
    assert_int_equal(ack_check(&a, a.far + 1, &e), -1);
    assert_int_equal(e.class, ERR_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_durable),
        cmocka_unit_test(never_back_and_never_beyond),
        cmocka_unit_test(at_most_every_ten_milliseconds),
        cmocka_unit_test(unasked_on_a_timer),
        cmocka_unit_test(idle_traffic_becomes_progress),
        cmocka_unit_test(transactions_carry_it_themselves),
        cmocka_unit_test(a_stopping_server_is_not_kept_waiting),
        cmocka_unit_test(a_stopping_server_does_not_wait_for_a_sink),
        cmocka_unit_test(a_server_that_only_asks_is_not_left),
        cmocka_unit_test(what_is_too_far_is_not_believed),
    };
    return cmocka_run_group_tests_name("ack", tests, NULL, NULL);
}
