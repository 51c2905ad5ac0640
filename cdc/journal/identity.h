// Whose history a journal holds: the identity file.
#pragma once

#include "journal/inside.h"

#define IDENTITY_FILE "identity"

// Fills j->id and what belongs to it; has_id false when there is no file yet.
int identity_load(struct journal *j, struct err *e) MUST_CHECK;
