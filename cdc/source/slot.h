// The replication slot: its row in pg_replication_slots, and making it.
#pragma once

#include "source/connection.h"

struct slot {
    bool exists, logical, temporary, active, two_phase, synced, lost;
    char plugin[64], database[64];
    char reason[80]; // why it was invalidated
    lsn_t restart, confirmed;
};

int slot_read(struct connection *sql, const char *name, struct slot *ret_slot,
              struct err *e) MUST_CHECK;
// Whether it can be streamed from `database`; -1 says why not and what to do.
int slot_validate(const struct slot *s, const char *name, const char *database,
                  struct err *e) MUST_CHECK;
bool slot_name_valid(const char *name);
// Creates it over a walsender connection, failover-enabled where the server can (17 and newer, no
// standby); one that appears meanwhile is as good. Waits as long as transactions that run now take.
int slot_create(struct connection *stream, const char *name, struct err *e) MUST_CHECK;
