#include "sinks/kafka/topic.h"

#include <uthash.h>

struct claim {
    char *plain; // the name with every . as _
    char *topic, *owner;
    UT_hash_handle hh;
};

struct topic_names {
    struct claim *claims;
};

static void put_clean(struct buf *out, const char *text)
{
    for (const char *s = text; *s; s++) {
        bool fit = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                   (*s >= '0' && *s <= '9') || *s == '.' || *s == '_' || *s == '-';
        buf_putc(out, fit ? *s : '_');
    }
}

static int check_length(struct buf *out, size_t start, struct err *e)
{
    if (out->n - start <= TOPIC_NAME_MAX)
        return 0;
    err_set(e, ERR_KAFKA,
            "topic %.60s..: the name has %zu characters, Kafka allows %d: choose a shorter topic "
            "prefix, or leave the table out",
            buf_cstr(out) + start, out->n - start, TOPIC_NAME_MAX);
    out->n = start;
    return -1;
}

int topic_name(struct buf *out, const char *prefix, const char *schema, const char *name,
               struct err *e)
{
    size_t start = out->n;
    if (prefix && *prefix) {
        put_clean(out, prefix);
        buf_putc(out, '.');
    }
    put_clean(out, schema);
    buf_putc(out, '.');
    put_clean(out, name);
    return check_length(out, start, e);
}

int topic_own_name(struct buf *out, const char *prefix, const char *name, struct err *e)
{
    size_t start = out->n;
    put_clean(out, prefix && *prefix ? prefix : "rowcast");
    buf_putc(out, '.');
    put_clean(out, name);
    return check_length(out, start, e);
}

struct topic_names *topic_names_new(void)
{
    return xcalloc(1, sizeof(struct topic_names));
}

void topic_names_free(struct topic_names *n)
{
    if (!n)
        return;
    struct claim *c = n->claims;
    HASH_CLEAR(hh, n->claims);
    while (c) {
        struct claim *next = c->hh.next;
        free(c->plain);
        free(c->topic);
        free(c->owner);
        free(c);
        c = next;
    }
    free(n);
}

int topic_names_claim(struct topic_names *n, const char *topic, const char *owner, struct err *e)
{
    AUTO_FREE char *plain = xstrdup(topic);
    for (char *s = plain; *s; s++) {
        if (*s == '.')
            *s = '_';
    }
    struct claim *c;
    HASH_FIND_STR(n->claims, plain, c);
    if (c && strcmp(c->owner, owner) == 0)
        return 0;
    if (c)
        return err_set(
            e, ERR_KAFKA,
            "topic %s of %s: %s is already %s's, and Kafka takes the two for one: rename "
            "one of the tables, or leave one out",
            topic, owner, c->topic, c->owner);
    c = xcalloc(1, sizeof *c);
    c->plain = xstrdup(plain);
    c->topic = xstrdup(topic);
    c->owner = xstrdup(owner);
    HASH_ADD_KEYPTR(hh, n->claims, c->plain, strlen(c->plain), c);
    return 0;
}
