// How eagerly to read. A walsender writes a packet a message; a reader that is woken by each one
// costs both sides a context switch a row. So while a backlog floods in, the reader lets data
// gather before it reads again; an idle or a paced stream is read at once.
//
// A flood is told by what it lacks: a walsender that is at the end of its WAL says so with a
// keepalive. The longer a flood lasts, the longer a pause may be: it delays what comes last in the
// flood by at most a sixteenth of the flood's own length.
#pragma once

#include "base/base.h"

struct reading {
    bool tcp;
    int64_t flood_since; // 0: none
    int64_t window_at;   // since when the following count
    uint64_t messages, bytes;
    bool caught_up; // a keepalive came
};

// A new socket: its buffer and its kind.
void reading_attach(struct reading *r, int fd, int64_t now);
// A round of reading has drained the socket.
void reading_round(struct reading *r, int fd, int64_t now);
// How long to let data gather before the next round, at most; 0: read as soon as there is any.
int64_t reading_pause_us(const struct reading *r, int64_t now);
