// When the connection is let go, and when it is made again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/detach.h"

#define NOW    INT64_C(3600000000) // a clock's time
#define SECOND INT64_C(1000000)
#define HOUR   (3600 * SECOND)
#define MIB    (INT64_C(1) << 20)

static struct detach fresh(void)
{
    struct detach d;
    int64_t gathered;
    detach_init(&d, &(struct detach_options){300 * SECOND, HOUR, 100 * MIB});
    assert_int_equal(detach_attached(&d, 1000 * MIB, true, NOW, &gathered), DETACH_FINE);
    assert_int_equal(gathered, 0);
    return d;
}

static void a_quiet_time(void **state)
{
    (void)state;
    struct detach d = fresh(), never;
    assert_true(detach_due(&d) == NOW + 300 * SECOND);
    detach_busy(&d, NOW + 100 * SECOND);
    assert_true(detach_due(&d) == NOW + 400 * SECOND);
    detach_init(&never, &(struct detach_options){0, HOUR, 0});
    assert_true(detach_due(&never) == INT64_MAX);
}

// The schedule only looks; who asks, or finds something, wants to stay.
static void a_look_is_short(void **state)
{
    (void)state;
    int64_t gathered;
    for (int on_demand = 0; on_demand <= 1; on_demand++) {
        struct detach d = fresh();
        detach_left(&d, 1000 * MIB, NOW);
        assert_true(d.attach_at == NOW + HOUR);
        detach_attached(&d, 1000 * MIB, on_demand, NOW, &gathered);
        assert_true(detach_due(&d) == NOW + (on_demand ? 300 * SECOND : DETACH_LINGER_US));
        detach_busy(&d, NOW);
        assert_true(detach_due(&d) == NOW + 300 * SECOND);
    }
}

static void the_budget_shortens_the_schedule(void **state)
{
    (void)state;
    struct detach d = fresh();
    int64_t gathered;
    detach_left(&d, 1000 * MIB, NOW);
    assert_int_equal(detach_attached(&d, 1400 * MIB, false, NOW, &gathered), DETACH_OVER);
    assert_int_equal(gathered, 400 * MIB);
    assert_int_equal(d.every_us, HOUR / 4);
    // Within it, it grows again, up to what was asked for.
    for (int64_t every = HOUR / 2; every <= 4 * HOUR; every *= 2) {
        detach_left(&d, 1400 * MIB, NOW);
        assert_int_equal(detach_attached(&d, 1450 * MIB, false, NOW, &gathered), DETACH_FINE);
        assert_int_equal(d.every_us, every < HOUR ? every : HOUR);
    }
    detach_left(&d, 1400 * MIB, NOW);
    assert_int_equal(detach_attached(&d, INT64_C(1) << 60, false, NOW, &gathered), DETACH_OVER_MIN);
    assert_int_equal(d.every_us, DETACH_EVERY_MIN_US);
    detach_left(&d, 1400 * MIB, NOW);
    assert_int_equal(detach_attached(&d, MIB, false, NOW, &gathered), DETACH_FINE);
    assert_int_equal(gathered, 0);
}

static void the_server_gives_up_idle_slots(void **state)
{
    (void)state;
    struct detach d = fresh();
    detach_cap(&d, 0);
    assert_int_equal(d.every_us, HOUR);
    detach_cap(&d, HOUR);
    assert_int_equal(d.every_us, HOUR / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_time),
        cmocka_unit_test(a_look_is_short),
        cmocka_unit_test(the_budget_shortens_the_schedule),
        cmocka_unit_test(the_server_gives_up_idle_slots),
    };
    return cmocka_run_group_tests_name("detach", tests, NULL, NULL);
}
