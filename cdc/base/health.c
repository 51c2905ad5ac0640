#include "base/health.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <stdio.h>

static const char *const names[HEALTH_STATES] = {"starting", "live", "stale", "detached", "down"};

void health_init(struct health *h)
{
    *h = (struct health){.lock = PTHREAD_MUTEX_INITIALIZER, .since_us = clock_wall_us()};
    for (size_t i = 0; i < HEALTH_STATES; i++) {
        AUTO_BUF struct buf labels = {0};
        metrics_label(&labels, "state", names[i]);
        h->metrics[i] = metric_new(METRIC_GAUGE, "rowcast_source_state",
                                   "1 for the state that the source is in, 0 for the others.",
                                   buf_cstr(&labels), 1);
        metric_set(h->metrics[i], i == HEALTH_STARTING);
    }
}

void health_set(struct health *h, enum health_state state, const char *text)
{
    pthread_mutex_lock(&h->lock);
    bool changed = h->state != state;
    if (changed) {
        metric_set(h->metrics[h->state], 0);
        metric_set(h->metrics[state], 1);
        h->state = state;
        h->since_us = clock_wall_us();
    }
    if (strncmp(h->text, text, sizeof h->text - 1) != 0) {
        snprintf(h->text, sizeof h->text, "%s", text);
        changed = true;
    }
    for (size_t i = 0; changed && i < HEALTH_WATCHERS_MAX; i++) {
        if (h->watchers[i].wake)
            h->watchers[i].wake(h->watchers[i].arg);
    }
    pthread_mutex_unlock(&h->lock);
}

enum health_state health_get(struct health *h, int64_t *ret_since_us, char *text, size_t size)
{
    pthread_mutex_lock(&h->lock);
    enum health_state state = h->state;
    if (ret_since_us)
        *ret_since_us = h->since_us;
    if (text)
        snprintf(text, size, "%s", h->text);
    pthread_mutex_unlock(&h->lock);
    return state;
}

void health_warn(struct health *h, const char *warning)
{
    pthread_mutex_lock(&h->lock);
    snprintf(h->warning, sizeof h->warning, "%s", warning);
    pthread_mutex_unlock(&h->lock);
}

void health_warning(struct health *h, char *warning, size_t size)
{
    pthread_mutex_lock(&h->lock);
    snprintf(warning, size, "%s", h->warning);
    pthread_mutex_unlock(&h->lock);
}

void health_watch(struct health *h, void (*wake)(void *arg), void *arg)
{
    pthread_mutex_lock(&h->lock);
    size_t i = 0;
    while (i < HEALTH_WATCHERS_MAX && h->watchers[i].wake)
        i++;
    CHECK(i < HEALTH_WATCHERS_MAX);
    h->watchers[i].wake = wake;
    h->watchers[i].arg = arg;
    pthread_mutex_unlock(&h->lock);
}

void health_unwatch(struct health *h, void (*wake)(void *arg), void *arg)
{
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < HEALTH_WATCHERS_MAX; i++) {
        if (h->watchers[i].wake == wake && h->watchers[i].arg == arg)
            h->watchers[i].wake = NULL;
    }
    pthread_mutex_unlock(&h->lock);
}

const char *health_state_name(enum health_state state)
{
    CHECK((size_t)state < ARRAY_LEN(names));
    return names[state];
}
