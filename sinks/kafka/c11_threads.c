// ThreadSanitizer knows POSIX threads only, and librdkafka uses C11's: its first thread would crash
// in our callbacks. Only in builds for it this leads the ones to the others. (In glibc they are the
// same below.)
#include "base/base.h"

#include <errno.h>
#include <pthread.h>
#include <threads.h>

#define EXPORTED __attribute__((visibility("default")))

struct c11_start {
    thrd_start_t function;
    void *arg;
};

static void *c11_main(void *arg)
{
    struct c11_start start = *(struct c11_start *)arg;
    free(arg);
    return (void *)(intptr_t)start.function(start.arg);
}

EXPORTED int thrd_create(thrd_t *t, thrd_start_t function, void *arg)
{
    struct c11_start *start = xmalloc(sizeof *start);
    *start = (struct c11_start){function, arg};
    return pthread_create(t, NULL, c11_main, start) == 0 ? thrd_success : thrd_error;
}

EXPORTED int thrd_join(thrd_t t, int *ret_result)
{
    void *result;
    if (pthread_join(t, &result) != 0)
        return thrd_error;
    if (ret_result)
        *ret_result = (int)(intptr_t)result;
    return thrd_success;
}

EXPORTED int thrd_detach(thrd_t t)
{
    return pthread_detach(t) == 0 ? thrd_success : thrd_error;
}

// Only what waits and wakes: the rest needs no watching.
EXPORTED int mtx_lock(mtx_t *m)
{
    return pthread_mutex_lock((pthread_mutex_t *)m) == 0 ? thrd_success : thrd_error;
}

EXPORTED int mtx_unlock(mtx_t *m)
{
    return pthread_mutex_unlock((pthread_mutex_t *)m) == 0 ? thrd_success : thrd_error;
}

EXPORTED int cnd_wait(cnd_t *c, mtx_t *m)
{
    return pthread_cond_wait((pthread_cond_t *)c, (pthread_mutex_t *)m) == 0 ? thrd_success
                                                                             : thrd_error;
}

EXPORTED int cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *until)
{
    int r = pthread_cond_timedwait((pthread_cond_t *)c, (pthread_mutex_t *)m, until);
    return r == 0 ? thrd_success : r == ETIMEDOUT ? thrd_timedout : thrd_error;
}

EXPORTED int cnd_signal(cnd_t *c)
{
    return pthread_cond_signal((pthread_cond_t *)c) == 0 ? thrd_success : thrd_error;
}

EXPORTED int cnd_broadcast(cnd_t *c)
{
    return pthread_cond_broadcast((pthread_cond_t *)c) == 0 ? thrd_success : thrd_error;
}
