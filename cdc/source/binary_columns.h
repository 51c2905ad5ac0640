// Columns that stand in the way of binary values. One whose type we cannot read in binary form (a
// type of an extension, a name of what only the server knows) makes this connection ask for text,
// which loses nothing. One whose value the server itself could not send, an array or a composite of
// a type without a send function, would end the stream at its first row: that is refused.
#pragma once

#include "source/preflight.h"

// Reports such columns of the published tables, or of those that a publication is about to be made
// for, and sets p->as_text. Where that is set, without --binary, and before 14, it asks nothing.
// -1: no answer.
int binary_columns_check(struct preflight *p, struct err *e) MUST_CHECK;
