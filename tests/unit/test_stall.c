// A want of room: said when it lasts, not in the ebb and flow of a drain.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/stall.h"

#define NOW INT64_C(3600000000) // a clock's time

static const char FULL[] = "the disk is full", SLOW[] = "the disk is slow";

static void flow_control_is_not_said(void **state)
{
    (void)state;
    struct stall s = {0};
    for (int64_t now = NOW; now < NOW + 10 * STALL_US; now += STALL_US) {
        assert_false(stall_set(&s, SLOW, now));
        assert_true(s.since == now);
        assert_false(stall_set(&s, SLOW, now + STALL_US - 1));
        assert_false(stall_set(&s, NULL, now + STALL_US));
        assert_true(s.since == 0 && !s.said);
    }
}

static void what_lasts_is_said_once(void **state)
{
    (void)state;
    struct stall s = {0};
    assert_true(stall_deadline(&s) == INT64_MAX);
    assert_false(stall_set(&s, FULL, NOW));
    assert_true(stall_deadline(&s) == NOW + STALL_US);
    assert_true(stall_set(&s, FULL, NOW + STALL_US));
    assert_ptr_equal(s.said, FULL);
    assert_true(stall_deadline(&s) == INT64_MAX);
    assert_false(stall_set(&s, FULL, NOW + 2 * STALL_US));
    assert_true(stall_set(&s, SLOW, NOW + 3 * STALL_US)); // another cause
    assert_ptr_equal(s.said, SLOW);
    assert_true(stall_set(&s, NULL, NOW + 4 * STALL_US));
    assert_null(s.said);
    assert_false(stall_set(&s, NULL, NOW + 5 * STALL_US));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flow_control_is_not_said),
        cmocka_unit_test(what_lasts_is_said_once),
    };
    return cmocka_run_group_tests_name("stall", tests, NULL, NULL);
}
