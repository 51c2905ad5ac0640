#include "source/snapshot/state_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

static const char digits[] = "0123456789abcdef";

static void put_hex(struct buf *out, struct slice s)
{
    if (s.n == 0)
        buf_putc(out, '-');
    for (size_t i = 0; i < s.n; i++) {
        buf_putc(out, digits[s.p[i] >> 4]);
        buf_putc(out, digits[s.p[i] & 15]);
    }
}

void state_line_put(struct buf *out, const struct state_line *l)
{
    AUTO_BUF struct buf body = {0};
    buf_printf(&body, "%c %" PRIx64 " %" PRIx64 " %" PRIx32 " %" PRIx32 " %" PRIx64 " ", l->kind,
               l->at.lsn, l->at.ordinal, l->round, l->part, l->origin);
    put_hex(&body, l->from);
    buf_putc(&body, ' ');
    put_hex(&body, l->to);
    buf_printf(&body, " %" PRIx64 " ", l->rows);
    put_hex(&body, l->table);
    buf_printf(out, "%016" PRIx64 " ", (uint64_t)XXH3_64bits(body.p, body.n));
    buf_put(out, body.p, body.n);
    buf_putc(out, '\n');
}

// ---- reading ----

static struct slice word(struct slice *line)
{
    const uint8_t *space = line->n ? memchr(line->p, ' ', line->n) : NULL;
    struct slice w = {line->p, space ? (size_t)(space - line->p) : line->n};
    size_t used = w.n + (space != NULL);
    line->p += used;
    line->n -= used;
    return w;
}

static int nibble(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool number(struct slice w, uint64_t *ret_v)
{
    uint64_t v = 0;
    for (size_t i = 0; i < w.n; i++) {
        int n = nibble(w.p[i]);
        if (n < 0)
            return false;
        v = v << 4 | (uint64_t)n;
    }
    *ret_v = v;
    return w.n > 0 && w.n <= 16;
}

// Appends the bytes; where they begin and how many they are.
static bool bytes(struct slice w, struct buf *scratch, size_t *ret_at, size_t *ret_n)
{
    *ret_at = scratch->n;
    *ret_n = 0;
    if (w.n == 1 && w.p[0] == '-')
        return true;
    for (size_t i = 0; i + 1 < w.n; i += 2) {
        int high = nibble(w.p[i]), low = nibble(w.p[i + 1]);
        if (high < 0 || low < 0)
            return false;
        buf_putc(scratch, (char)(high << 4 | low));
    }
    *ret_n = w.n / 2;
    return w.n % 2 == 0;
}

static bool parse(struct slice line, struct buf *scratch, struct state_line *l)
{
    uint64_t check, round, part;
    if (!number(word(&line), &check) || check != XXH3_64bits(line.p, line.n))
        return false;
    struct slice kind = word(&line);
    if (kind.n != 1 || !memchr(LINE_KINDS, kind.p[0], sizeof LINE_KINDS - 1))
        return false;
    l->kind = (char)kind.p[0];
    size_t at[3], n[3];
    if (!number(word(&line), &l->at.lsn) || !number(word(&line), &l->at.ordinal) ||
        !number(word(&line), &round) || !number(word(&line), &part) ||
        !number(word(&line), &l->origin) || !bytes(word(&line), scratch, &at[0], &n[0]) ||
        !bytes(word(&line), scratch, &at[1], &n[1]) || !number(word(&line), &l->rows) ||
        !bytes(word(&line), scratch, &at[2], &n[2]) || line.n)
        return false;
    l->round = (uint32_t)round;
    l->part = (uint32_t)part;
    buf_room(scratch, 1); // so that there is an address
    l->from = (struct slice){scratch->p + at[0], n[0]};
    l->to = (struct slice){scratch->p + at[1], n[1]};
    l->table = (struct slice){scratch->p + at[2], n[2]};
    return true;
}

bool state_line_next(struct slice *text, struct buf *scratch, struct state_line *ret_l)
{
    const uint8_t *nl = text->n ? memchr(text->p, '\n', text->n) : NULL;
    if (!nl)
        return false; // also a last line that was not finished
    struct slice line = {text->p, (size_t)(nl - text->p)};
    text->p += line.n + 1;
    text->n -= line.n + 1;
    buf_clear(scratch);
    *ret_l = (struct state_line){0};
    if (!parse(line, scratch, ret_l))
        ret_l->kind = 0;
    return true;
}
