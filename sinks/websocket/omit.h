// A change that is too large for a frame, without its large values: what was left out is listed in
// Change.omitted (for a logical message: field number 2, its content). The key stays.
#pragma once

#include "proto/batch.h"

// Appends the bytes of the Change `body` without values larger than `limit` bytes.
void change_omit(struct buf *out, struct slice body, size_t limit);
