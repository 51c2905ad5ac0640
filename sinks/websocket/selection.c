#include "sinks/websocket/selection.h"

#define OPS_ALL                                                                                    \
    (1U << OP_INSERT | 1U << OP_UPDATE | 1U << OP_DELETE | 1U << OP_TRUNCATE | 1U << OP_READ |     \
     1U << OP_MESSAGE)

enum verdict { VERDICT_NONE, VERDICT_WANTED, VERDICT_NOT_WANTED };

static bool every_table(const struct request *q)
{
    for (size_t i = 0; i < q->table_count; i++) {
        if (strcmp(q->tables[i], "*") == 0)
            return true;
    }
    return q->table_count == 0;
}

static bool same(const struct selection *sel, const struct request *q, bool text)
{
    uint32_t ops = q->ops ? q->ops : OPS_ALL;
    if (sel->text != text || sel->ops != ops || sel->table_count != q->table_count ||
        strcmp(sel->id, q->id) != 0)
        return false;
    for (size_t i = 0; i < sel->table_count; i++) {
        if (strcmp(sel->tables[i], q->tables[i]) != 0)
            return false;
    }
    return true;
}

struct selection *selection_get(struct selection **list, struct request *q, bool text)
{
    for (struct selection *sel = *list; sel; sel = sel->next) {
        if (same(sel, q, text)) {
            sel->refs++;
            return sel;
        }
    }
    struct selection *sel = xcalloc(1, sizeof *sel);
    sel->refs = 1;
    sel->text = text;
    sel->ops = q->ops ? q->ops : OPS_ALL;
    sel->everything = every_table(q) && sel->ops == OPS_ALL;
    // A message has no table: who names tables gets it only by naming the operation too.
    sel->messages = every_table(q) || (q->ops >> OP_MESSAGE & 1);
    memcpy(sel->id, q->id, sizeof sel->id);
    sel->tables = q->tables;
    sel->table_count = q->table_count;
    q->tables = NULL;
    q->table_count = 0;
    sel->next = *list;
    *list = sel;
    return sel;
}

void selection_put(struct selection **list, struct selection *sel)
{
    if (!sel || --sel->refs > 0)
        return;
    struct selection **at = list;
    while (*at != sel)
        at = &(*at)->next;
    *at = sel->next;
    for (size_t i = 0; i < sel->table_count; i++)
        free(sel->tables[i]);
    free(sel->tables);
    free(sel->verdicts);
    free(sel);
}

bool selection_wants_relation(struct selection *sel, const struct catalog *c, uint32_t relation)
{
    if (relation == 0)
        return sel->messages;
    if (relation >= sel->verdict_count) {
        uint32_t count = relation + 64;
        sel->verdicts = xrealloc(sel->verdicts, count);
        memset(sel->verdicts + sel->verdict_count, VERDICT_NONE, count - sel->verdict_count);
        sel->verdict_count = count;
    }
    if (sel->verdicts[relation] == VERDICT_NONE) {
        const struct relation *r = catalog_get(c, relation);
        if (!r)
            return true; // unknown: better one too many than a silent gap
        bool wanted = table_match_any(sel->tables, sel->table_count, r->table);
        sel->verdicts[relation] = wanted ? VERDICT_WANTED : VERDICT_NOT_WANTED;
    }
    return sel->verdicts[relation] == VERDICT_WANTED;
}

bool selection_wants_table(const struct selection *sel, struct slice table, enum op op)
{
    if (sel->everything)
        return true;
    AUTO_FREE char *name = xstrndup((const char *)table.p, table.n);
    return (op == OP_NONE || (sel->ops >> op & 1)) &&
           table_match_any(sel->tables, sel->table_count, name);
}
