#include "source/offline/offline.h"

#include <sys/eventfd.h>
#include <unistd.h>

void offline_init(struct offline *o)
{
    *o = (struct offline){.waiter = {.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)}};
    CHECK(o->waiter.wake_fd >= 0);
    o->waiter.stopped = &o->stopped;
}

void offline_fini(struct offline *o)
{
    close(o->waiter.wake_fd);
}
