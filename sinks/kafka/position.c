#include "sinks/kafka/position.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#define VERSION 1

void position_key(struct buf *out, const char *stream)
{
    buf_puts(out, stream);
    buf_puts(out, "/kafka");
}

void position_encode(struct buf *out, const struct kafka_position *p)
{
    char cursor[CURSOR_TEXT_MAX], lsn[LSN_TEXT_MAX], watermark[LSN_TEXT_MAX];
    cursor_text(&p->cursor, cursor);
    buf_printf(out,
               "{\"version\":%d,\"cursor\":\"%s\",\"lsn\":\"%s\",\"watermark\":\"%s\","
               "\"system_id\":\"%" PRIu64 "\",\"database_oid\":%u,\"generation\":%u}",
               VERSION, cursor, lsn_text(p->cursor.at.lsn, lsn), lsn_text(p->watermark, watermark),
               p->system_id, p->database_oid, p->generation);
}

static bool get_u32(const json_t *o, const char *name, uint32_t *ret_v)
{
    const json_t *v = json_object_get(o, name);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
        return false;
    *ret_v = (uint32_t)json_integer_value(v);
    return true;
}

static bool take(const json_t *o, struct kafka_position *p)
{
    const char *cursor = json_string_value(json_object_get(o, "cursor"));
    const char *watermark = json_string_value(json_object_get(o, "watermark"));
    const char *system_id = json_string_value(json_object_get(o, "system_id"));
    uint32_t version;
    int end = 0;
    return get_u32(o, "version", &version) && version == VERSION && cursor && watermark &&
           system_id && cursor_parse(cursor, strlen(cursor), &p->cursor) &&
           lsn_parse(watermark, &p->watermark) &&
           sscanf(system_id, "%20" SCNu64 "%n", &p->system_id, &end) == 1 && !system_id[end] &&
           get_u32(o, "database_oid", &p->database_oid) && get_u32(o, "generation", &p->generation);
}

int position_decode(struct slice value, struct kafka_position *ret_p, struct err *e)
{
    struct kafka_position p;
    json_t *o = json_loadb((const char *)value.p, value.n, JSON_REJECT_DUPLICATES, NULL);
    bool good = o && take(o, &p);
    json_decref(o);
    if (!good)
        return err_set(e, ERR_KAFKA, "is no position that this rowcast can read");
    *ret_p = p;
    return 0;
}
