#include "sinks/websocket/tables.h"

// By name, the newest first.
static int by_name(const void *a, const void *b)
{
    const struct relation *r = *(const struct relation *const *)a;
    const struct relation *s = *(const struct relation *const *)b;
    int order = strcmp(r->table, s->table);
    return order ? order : r->id > s->id ? -1 : 1;
}

const struct relation **tables_newest(const struct catalog *c, char *const *globs,
                                      size_t glob_count, size_t *ret_n)
{
    uint32_t count = catalog_count(c);
    const struct relation **all = xmalloc((count + 1) * sizeof(struct relation *));
    size_t n = 0, kept = 0;
    for (uint32_t id = 1; id <= count; id++) {
        const struct relation *r = catalog_get(c, id);
        if (r && table_match_any(globs, glob_count, r->table))
            all[n++] = r;
    }
    qsort(all, n, sizeof(struct relation *), by_name);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(all[i]->table, all[kept - 1]->table) != 0)
            all[kept++] = all[i];
    }
    *ret_n = kept;
    return all;
}
