// Messages that wait for a client that does not read.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sinks/websocket/message.h"

// There is no connection: messages only wait.
int lws_callback_on_writable(struct lws *wsi);
int lws_callback_on_writable(struct lws *wsi)
{
    (void)wsi;
    return 0;
}

static bool first_says(struct session *s, const char *text)
{
    return strstr(buf_cstr(message_first(s)) + SCRATCH_HEADROOM, text);
}

static void change_health(struct session *s, enum health_state state)
{
    s->c->health = state;
    s->c->health_version++;
    message_health(s);
}

static void only_the_newest_health_waits(void **state)
{
    (void)state;
    struct context c = {.health = HEALTH_LIVE};
    struct session s = {.c = &c, .text = true, .last = &s.first};
    message_error(&s, "a", "journal", "it cannot be read", true);
    for (int i = 0; i < 100; i++)
        change_health(&s, i % 2 ? HEALTH_LIVE : HEALTH_STALE);
    change_health(&s, HEALTH_DOWN);
    message_unsubscribed(&s, "a");
    assert_int_equal(message_count(&s), 3);
    assert_true(first_says(&s, "{\"type\":\"error\",\"id\":\"a\",\"code\":\"journal\""));
    message_drop(&s);
    assert_true(first_says(&s, "\"state\":\"down\""));
    assert_int_equal(s.health_version, c.health_version);
    message_drop(&s);
    // One that was sent is not touched again.
    change_health(&s, HEALTH_LIVE);
    assert_true(first_says(&s, "\"type\":\"unsubscribed\""));
    message_drop(&s);
    assert_true(first_says(&s, "\"state\":\"live\""));
    message_drop(&s);
    assert_int_equal(message_count(&s), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_newest_health_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
