#include "source/connect/waiter.h"

#include "base/clock.h"

#include <poll.h>
#include <unistd.h>

void waiter_sleep(struct waiter *w, int fd, short events, int fd2, short events2,
                  int64_t deadline_us, short *ret_revents, short *ret_revents2)
{
    struct pollfd fds[3] = {{.fd = fd, .events = events},
                            {.fd = fd2, .events = events2},
                            {.fd = w->wake_fd, .events = POLLIN}};
    int64_t left = deadline_us == INT64_MAX ? 3600000000 : deadline_us - clock_mono_us();
    if (left < 0)
        left = 0;
    struct timespec t = {.tv_sec = left / 1000000, .tv_nsec = left % 1000000 * 1000};
    *ret_revents = *ret_revents2 = 0;
    if (ppoll(fds, 3, &t, NULL) <= 0)
        return; // nothing, or a signal: the caller looks at the clock
    *ret_revents = fds[0].revents;
    *ret_revents2 = fds[1].revents;
    uint64_t wakes;
    if (fds[2].revents && read(w->wake_fd, &wakes, sizeof wakes) < 0)
        return; // emptied by nobody else: cannot be
}

enum wait_result waiter_wait(struct waiter *w, int fd, short events, int64_t deadline_us)
{
    for (;;) {
        if (atomic_load(w->stopped))
            return WAIT_STOPPED;
        int64_t next = w->tick ? w->tick(w->arg) : INT64_MAX;
        short revents, unused;
        waiter_sleep(w, fd, events, -1, 0, next < deadline_us ? next : deadline_us, &revents,
                     &unused);
        if (revents)
            return WAIT_READY;
        if (clock_mono_us() >= deadline_us)
            return WAIT_TIMEOUT;
    }
}
