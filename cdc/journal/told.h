// The file of what consumers were told: which relation version of each table the stream announced
// last, and where. A table that then has another shape is told of as a schema change, also after a
// restart, and once.
//
//   [record 32 bytes] ..
//
// A record is written when the announcement goes into a batch, which may be lost or cut off again:
// what stands above the journal's last position then is void. That is said, and synced, before
// anything is appended: when the journal is opened, and when a connection ends. Records are not
// synced: what a power cut takes is announced once more, and so is every table when the file is
// gone, old or damaged. Then it is thrown away.
#pragma once

#include "base/position.h"
#include "proto/catalog.h"

struct telling { // an announcement
    uint32_t id;
    struct position at;
};

struct told_table;

struct told {
    int fd; // -1: read only
    const char *dir;
    const struct catalog *catalog;
    uint64_t end;            // of the file
    struct buf unwritten;    // records for which the disk had no room
    struct telling *list;    // what is not void, in the order of the stream
    size_t n, cap;           //
    struct told_table *oid;  // the newest of each table, by OID ..
    struct told_table *name; // .. and by name
};

// After the catalog was loaded.
int told_open(struct told *t, int dirfd, const char *dir, bool read_only,
              const struct catalog *catalog, struct err *e) MUST_CHECK;
void told_close(struct told *t);
// A full disk is made up for at the next call; e is then ERR_RETRY.
int told_add(struct told *t, uint32_t id, struct position at, struct err *e) MUST_CHECK;
// What stands above `last` was lost. Durable when it returns.
int told_void(struct told *t, struct position last, struct err *e) MUST_CHECK;
// The version told last: of the table with this OID; of the table that has this name by what was
// told. NULL: none.
const struct relation *told_by_oid(const struct told *t, uint32_t oid);
const struct relation *told_by_name(const struct told *t, const char *table);
