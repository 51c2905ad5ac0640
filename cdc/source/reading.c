#include "source/reading.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#define WINDOW_US     1000  // to notice a flood
#define LULL_US       20000 // to notice its end; less may only mean that a side was descheduled
#define FLOOD_UNITS   16    // messages (or KiB) a millisecond that make one
#define PAUSE_US      150
#define PAUSE_TCP_US  10000
#define PAUSE_OPEN_US 40000 // the same, inside of a transaction that cannot be delivered yet
#define ENOUGH_BYTES  4096

void reading_attach(struct reading *r, int fd, int64_t now)
{
    struct sockaddr_storage us = {0};
    socklen_t n = sizeof us;
    *r = (struct reading){.window_at = now};
    r->local = getsockname(fd, (struct sockaddr *)&us, &n) == 0 && us.ss_family == AF_UNIX;
}

void reading_round(struct reading *r, int64_t now)
{
    int64_t elapsed = now - r->window_at;
    if (elapsed < (r->flood_since ? LULL_US : WINDOW_US) && !r->caught_up)
        return;
    uint64_t units = r->messages + r->bytes / 1024;
    bool flood = !r->caught_up && units * 1000 >= (uint64_t)elapsed * FLOOD_UNITS;
    if (flood != (r->flood_since != 0))
        r->flood_since = flood ? r->window_at : 0;
    r->window_at = now;
    r->messages = r->bytes = 0;
    r->caught_up = false;
}

bool reading_enough(const struct reading *r, int fd, size_t bytes)
{
    int waiting = 0;
    // A part of a large message completes nothing, but more of it waits.
    return r->flood_since && bytes < ENOUGH_BYTES && ioctl(fd, FIONREAD, &waiting) == 0 &&
           waiting < ENOUGH_BYTES;
}

int64_t reading_pause_us(const struct reading *r, int64_t now)
{
    if (!r->flood_since)
        return 0;
    int64_t max = r->local ? PAUSE_US : r->open ? PAUSE_OPEN_US : PAUSE_TCP_US;
    int64_t pause = (now - r->flood_since) / 16;
    return pause < PAUSE_US ? PAUSE_US : pause > max ? max : pause;
}
