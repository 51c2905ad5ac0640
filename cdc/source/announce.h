// A relation version stands in the stream before the first change that uses it, and where it is
// another shape than consumers were told last, so does a schema change.
#pragma once

#include "journal/journal.h"

// Puts both into the open transaction (or run of existing rows), whose next change must use r. Not
// part of the transaction's hash: decoded again it is the same whether or not they are there.
void announce(struct journal *j, struct batch_builder *bb, const struct relation *r);
