// Reads one order on one connection, into a chunk.
#pragma once

#include "proto/row.h"
#include "source/snapshot/chunk.h"

// What a thread keeps from chunk to chunk.
struct chunk_read {
    const struct source_options *source;
    struct connection *c; // open
    bool keep;            // it can be used again; set by chunk_read_run
    uint32_t wide;        // OID of a table of which a chunk was too large: its rows' places are
                          // asked for, so that a chunk can be cut
    // Hands over a part of CHUNK_WHOLE; may wait. -1: to be given up.
    int (*deliver)(void *arg, struct chunk *part);
    void *arg;

    struct row_out out;
    struct row_map *map; // of this relation
    const struct relation *relation;
    bool has_key;
    struct value values[COLUMNS_MAX + 1];
};

enum chunk_read_result {
    CHUNK_READ_DONE,    // the status says what came of it
    CHUNK_READ_CUT,     // done, but for the insert LSN, which another connection must ask for
    CHUNK_READ_AGAIN,   // nothing: to be read again, on another connection
    CHUNK_READ_STOPPED, // given up
};

enum chunk_read_result chunk_read_run(struct chunk_read *r, struct chunk *c);
int chunk_read_insert_lsn(struct connection *c, lsn_t *ret_lsn, struct err *e) MUST_CHECK;
void chunk_read_fini(struct chunk_read *r); // not the connection
