// Positions: where a change stands in the source's history, and the cursor that names it to
// clients.
#pragma once

#include "base/buf.h"
#include "base/err.h"

typedef uint64_t lsn_t; // a WAL position; 0 is invalid

#define LSN_TEXT_MAX 18 // "FFFFFFFF/FFFFFFFF" and NUL
// "%X/%X" into buf (LSN_TEXT_MAX bytes); returns buf.
const char *lsn_text(lsn_t lsn, char *buf);
#define LSN_FMT      "%X/%X"
#define LSN_ARG(lsn) (unsigned)((lsn) >> 32), (unsigned)((lsn)&0xffffffff)
// False unless text is exactly one LSN.
bool lsn_parse(const char *text, lsn_t *ret_lsn);

// A position that the server gives as where it writes next may be the first usable byte of a WAL
// page. Nothing ends in the page's head (of 40 bytes at most), and the stream says where the last
// record ended: that is before the head.
static inline lsn_t lsn_record_end(lsn_t lsn)
{
    return lsn % 8192 <= 40 ? lsn - lsn % 8192 : lsn;
}

// (commit LSN, ordinal of the change in its transaction).
struct position {
    lsn_t lsn;
    uint64_t ordinal;
};

// The ordinal behind the last change of a transaction: having (L, ORDINAL_END) is having all of L.
// Above it, from ORDINAL_ASIDE on, stands what does not come from WAL: rows that a snapshot read,
// marks. It has been added after that transaction, and before whatever commits next.
#define ORDINAL_END   ((UINT64_C(1) << 40) - 1)
#define ORDINAL_ASIDE (UINT64_C(1) << 40)

static inline int position_cmp(struct position a, struct position b)
{
    if (a.lsn != b.lsn)
        return a.lsn < b.lsn ? -1 : 1;
    return a.ordinal == b.ordinal ? 0 : a.ordinal < b.ordinal ? -1 : 1;
}

// "Everything whose commit begins before lsn": a commit can begin exactly at lsn, so one before it.
static inline struct position position_before(lsn_t lsn)
{
    return (struct position){lsn ? lsn - 1 : 0, ORDINAL_END};
}

// The first free position for what does not come from WAL, behind `last`, where something ends.
static inline struct position position_aside(struct position last)
{
    return (struct position){last.lsn,
                             last.ordinal < ORDINAL_ASIDE ? ORDINAL_ASIDE : last.ordinal + 1};
}

// What a client holds. `attempt` tells apart two decodings of one transaction (Begin.attempt); it
// matters only to a cursor inside that transaction.
struct cursor {
    uint64_t stream_id;
    uint32_t timeline;
    struct position at; // the last position that the holder has
    uint32_t attempt;
};

#define CURSOR_TEXT_MAX 72
// "<stream id, 16 hex>.<timeline>.<lsn>.<ordinal>[.<attempt>]", all hex; returns its length.
size_t cursor_text(const struct cursor *c, char buf[CURSOR_TEXT_MAX]);
// False unless the n bytes are exactly one cursor.
bool cursor_parse(const char *text, size_t n, struct cursor *ret_c);
