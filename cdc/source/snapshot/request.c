#include "source/snapshot/request.h"

#include "proto/relation.h"

#include <pthread.h>
#include <stdio.h>
#include <uthash.h>

struct known {
    char *table, *root;
    bool busy;  // being read
    bool asked; // for
    UT_hash_handle hh;
};

struct requests {
    pthread_mutex_t lock;
    struct known *tables;
    _Atomic size_t asked;
    char refusal[256];
};

struct requests *requests_new(void)
{
    struct requests *r = xcalloc(1, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

void requests_free(struct requests *r)
{
    if (!r)
        return;
    struct known *k, *next;
    HASH_ITER (hh, r->tables, k, next) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
        HASH_DEL(r->tables, k);
        free(k->table);
        free(k->root);
        free(k);
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

bool requests_know(struct requests *r, const char *table, const char *root)
{
    struct known *k;
    HASH_FIND_STR(r->tables, table, k); // only this thread adds
    if (k && (!root || (k->root && strcmp(k->root, root) == 0)))
        return false;
    bool new = !k;
    pthread_mutex_lock(&r->lock);
    if (new) {
        k = xcalloc(1, sizeof *k);
        k->table = xstrdup(table);
        HASH_ADD_KEYPTR(hh, r->tables, k->table, strlen(k->table), k);
    }
    free(k->root);
    k->root = root ? xstrdup(root) : NULL;
    pthread_mutex_unlock(&r->lock);
    return new;
}

void requests_set_busy(struct requests *r, const char *table, bool busy)
{
    struct known *k;
    pthread_mutex_lock(&r->lock);
    HASH_FIND_STR(r->tables, table, k);
    if (k)
        k->busy = busy;
    pthread_mutex_unlock(&r->lock);
}

void requests_refuse(struct requests *r, const char *why)
{
    pthread_mutex_lock(&r->lock);
    snprintf(r->refusal, sizeof r->refusal, "%s", why ? why : "");
    pthread_mutex_unlock(&r->lock);
}

void requests_each(struct requests *r, void (*each)(void *arg, const char *table), void *arg)
{
    struct known *k, *next;
    HASH_ITER (hh, r->tables, k, next)
        each(arg, k->table);
}

char *requests_take(struct requests *r)
{
    char *table = NULL;
    pthread_mutex_lock(&r->lock);
    for (struct known *k = r->asked ? r->tables : NULL; k && !table; k = k->hh.next) {
        if (!k->asked)
            continue;
        k->asked = false;
        r->asked--;
        table = xstrdup(k->table);
    }
    pthread_mutex_unlock(&r->lock);
    return table;
}

bool requests_waiting(const struct requests *r)
{
    return r->asked != 0;
}

// Locked.
static int ask(struct requests *r, const char *glob, struct buf *out, struct err *e)
{
    size_t found = 0, added = 0;
    for (struct known *k = r->tables; k; k = k->hh.next) {
        if (!table_match(glob, k->table) && !(k->root && table_match(glob, k->root)))
            continue;
        found++;
        bool busy = k->busy || k->asked;
        buf_printf(out, "%s: %s\n", k->table, busy ? "is being read already" : "queued");
        if (busy)
            continue;
        k->asked = true;
        r->asked++;
        added++;
    }
    if (found == 0)
        return err_set(e, ERR_USAGE,
                       "snapshot: no table that is published and wanted matches %.200s (%u are "
                       "known); remedy: name it as SQL would, with its schema, or add it to the "
                       "publication and to --table",
                       glob, HASH_COUNT(r->tables));
    if (added == 0)
        return err_set(e, ERR_USAGE, "snapshot: %.200s is being read already", glob);
    return 0;
}

int requests_add(struct requests *r, const char *glob, struct buf *out, struct err *e)
{
    int result;
    pthread_mutex_lock(&r->lock);
    if (r->refusal[0])
        result = err_set(e, ERR_SOURCE, "snapshot: %s", r->refusal);
    else
        result = ask(r, glob, out, e);
    pthread_mutex_unlock(&r->lock);
    return result;
}
