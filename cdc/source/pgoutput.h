// The decoder of pgoutput's messages: bytes in, tagged values out. Pure: no I/O, no allocation.
// All integers are big-endian; one message is exactly one XLogData payload.
#pragma once

#include "base/err.h"
#include "base/position.h"
#include "proto/tuple.h"

enum pgoutput_kind {
    PGOUTPUT_BEGIN = 'B',
    PGOUTPUT_COMMIT = 'C',
    PGOUTPUT_ORIGIN = 'O',
    PGOUTPUT_RELATION = 'R',
    PGOUTPUT_TYPE = 'Y',
    PGOUTPUT_INSERT = 'I',
    PGOUTPUT_UPDATE = 'U',
    PGOUTPUT_DELETE = 'D',
    PGOUTPUT_TRUNCATE = 'T',
    PGOUTPUT_MESSAGE = 'M',
    PGOUTPUT_STREAM_START = 'S',
    PGOUTPUT_STREAM_STOP = 'E',
    PGOUTPUT_STREAM_COMMIT = 'c',
    PGOUTPUT_STREAM_ABORT = 'A',
    PGOUTPUT_BEGIN_PREPARE = 'b',
    PGOUTPUT_PREPARE = 'P',
    PGOUTPUT_COMMIT_PREPARED = 'K',
    PGOUTPUT_ROLLBACK_PREPARED = 'r',
    PGOUTPUT_STREAM_PREPARE = 'p',
};

struct pgoutput_column {
    const char *name;
    uint32_t type_oid;
    int32_t typmod; // -1: none
    bool identity;  // part of the replica identity; set for every column under FULL
};

struct pgoutput_relation {
    uint32_t relid;
    const char *schema; // never "": pg_catalog is spelled out
    const char *name;
    char replica_identity; // 'd', 'n', 'f', 'i'
    uint16_t n;
    const struct pgoutput_column *columns;
};

// Which old row an update or a delete carries.
enum pgoutput_old { PGOUTPUT_OLD_NONE, PGOUTPUT_OLD_KEY = 'K', PGOUTPUT_OLD_FULL = 'O' };

struct pgoutput_row { // INSERT, UPDATE, DELETE
    uint32_t relid;
    enum pgoutput_old old_kind;
    struct tuple old; // DELETE, and UPDATE where old_kind says so
    struct tuple new; // INSERT, UPDATE
};

struct pgoutput_truncate {
    uint32_t n;
    bool cascade, restart_identity;
    const uint8_t *relids; // n big-endian numbers: pgoutput_truncate_relid
};

struct pgoutput_message {
    enum pgoutput_kind kind;
    uint32_t subxid; // of the subtransaction, inside a streamed segment only
    union {
        struct {           // BEGIN, COMMIT, STREAM_*, and those of two-phase commit
            lsn_t lsn;     // of the commit (prepare, abort) record
            lsn_t end_lsn; // where that record ends
            int64_t time;  // microseconds since 2000-01-01
            uint32_t xid, abort_xid;
            bool first_segment;
            const char *gid;
        } txn;
        struct {
            lsn_t lsn;
            const char *name;
        } origin;
        struct pgoutput_relation relation;
        struct {
            uint32_t oid;
            const char *schema, *name;
        } type;
        struct pgoutput_row row;
        struct pgoutput_truncate truncate;
        struct {
            bool transactional;
            lsn_t lsn;
            const char *prefix;
            struct slice content;
        } message;
    };
};

// The decoder's memory: where values of the message at hand are put, and the one thing it has to
// remember from message to message.
struct pgoutput {
    bool in_segment; // between Stream Start and Stream Stop: messages carry a subxid
    struct value old_values[COLUMNS_MAX], new_values[COLUMNS_MAX];
    struct pgoutput_column columns[COLUMNS_MAX];
};

// Decodes one message; everything in ret_m is borrowed from `bytes` and from p, until the next
// call. -1 (ERR_DATA): malformed, or followed by trailing bytes.
int pgoutput_decode(struct pgoutput *p, struct slice bytes, struct pgoutput_message *ret_m,
                    struct err *e) MUST_CHECK;
uint32_t pgoutput_truncate_relid(const struct pgoutput_truncate *t, uint32_t i);
