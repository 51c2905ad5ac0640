// Reads chunks of existing rows: a pool of threads, each with an ordinary connection of its own,
// made when there is something to read and closed when there was nothing for a while. Never waits
// for the source's thread, nor it for them.
#pragma once

#include "source/snapshot/chunk.h"

#define CHUNK_CONNECTIONS_MAX 32

struct chunk_reader_options {
    const struct source_options *source; // snapshot_connections, snapshot_rate
    void (*wake)(void *arg);             // a chunk is ready; called on any thread
    void *arg;
};

struct chunk_reader;

struct chunk_reader *chunk_reader_new(const struct chunk_reader_options *o);
void chunk_reader_free(struct chunk_reader *r); // as cancel; NULL is fine
// From now on connections go to the server of c.
void chunk_reader_follow(struct chunk_reader *r, const struct connection *c);
// Queues; takes over what the order owns.
void chunk_reader_order(struct chunk_reader *r, struct chunk_order *o);
// A chunk that is ready, in any order; NULL: none is. The caller frees it.
struct chunk *chunk_reader_take(struct chunk_reader *r);
// How many orders are not answered yet (CHUNK_MORE does not answer), and how many threads there
// are: more orders than threads wait in the queue.
size_t chunk_reader_pending(struct chunk_reader *r);
size_t chunk_reader_threads(const struct chunk_reader *r);
// Forgets every order and every chunk that was not taken, and gives up what is being read. Returns
// when no thread looks at an order any more: plans may be freed then.
void chunk_reader_cancel(struct chunk_reader *r);
