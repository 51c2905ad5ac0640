// Whose history a journal holds: the identity file.
#pragma once

#include "journal/inside.h"

#define IDENTITY_FILE "identity"

// Fills j->id and j->lineage; has_id false when there is no file yet.
int identity_load(struct journal *j, struct err *e) MUST_CHECK;
// Makes them durable, then the journal's. Not locked.
int identity_set(struct journal *j, const struct journal_identity *id, const struct lineage *l,
                 struct err *e) MUST_CHECK;
// The stream id that a generation of this lineage has.
uint64_t identity_stream_id(const struct lineage *l, const char *name, uint32_t generation);
// `now`, the server's history, and what `old` knew beside it.
void timelines_merge(struct timelines *old, const struct timelines *now);
void timelines_add(struct timelines *t, uint32_t timeline, lsn_t end);
