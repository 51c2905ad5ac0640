// A server that says nothing: when it is asked, when it is given up, and when it is only at work.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/silence.h"

#define NOW    INT64_C(3600000000) // a clock's time
#define SECOND INT64_C(1000000)
#define LIMIT  (60 * SECOND)

static struct silence asked(void)
{
    struct silence s;
    silence_init(&s, 0, LIMIT, NOW);
    silence_asked(&s, NOW);
    return s;
}

static void the_limit_is_the_servers(void **state)
{
    (void)state;
    struct silence s;
    silence_init(&s, 0, 7 * SECOND, NOW);
    assert_int_equal(s.limit_us, 7 * SECOND);
    silence_init(&s, 0, 0, NOW);
    assert_int_equal(s.limit_us, SILENCE_DEFAULT_US);
    silence_init(&s, SECOND, 7 * SECOND, NOW);
    assert_int_equal(s.limit_us, SECOND);
}

static void who_was_not_asked_owes_no_answer(void **state)
{
    (void)state;
    struct silence s;
    const struct silence_witness nobody = {0};
    silence_init(&s, 0, LIMIT, NOW);
    assert_int_equal(silence_judge(&s, &nobody, NOW + 1000 * LIMIT), SILENCE_FINE);
    assert_true(silence_deadline(&s, &nobody, NOW) == INT64_MAX);
    silence_asked(&s, NOW);
    silence_asked(&s, NOW + LIMIT / 4); // asked again: the first question counts
    assert_int_equal(silence_judge(&s, &nobody, NOW + LIMIT), SILENCE_GONE);
    silence_heard(&s, NOW + LIMIT);
    assert_int_equal(silence_judge(&s, &nobody, NOW + 1000 * LIMIT), SILENCE_FINE);
}

static void nobody_answers(void **state)
{
    (void)state;
    struct silence s = asked();
    struct silence_witness w = {
        .asked_at = NOW - SECOND, .answered_at = NOW - SECOND, .ours = true};
    assert_int_equal(silence_judge(&s, &w, NOW + LIMIT / 2 - 1), SILENCE_FINE);
    assert_true(silence_deadline(&s, &w, NOW) == NOW + LIMIT / 2 - SECOND);
    assert_int_equal(silence_judge(&s, &w, NOW + LIMIT / 2), SILENCE_LOOK);
    w.asked_at = NOW + LIMIT / 2;
    assert_int_equal(silence_judge(&s, &w, NOW + LIMIT - 1), SILENCE_FINE);
    assert_true(silence_deadline(&s, &w, NOW + LIMIT / 2) == NOW + LIMIT);
    assert_int_equal(silence_judge(&s, &w, NOW + LIMIT), SILENCE_GONE);
}

static void what_a_witness_saw(void **state)
{
    (void)state;
    struct silence s = asked();
    struct silence_witness w = {NOW + LIMIT / 2, NOW + LIMIT / 2 + SECOND, false, false};
    assert_int_equal(silence_judge(&s, &w, NOW + LIMIT), SILENCE_ENDED);
    w.ours = w.waiting = true;
    assert_int_equal(silence_judge(&s, &w, NOW + LIMIT), SILENCE_DEAF);
}

// A large transaction without anything for us: the walsender is silent for hours.
static void one_that_works_is_left_alone(void **state)
{
    (void)state;
    struct silence s = asked();
    struct silence_witness w = {NOW + LIMIT / 2, NOW + LIMIT / 2 + SECOND, true, false};
    for (int64_t now = NOW + LIMIT; now < NOW + 100 * LIMIT; now += LIMIT / 8) {
        enum silence_verdict v = silence_judge(&s, &w, now);
        if (v == SILENCE_LOOK)
            w.asked_at = w.answered_at = now;
        else
            assert_int_equal(v, SILENCE_BUSY);
    }
    assert_int_equal(silence_judge(&s, &w, w.answered_at + 2 * LIMIT), SILENCE_GONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_limit_is_the_servers),
        cmocka_unit_test(who_was_not_asked_owes_no_answer),
        cmocka_unit_test(nobody_answers),
        cmocka_unit_test(what_a_witness_saw),
        cmocka_unit_test(one_that_works_is_left_alone),
    };
    return cmocka_run_group_tests_name("silence", tests, NULL, NULL);
}
