// The lines of the file: "CHECK KIND LSN ORDINAL ROUND PART ORIGIN FROM TO ROWS TABLE", numbers
// and keys in hex, CHECK the XXH3 of what follows it.
#pragma once

#include "base/position.h"

#define LINE_KINDS "IKBPQWE"

struct state_line {
    char kind;             // 'I' the head, 'K' known, 'B' begun, 'P' places, 'Q' keys, 'W' wanted,
                           // 'E' done
    struct position at;    // {0, 0}: needs no vouching
    uint32_t round;        // 'I': the generation
    uint32_t part;         // 'I': 1 when it was closed clean
    uint64_t origin;       // of the part: see job_part
    struct slice from, to; // places as 8 bytes little-endian; keys; 'W': key and exact; 'I': to is
                           // the boot id
    uint64_t rows;         // 'I': 1 when snapshots are switched on
    struct slice table;
};

void state_line_put(struct buf *out, const struct state_line *l);
// Takes the next line off *text. scratch holds what *ret_l borrows. False: none is left; a damaged
// one has kind 0.
bool state_line_next(struct slice *text, struct buf *scratch, struct state_line *ret_l);
