// Full text search: tsvector and tsquery.
#include "proto/binary_form.h"

// 'it''s' with its backslashes doubled too.
static void put_lexeme(struct buf *out, const char *s)
{
    buf_putc(out, '\'');
    for (; *s; s++) {
        if (*s == '\'' || *s == '\\')
            buf_putc(out, *s);
        buf_putc(out, *s);
    }
    buf_putc(out, '\'');
}

bool binary_tsvector(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    static const char weights[] = {0, 'C', 'B', 'A'}; // D is not shown
    uint32_t n = reader_be32(r);
    for (uint32_t i = 0; i < n && !r->failed; i++) {
        if (i)
            buf_putc(d->out, ' ');
        put_lexeme(d->out, reader_cstr(r));
        uint16_t positions = reader_be16(r);
        for (uint16_t k = 0; k < positions && !r->failed; k++) {
            uint16_t v = reader_be16(r);
            buf_putc(d->out, k ? ',' : ':');
            buf_put_u64(d->out, v & 0x3fff);
            if (weights[v >> 14])
                buf_putc(d->out, weights[v >> 14]);
        }
    }
    return true;
}

// ---- tsquery ----

enum { ITEM_VALUE = 1, ITEM_OPERATOR = 2 };
enum operator{ NOT = 1, AND = 2, OR = 3, PHRASE = 4 };

#define QUERY_DEPTH_MAX 1000

struct query {
    struct reader *r;
    uint32_t left; // items not read yet
    int depth;
};

static void put_value(struct query *q, struct buf *out)
{
    uint8_t weights = reader_u8(q->r), prefix = reader_u8(q->r);
    put_lexeme(out, reader_cstr(q->r));
    if (weights || prefix)
        buf_putc(out, ':');
    if (prefix)
        buf_putc(out, '*');
    for (int i = 3; i >= 0; i--)
        if (weights & 1 << i)
            buf_putc(out, "DCBA"[i]);
}

static bool put_item(struct query *q, struct buf *out, int outer, bool right_of_phrase);

static bool put_not(struct query *q, struct buf *out, int priority, bool parentheses)
{
    buf_puts(out, parentheses ? "( !" : "!");
    if (!put_item(q, out, priority, false))
        return false;
    buf_puts(out, parentheses ? " )" : "");
    return true;
}

// The right operand comes first.
static bool put_two(struct query *q, struct buf *out, enum operator op, int priority,
                    bool parentheses)
{
    int16_t distance = op == PHRASE ? (int16_t)reader_be16(q->r) : 0;
    AUTO_BUF struct buf right = {0};
    buf_puts(out, parentheses ? "( " : "");
    if (!put_item(q, &right, priority, op == PHRASE) || !put_item(q, out, priority, false))
        return false;
    if (op == PHRASE && distance != 1)
        buf_printf(out, " <%d> ", distance);
    else
        buf_puts(out, op == PHRASE ? " <-> " : op == AND ? " & " : " | ");
    buf_put(out, right.p, right.n);
    buf_puts(out, parentheses ? " )" : "");
    return true;
}

// An item with its operands. outer: the priority of the operator that it is an operand of.
static bool put_item(struct query *q, struct buf *out, int outer, bool right_of_phrase)
{
    static const int priorities[] = {[NOT] = 4, [AND] = 2, [OR] = 1, [PHRASE] = 3};
    if (q->left == 0 || q->depth == QUERY_DEPTH_MAX)
        return false;
    q->left--;
    uint8_t kind = reader_u8(q->r);
    if (kind == ITEM_VALUE) {
        put_value(q, out);
        return !q->r->failed;
    }
    enum operator op = reader_u8(q->r);
    if (kind != ITEM_OPERATOR || op < NOT || op > PHRASE)
        return false;
    int priority = priorities[op];
    bool parentheses = priority < outer || (op == PHRASE && right_of_phrase);
    q->depth++;
    bool ok = op == NOT ? put_not(q, out, priority, parentheses)
                        : put_two(q, out, op, priority, parentheses);
    q->depth--;
    return ok;
}

bool binary_tsquery(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    struct query q = {.r = r, .left = reader_be32(r)};
    if (q.left == 0)
        return true;
    return put_item(&q, d->out, -1, false) && q.left == 0;
}
