// The replication slot: its row in pg_replication_slots, and making it.
#pragma once

#include "source/connect/connection.h"

struct slot {
    bool exists, logical, temporary, active, two_phase, synced, lost;
    char plugin[64], database[64];
    char reason[80]; // why it was invalidated
    int pid;         // who reads it; 0: nobody
    bool failover;   // 17: standbys can carry it on
    lsn_t restart, confirmed;
};

int slot_read(struct connection *sql, const char *name, struct slot *ret_slot,
              struct err *e) MUST_CHECK;
// Whether it can be streamed from `database`, but for having been lost; -1 says why not and what to
// do. ERR_RETRY: a standby's, until that is promoted.
int slot_validate(const struct slot *s, const char *name, const char *database,
                  struct err *e) MUST_CHECK;
// Says why one with `lost` set is.
void slot_why_lost(const struct slot *s, const char *name, struct err *ret_why);
bool slot_name_valid(const char *name);
// Drops one that nobody reads. One that is gone already is as good.
int slot_drop_lost(struct connection *sql, const char *name, struct err *e) MUST_CHECK;
// Creates it over a walsender connection, failover-enabled where the server can (17 and newer, no
// standby); one that appears meanwhile is as good. Waits as long as transactions that run now take.
int slot_create(struct connection *stream, const char *name, struct err *e) MUST_CHECK;
