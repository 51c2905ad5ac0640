// The file of relation versions: every shape that a table ever had in this stream, appended and
// synced before a batch uses it.
//
//   [header 16 bytes][record header 24 bytes, Relation message, padding to 8 n] ..
#pragma once

#include "journal/file_ops.h"
#include "proto/catalog.h"

struct relations_file {
    int fd;
    uint64_t end; // where the next record goes
    const char *dir;
};

// Reads all versions into `catalog`, in order. A torn last record is cut (never used: see above),
// unless read_only, where it is ignored. read_only without a file: an empty catalog.
int relations_open(struct relations_file *rf, int dirfd, const char *dir, bool read_only,
                   struct catalog *catalog, struct err *e) MUST_CHECK;
void relations_close(struct relations_file *rf);
// Durable when it returns. A full disk is ERR_RETRY.
int relations_append(struct relations_file *rf, const struct relation *r, struct err *e) MUST_CHECK;
