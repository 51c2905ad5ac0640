// How the source is doing, told by the source, read by sinks and the health endpoints.
#pragma once

#include "base/base.h"

#include <pthread.h>

enum health_state {
    HEALTH_STARTING, // never connected in this process
    HEALTH_LIVE,     // streaming
    HEALTH_STALE,    // connection lost, or reading stopped: retrying
    HEALTH_DETACHED, // let go in a quiet time; comes back by itself
    HEALTH_DOWN,     // will not come back by itself
};

#define HEALTH_STATES       (HEALTH_DOWN + 1)
#define HEALTH_WATCHERS_MAX 16

struct metric;

struct health {
    pthread_mutex_t lock;
    enum health_state state;
    int64_t since_us;   // wall clock
    char text[512];     // why, for people; no secret
    char warning[1024]; // what an operator should look after meanwhile; "": nothing
    struct metric *metrics[HEALTH_STATES];
    struct {
        void (*wake)(void *arg);
        void *arg;
    } watchers[HEALTH_WATCHERS_MAX];
};

void health_init(struct health *h);
// Sets and wakes the watchers when state or text changed.
void health_set(struct health *h, enum health_state state, const char *text);
enum health_state health_get(struct health *h, int64_t *ret_since_us, char *text, size_t size);
// What the server pays too much for, whatever the state is. Not for clients: it names sessions.
void health_warn(struct health *h, const char *warning);
void health_warning(struct health *h, char *warning, size_t size);
// wake is called from any thread and must not block.
void health_watch(struct health *h, void (*wake)(void *arg), void *arg);
void health_unwatch(struct health *h, void (*wake)(void *arg), void *arg);
const char *health_state_name(enum health_state state); // "live"
