#include "source/reading.h"

#include <sys/socket.h>

#define WINDOW_US      1000  // to notice a flood
#define LULL_US        20000 // to notice its end; less may only mean that a side was descheduled
#define FLOOD_UNITS    16    // messages (or KiB) a millisecond that make one
#define PAUSE_MIN_US   300
#define PAUSE_TCP_US   10000
#define PAUSE_LOCAL_US 500 // a Unix socket holds some 280 messages, then its writer blocks
#define BUFFER         (4 << 20)
#define MARK           (256 << 10)

// In a flood the kernel wakes us for this many bytes, or the pause is over. (AF_UNIX ignores it.)
// A hint, as the buffer's size is: failing changes only speed.
static void set_mark(const struct reading *r, int fd, int mark)
{
    if (r->tcp)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark);
}

void reading_attach(struct reading *r, int fd, int64_t now)
{
    struct sockaddr_storage address = {0};
    socklen_t n = sizeof address;
    *r = (struct reading){.window_at = now};
    r->tcp = getsockname(fd, (struct sockaddr *)&address, &n) == 0 && address.ss_family != AF_UNIX;
    int size = BUFFER;
    if (r->tcp)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size); // cut to rmem_max
}

void reading_round(struct reading *r, int fd, int64_t now)
{
    int64_t elapsed = now - r->window_at;
    if (elapsed < (r->flood_since ? LULL_US : WINDOW_US) && !r->caught_up)
        return;
    uint64_t units = r->messages + r->bytes / 1024;
    bool flood = !r->caught_up && units * 1000 >= (uint64_t)elapsed * FLOOD_UNITS;
    if (flood != (r->flood_since != 0)) {
        r->flood_since = flood ? r->window_at : 0;
        set_mark(r, fd, flood ? MARK : 1);
    }
    r->window_at = now;
    r->messages = r->bytes = 0;
    r->caught_up = false;
}

int64_t reading_pause_us(const struct reading *r, int64_t now)
{
    if (!r->flood_since)
        return 0;
    int64_t pause = (now - r->flood_since) / 16, max = r->tcp ? PAUSE_TCP_US : PAUSE_LOCAL_US;
    return pause < PAUSE_MIN_US ? PAUSE_MIN_US : pause > max ? max : pause;
}
