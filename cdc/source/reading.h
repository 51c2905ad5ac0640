// How eagerly to read. A walsender writes a packet a message; a reader that is woken by each one
// costs both sides a context switch a row. So while data floods in, the reader pauses before it
// reads again, and lets it gather; an idle or a paced stream is read at once.
#pragma once

#include "base/base.h"

struct reading {
    bool tcp;
    bool bulk;         // pausing between rounds
    int64_t window_at; // since when the next two count
    uint64_t messages, bytes;
};

// A new socket: its buffer and its kind.
void reading_attach(struct reading *r, int fd, int64_t now);
// A round of reading has drained the socket.
void reading_round(struct reading *r, int fd, int64_t now);
// How long to let data gather before the next round, at most; 0: read as soon as there is any.
int64_t reading_pause_us(const struct reading *r);
