// UTF-8, as protobuf's strings must be: no overlong form, no surrogate, nothing over U+10FFFF.
#pragma once

#include "base/buf.h"

bool utf8_valid(const void *p, size_t n);
// p's text with U+FFFD for every byte that belongs to no character.
void utf8_put_mended(struct buf *out, const void *p, size_t n);
