#include "proto/utf8.h"

#define HIGH_BITS UINT64_C(0x8080808080808080)

static bool is_tail(uint8_t c)
{
    return (c & 0xc0) == 0x80;
}

// The length of the non-ASCII character at p, of which n > 0 bytes are there; 0: none.
static size_t character(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];
    if (c >= 0xc2 && c <= 0xdf)
        return n >= 2 && is_tail(p[1]) ? 2 : 0;
    if (c >= 0xe0 && c <= 0xef) {
        uint8_t low = c == 0xe0 ? 0xa0 : 0x80, high = c == 0xed ? 0x9f : 0xbf;
        return n >= 3 && p[1] >= low && p[1] <= high && is_tail(p[2]) ? 3 : 0;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        uint8_t low = c == 0xf0 ? 0x90 : 0x80, high = c == 0xf4 ? 0x8f : 0xbf;
        return n >= 4 && p[1] >= low && p[1] <= high && is_tail(p[2]) && is_tail(p[3]) ? 4 : 0;
    }
    return 0;
}

// How many bytes from p on are ASCII.
static size_t ascii_run(const uint8_t *p, size_t n)
{
    size_t i = 0;
    for (; n - i >= 32; i += 32) {
        uint64_t w[4];
        memcpy(w, p + i, sizeof w);
        if ((w[0] | w[1] | w[2] | w[3]) & HIGH_BITS)
            break;
    }
    for (; n - i >= 8; i += 8) {
        uint64_t w;
        memcpy(&w, p + i, sizeof w);
        if (w & HIGH_BITS)
            return i + (size_t)__builtin_ctzll(w & HIGH_BITS) / 8;
    }
    while (i < n && p[i] < 0x80)
        i++;
    return i;
}

bool utf8_valid(const void *p, size_t n)
{
    const uint8_t *at = p, *end = at + n;
    for (;;) {
        at += ascii_run(at, (size_t)(end - at));
        if (at == end)
            return true;
        do {
            size_t length = character(at, (size_t)(end - at));
            if (length == 0)
                return false;
            at += length;
        } while (at < end && *at >= 0x80);
    }
}

void utf8_put_mended(struct buf *out, const void *p, size_t n)
{
    const uint8_t *at = p, *end = at + n;
    while (at < end) {
        size_t length = ascii_run(at, (size_t)(end - at));
        if (length == 0)
            length = character(at, (size_t)(end - at));
        if (length == 0)
            buf_puts(out, "\xef\xbf\xbd");
        else
            buf_put(out, at, length);
        at += length ? length : 1;
    }
}
