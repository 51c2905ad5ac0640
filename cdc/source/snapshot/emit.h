// Puts marks and existing rows into the journal, behind what is there: in batches that hold nothing
// else. To be called between transactions only, with nothing whole left in the stream's builder.
#pragma once

#include "journal/journal.h"

struct emitter;

struct emitter *emitter_new(struct journal *j, size_t batch_bytes);
void emitter_free(struct emitter *m);
// Consumers may have been shown positions up to here that this journal lost (it was killed before
// they were written), or that another one showed: what is put in below them would be passed over by
// whoever resumes there. Nothing is appended before the stream has come so far.
void emitter_shown(struct emitter *m, lsn_t lsn);
// The stream is past this LSN; what lies before it is in the journal.
void emitter_passed(struct emitter *m, lsn_t passed);
// Whether something may be appended now. Not while a transaction that was cut has to come again: a
// reader inside it would take rows put before it for old ones.
bool emitter_ready(const struct emitter *m);
// Where the next mark will stand.
struct position emitter_next(const struct emitter *m);
// All return the position of what was appended last. rows: END; reason: or NULL.
struct position emitter_mark(struct emitter *m, enum snapshot_step step, const char *table,
                             uint64_t rows, const char *reason);
// A run of rows: any number of emitter_row, then emitter_end. The version is announced in front of
// the first row where `announce` says so.
void emitter_begin(struct emitter *m, const struct relation *r, bool announce);
void emitter_row(struct emitter *m, const struct change *c);
struct position emitter_end(struct emitter *m);
