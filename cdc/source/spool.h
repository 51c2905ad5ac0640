// Spools: what the server sends of transactions that are still open, kept until each of them is
// committed or aborted. One spool a top-level transaction: its messages in the order of arrival, in
// memory first, then in a file (0600, in a folder of its own with 0700) that has no name any more
// once it is open, so that nothing is left of it whatever ends the process.
//
// Aborted subtransactions. All of a transaction's messages come in the order of its WAL. When a
// subtransaction is aborted, everything since its first message is of its subtree; so it is enough
// to know where each one that may still be aborted began. That is a stack: xids are given to
// parents before their children, and a message of X says that whatever has a higher xid, and was
// seen before, ended inside of X.
//
// Logical messages carry the top-level xid, whatever emitted them. So when a subtransaction is
// aborted that is not known here, or began just behind one, a message that stays might be one of
// those rolled back. It is not guessed: that is a failure as those below.
//
// Limits: `memory_bytes` for all spools together (messages go to files; when the stacks alone are
// larger, that is a failure), `disk_bytes` for their files. A full disk, a failed write and a limit
// are ERR_RETRY: the caller gives up the connection and asks for no streaming on the next one.
#pragma once

#include "base/buf.h"
#include "base/err.h"

// More than a server has open at once: 2^18 sessions, and as many prepared transactions.
#define SPOOLS_MAX (1u << 19)

struct spool;  // of one transaction
struct spools; // of a connection

struct spools_options {
    const char *dir;     // made when the first file is needed; NULL: memory only (tests)
    size_t memory_bytes; // 0: unlimited
    uint64_t disk_bytes; // 0: unlimited
};

struct spools *spools_new(const struct spools_options *o);
void spools_free(struct spools *ss);
// Throws all spools away: the connection is gone, and each open transaction comes again.
void spools_clear(struct spools *ss);
size_t spools_count(const struct spools *ss);
// NULL: no such transaction is open.
struct spool *spools_find(struct spools *ss, uint32_t xid);
// The spool of a transaction, an empty one when there is none.
struct spool *spools_open(struct spools *ss, uint32_t xid);
void spools_close(struct spools *ss, struct spool *s);

// What a spool keeps: one message.
struct spooled {
    uint32_t arrival;     // whatever the caller gave
    struct slice message; // valid until the next call for this spool
};

// Appends `kind` and `body` as one message. subxid: of the subtransaction that it is of, which may
// be the top-level xid; 0: it is not known.
int spool_append(struct spool *s, uint32_t subxid, uint32_t arrival, uint8_t kind,
                 struct slice body, struct err *e) MUST_CHECK;
// Forgets what a subtransaction and its subtree said. One that said nothing: nothing happens.
int spool_abort(struct spool *s, uint32_t subxid, struct err *e) MUST_CHECK;
// Reads from the beginning, each message once; nothing is appended any more once that has begun.
// 1: a message; 0: that was all; -1: ERR_RETRY, the file could not be read.
int spool_next(struct spool *s, struct spooled *ret_m, struct err *e) MUST_CHECK;

uint32_t spool_xid(const struct spool *s);
uint64_t spool_bytes(const struct spool *s); // of all its messages
