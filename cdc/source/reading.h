// How eagerly to read. A walsender writes a packet a message; a reader that is woken by each one
// costs both sides a context switch a row. So while a backlog floods in, the reader lets data
// gather before it reads again; an idle or a paced stream is read at once.
//
// A flood is told by what it lacks: a walsender that is at the end of its WAL says so with a
// keepalive. The longer a flood lasts, the longer a pause may be: it delays what comes last in the
// flood by at most a sixteenth of the flood's own length.
//
// Over TCP a long pause closes the window, and the walsender's messages then join in its socket's
// buffer at a third of the cost of sending them one by one. A Unix socket holds some 280 messages,
// then its writer blocks: there a pause must be short. Measured on 2 cores (AMD EPYC, Linux 6.18,
// PostgreSQL 15.18) with the journal and one subscriber; seconds, and CPU of ours a change:
//
//                                        200,000 one-row txns   1,000,000 rows in one
//   TCP, pg_recvlogical                  2.1-3.7                6.2-8.2
//     read until nothing comes           3.1-3.5, 10 us         6.9, 0.8 us
//     SO_RCVBUF 4 MiB, SO_RCVLOWAT 256K  2.9, 1.4 us
//     autotuned, SO_RCVLOWAT 256K        2.5, 1.6 us            4.7, 0.8 us
//     pauses to 2 ms                     2.7, 2.2 us
//     pauses to 10 ms (what we do)       1.2, 1.0 us            4.2, 0.6 us
//     the same with SO_RCVBUF 64 KiB     1.1, 1.0 us            3.9, 0.6 us
//   between two network namespaces: pg_recvlogical 3.9 and 7.9; autotuned with a mark 3.0 and 7.4;
//   pauses to 10 ms 1.4 and 4.3
//   Unix socket, pg_recvlogical          1.4                    4.0-4.2
//     no pauses                          1.5, 7.3 us            4.7, 2.9 us
//     150 us (what we do)                1.3, 3.2 us            4.3, 1.2 us
//     300 us                             1.4, 3.0 us            5.0, 1.2 us
//
// A transaction that comes in parts before its commit is slower to come, at some 70 MB/s of what
// the window holds: in 10 ms it does not close, in 40 ms it does. Walsender's CPU for the million
// rows, on the same machine while others used it: 2.8 to 3.1 s with 10 ms, 2.65 to 2.7 with
// 20, 2.55 to 2.75 with 40, 2.55 to 2.7 with 80.
//
// A receive buffer of a fixed size would gain a little on one machine and lose most of the
// bandwidth of a long line; so the kernel keeps that decision.
#pragma once

#include "base/base.h"

struct reading {
    bool local;          // a Unix socket
    int64_t flood_since; // 0: none
    int64_t window_at;   // since when the following count
    uint64_t messages, bytes;
    bool caught_up; // a keepalive came
    bool open;      // what comes is of a transaction in parts: nobody gets it before its commit
};

// A new socket.
void reading_attach(struct reading *r, int fd, int64_t now);
// A round of reading has drained the socket.
void reading_round(struct reading *r, int64_t now);
// Whether to leave what comes now for the next round, after a read that completed `bytes` of
// messages: in a flood a reader would otherwise run after the walsender, message by message.
bool reading_enough(const struct reading *r, int fd, size_t bytes);
// How long to let data gather before the next round; 0: read as soon as there is any.
int64_t reading_pause_us(const struct reading *r, int64_t now);
