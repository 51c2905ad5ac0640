// Waiting without being deaf: for a file descriptor, while a stop is noticed and what must not wait
// (standby status) is done in between.
#pragma once

#include "base/base.h"

#include <stdatomic.h>

struct waiter {
    int wake_fd; // eventfd: source_stop, source_wake
    _Atomic bool *stopped;
    int64_t (*tick)(void *arg); // or NULL; does what is due, says when it must be called again
    void *arg;
};

enum wait_result { WAIT_READY, WAIT_TIMEOUT, WAIT_STOPPED };

// events as of poll. deadline_us: clock_mono_us, INT64_MAX: none; a negative fd only waits.
enum wait_result waiter_wait(struct waiter *w, int fd, short events, int64_t deadline_us);
// Sleeps until something happens on one of the fds or until the deadline, with the kernel's full
// resolution; the wake fd is emptied.
void waiter_sleep(struct waiter *w, int fd, short events, int fd2, short events2,
                  int64_t deadline_us, short *ret_revents, short *ret_revents2);
