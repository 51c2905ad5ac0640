// The second connection: what the stream does not say about a table. Asked rarely (all tables at
// the start, then one when a Relation message brings something new), bounded in time, and never
// trusted against the stream: its answer is of now, the stream's of then.
#pragma once

#include "proto/registry.h"
#include "proto/types.h"
#include "source/connect/connection.h"

#define LOOKUP_PATIENCE_US INT64_C(2000000)

struct table_column {
    char *name;
    int16_t attnum;
    uint32_t type_oid;
    int32_t typmod;
    bool primary;  // part of the primary key
    bool identity; // part of the index that is the replica identity
};

struct table_info {
    uint32_t oid;
    char *schema, *name;
    char *root; // quoted name of the partitioned table that this is a part of, or NULL
    char replica_identity;
    bool published; // on its own, not as a part of the root; said of one table asked for by OID
    size_t n;
    struct table_column *columns; // published ones when asked for published tables
};
void table_info_fini(struct table_info *t);

struct lookup;

struct lookup *lookup_new(const struct source_options *o, struct waiter *w);
void lookup_free(struct lookup *l);
// Opens the connection unless it is open.
int lookup_connect(struct lookup *l, struct err *e) MUST_CHECK;
void lookup_disconnect(struct lookup *l);
// From now on connections go to the server of `c`, until NULL is given.
void lookup_follow(struct lookup *l, const struct connection *c);
struct connection *lookup_connection(struct lookup *l); // NULL: not connected
// A connection of somebody else's, for the questions in between. To be taken back: NULL when it was
// lost meanwhile and is closed.
void lookup_lend(struct lookup *l, struct connection *c);
struct connection *lookup_take_back(struct lookup *l, const struct connection *c) MUST_CHECK;

// One table by OID; *ret_t has oid 0 when there is none (any more).
int lookup_table(struct lookup *l, uint32_t oid, struct table_info *ret_t,
                 struct err *e) MUST_CHECK;
// Of which partitioned tables it may have been a partition when transaction `xid` changed it,
// though it is none now: those at the top of their trees that have its columns, if its entry in
// the catalog is not older than that. Quoted names, to be freed with *ret_names.
int lookup_former_roots(struct lookup *l, uint32_t oid, uint32_t xid, char ***ret_names,
                        size_t *ret_n, struct err *e) MUST_CHECK;
// Each published table (without publications: each that could be) in the order of their OIDs, until
// one gives -1. At the start: may take as long as any question then. only: of this table (quoted)
// alone, which costs little however many there are; NULL: all.
int lookup_published(struct lookup *l, const char *only,
                     int (*each)(void *arg, struct table_info *t, struct err *e), void *arg,
                     struct err *e) MUST_CHECK;
// The type if it is built in or known already; NULL otherwise.
const struct type *lookup_type(const struct lookup *l, uint32_t oid);
// Makes these types known, as far as they exist.
int lookup_types(struct lookup *l, const uint32_t *oids, size_t n, struct err *e) MUST_CHECK;
void lookup_forget_types(struct lookup *l);

// Where the server writes WAL now.
int lookup_wal_lsn(struct lookup *l, lsn_t *ret_lsn, struct err *e) MUST_CHECK;

// Asks in the background: once a connection is open, which is begun when there is none; never
// waits. Does nothing while an answer is due. The question must stay until it is answered.
void lookup_ask(struct lookup *l, const char *question);
// The socket and its events to wait for, or -1; also while no answer is due: the server may end it.
int lookup_fd(const struct lookup *l, short *ret_events);
// After the socket became ready: true when there is an answer, which the caller owns then.
bool lookup_answer(struct lookup *l, PGresult **ret_r);
// What became of the connection since the last call.
enum lookup_end {
    LOOKUP_GOES_ON, // nothing that concerns others
    LOOKUP_ENDED,   // an administrator ended the session, or all: the server stops
    LOOKUP_REFUSED, // a new one was refused: the server stops, or has just started
    LOOKUP_FAILED,  // a new one could not be made, for another cause
};
enum lookup_end lookup_end(struct lookup *l);
