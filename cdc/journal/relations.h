// The file of relation versions: every shape that a table ever had in this stream, appended and
// synced before a batch that uses it is written or seen.
//
//   [header 16 bytes][record header 24 bytes, Relation message, padding to 8 n] ..
#pragma once

#include "journal/file_ops.h"
#include "proto/catalog.h"

#include <pthread.h>
#include <stdatomic.h>

struct relations_file {
    int fd;
    const char *dir;
    pthread_mutex_t lock;  // around what follows, and the writing
    uint64_t end;          // where the next record goes
    _Atomic uint32_t kept; // versions in the file, synced
};

// Reads all versions into `catalog`, in order. A torn last record is cut (never used: see above),
// unless read_only, where it is ignored. read_only without a file: an empty catalog. used: batches
// are kept, whose versions must be here; a file that was not even begun is refused.
int relations_open(struct relations_file *rf, int dirfd, const char *dir, bool read_only, bool used,
                   struct catalog *catalog, struct err *e) MUST_CHECK;
void relations_close(struct relations_file *rf);
// Appends what the catalog has and the file has not. Durable when it returns. A full disk is
// ERR_RETRY. Any thread.
int relations_sync(struct relations_file *rf, const struct catalog *catalog,
                   struct err *e) MUST_CHECK;
// Whether relations_sync has something to do.
bool relations_behind(const struct relations_file *rf, const struct catalog *catalog);
