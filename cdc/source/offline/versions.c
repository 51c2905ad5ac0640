#include "source/offline/versions.h"

#include <stdio.h>

// The README has the same table.
static const struct {
    int since;
    const char *what, *instead;
} LATER[] = {
    {11, "TRUNCATE in the stream", "tables that are emptied so are not heard of: use DELETE"},
    {13, "partitioned tables in publications", "their partitions are published"},
    {13, "pg_current_snapshot", "txid_current_snapshot says the same"},
    {13, "max_slot_wal_keep_size", "nothing limits the WAL that the slot keeps: watch its metric"},
    {14, "streaming of open transactions",
     "a large one comes after its commit, from the server's "
     "disk"},
    {14, "TID range scans",
     "existing rows are read in the order of the key, over one connection a table"},
    {14, "logical messages", "there are none"},
    {14, "binary values", "all come as text"},
    {15, "row filters and column lists", "--table and --exclude-column, on this side"},
    {16, "origin filters", "--origin none is refused"},
    {16, "decoding on a standby", "the source must be the primary"},
    {17, "failover slots", "a promoted standby has no slot: a gap"},
};

void versions_report(struct preflight *p)
{
    for (size_t i = 0; i < ARRAY_LEN(LATER); i++) {
        if (p->sql->version >= LATER[i].since * 10000)
            continue;
        AUTO_FREE char *object = xasprintf("not before PostgreSQL %d", LATER[i].since);
        AUTO_FREE char *cause = xasprintf("%s; here: %s", LATER[i].what, LATER[i].instead);
        p->report(p->arg, FINDING_OK, ERR_NONE, object, cause, "");
    }
}
