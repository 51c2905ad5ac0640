#include "proto/types.h"

#include <inttypes.h>
#include <stdio.h>

#define OID_BPCHAR      1042
#define OID_VARCHAR     1043
#define OID_TIME        1083
#define OID_TIMESTAMP   1114
#define OID_TIMESTAMPTZ 1184
#define OID_INTERVAL    1186
#define OID_TIMETZ      1266
#define OID_BIT         1560
#define OID_VARBIT      1562
#define OID_NUMERIC     1700

// A type and its array. SQL's names are format_type's, without a modifier.
#define TYPE_OF(oid, array_oid, sql, kind, json, delimiter)                                        \
    {oid, sql, sql, KIND_##kind, JSON_CLASS_##json, delimiter},                                    \
    {                                                                                              \
        array_oid, sql "[]", sql "[]", KIND_ARRAY + KIND_##kind, JSON_CLASS_##json, ','            \
    }
#define TYPE(oid, array_oid, sql, kind) TYPE_OF(oid, array_oid, sql, kind, TEXT, ',')

static const struct type builtin[] = {
    TYPE(16, 1000, "boolean", BOOL),
    TYPE(17, 1001, "bytea", BYTES),
    TYPE(18, 1002, "\"char\"", STRING),
    TYPE(19, 1003, "name", STRING),
    TYPE(20, 1016, "bigint", INT64),
    TYPE(21, 1005, "smallint", INT32),
    TYPE(22, 1006, "int2vector", STRING),
    TYPE(23, 1007, "integer", INT32),
    TYPE(24, 1008, "regproc", STRING),
    TYPE(25, 1009, "text", STRING),
    TYPE(26, 1028, "oid", UINT32),
    TYPE(27, 1010, "tid", STRING),
    TYPE(28, 1011, "xid", STRING),
    TYPE(29, 1012, "cid", STRING),
    TYPE(30, 1013, "oidvector", STRING),
    TYPE_OF(114, 199, "json", STRING, JSON, ','),
    TYPE(142, 143, "xml", STRING),
    TYPE(600, 1017, "point", STRING),
    TYPE(601, 1018, "lseg", STRING),
    TYPE(602, 1019, "path", STRING),
    TYPE_OF(603, 1020, "box", STRING, TEXT, ';'),
    TYPE(604, 1027, "polygon", STRING),
    TYPE(628, 629, "line", STRING),
    TYPE(650, 651, "cidr", STRING),
    TYPE(700, 1021, "real", FLOAT),
    TYPE(701, 1022, "double precision", DOUBLE),
    TYPE(718, 719, "circle", STRING),
    TYPE(774, 775, "macaddr8", STRING),
    TYPE(790, 791, "money", STRING),
    TYPE(829, 1040, "macaddr", STRING),
    TYPE(869, 1041, "inet", STRING),
    TYPE(1033, 1034, "aclitem", STRING),
    TYPE(OID_BPCHAR, 1014, "character", STRING),
    TYPE(OID_VARCHAR, 1015, "character varying", STRING),
    TYPE(1082, 1182, "date", STRING),
    TYPE(OID_TIME, 1183, "time without time zone", STRING),
    TYPE(OID_TIMESTAMP, 1115, "timestamp without time zone", STRING),
    TYPE(OID_TIMESTAMPTZ, 1185, "timestamp with time zone", TIMESTAMP),
    TYPE(OID_INTERVAL, 1187, "interval", STRING),
    TYPE(OID_TIMETZ, 1270, "time with time zone", STRING),
    TYPE(OID_BIT, 1561, "bit", STRING),
    TYPE(OID_VARBIT, 1563, "bit varying", STRING),
    TYPE(OID_NUMERIC, 1231, "numeric", STRING),
    TYPE(1790, 2201, "refcursor", STRING),
    TYPE(2202, 2207, "regprocedure", STRING),
    TYPE(2203, 2208, "regoper", STRING),
    TYPE(2204, 2209, "regoperator", STRING),
    TYPE(2205, 2210, "regclass", STRING),
    TYPE(2206, 2211, "regtype", STRING),
    TYPE(2950, 2951, "uuid", STRING),
    TYPE(2970, 2949, "txid_snapshot", STRING),
    TYPE(3220, 3221, "pg_lsn", STRING),
    TYPE(3614, 3643, "tsvector", STRING),
    TYPE(3615, 3645, "tsquery", STRING),
    TYPE(3642, 3644, "gtsvector", STRING),
    TYPE(3734, 3735, "regconfig", STRING),
    TYPE(3769, 3770, "regdictionary", STRING),
    TYPE_OF(3802, 3807, "jsonb", STRING, JSON, ','),
    TYPE(3904, 3905, "int4range", STRING),
    TYPE(3906, 3907, "numrange", STRING),
    TYPE(3908, 3909, "tsrange", STRING),
    TYPE(3910, 3911, "tstzrange", STRING),
    TYPE(3912, 3913, "daterange", STRING),
    TYPE(3926, 3927, "int8range", STRING),
    TYPE(4072, 4073, "jsonpath", STRING),
    TYPE(4089, 4090, "regnamespace", STRING),
    TYPE(4096, 4097, "regrole", STRING),
    TYPE(4191, 4192, "regcollation", STRING),
    TYPE(4451, 6150, "int4multirange", STRING),
    TYPE(4532, 6151, "nummultirange", STRING),
    TYPE(4533, 6152, "tsmultirange", STRING),
    TYPE(4534, 6153, "tstzmultirange", STRING),
    TYPE(4535, 6155, "datemultirange", STRING),
    TYPE(4536, 6157, "int8multirange", STRING),
    TYPE(5038, 5039, "pg_snapshot", STRING),
    TYPE(5069, 271, "xid8", STRING),
};

const struct type *type_builtin(uint32_t oid)
{
    for (size_t i = 0; i < ARRAY_LEN(builtin); i++)
        if (builtin[i].oid == oid)
            return &builtin[i];
    return NULL;
}

static void copy_name(char to[TYPE_NAME_MAX], const char *name)
{
    snprintf(to, TYPE_NAME_MAX, "%s", name);
}

static void copy_array_name(char to[TYPE_NAME_MAX], const char *element)
{
    snprintf(to, TYPE_NAME_MAX, "%.*s[]", TYPE_NAME_MAX - 3, element);
}

static bool is_postgis(const char *name)
{
    return strcmp(name, "geometry") == 0 || strcmp(name, "geography") == 0;
}

static struct type resolve_array(const struct type *element)
{
    struct type t = {.kind = KIND_STRING, .json_class = element->json_class, .delimiter = ','};
    copy_array_name(t.name, element->name);
    copy_array_name(t.base_name, element->base_name);
    if (element->delimiter == type_array_delimiter(t.base_name))
        // An element that is itself an array (of a domain over one) stands there as its text.
        t.kind = KIND_ARRAY + (element->kind < KIND_ARRAY ? element->kind : KIND_STRING);
    if (element->kind >= KIND_ARRAY || t.kind == KIND_STRING)
        t.json_class = JSON_CLASS_TEXT;
    return t;
}

struct type type_resolve(uint32_t oid, const char *schema, const char *name, char typtype,
                         const struct type *element, const struct type *base)
{
    const struct type *known = type_builtin(oid);
    if (known)
        return *known;
    struct type t;
    if (element) {
        t = resolve_array(element);
    } else {
        AUTO_BUF struct buf quoted = {0};
        table_quote(&quoted, schema, name);
        t = (struct type){.kind = KIND_STRING, .delimiter = ','};
        if (typtype == 'b' && is_postgis(name))
            t.delimiter = ':';
        copy_name(t.name, buf_cstr(&quoted));
        copy_name(t.base_name, t.name);
        if (typtype == 'd' && base) {
            copy_name(t.base_name, base->base_name);
            t.kind = base->kind;
            t.json_class = base->json_class;
            t.delimiter = base->delimiter;
        }
    }
    t.oid = oid;
    return t;
}

char type_array_delimiter(const char *base_name)
{
    return strcmp(base_name, "box[]") == 0 ? ';' : ',';
}

// ---- modifiers ----

static void format_interval(struct buf *out, int32_t typmod)
{
    enum { MONTH = 1 << 1, YEAR = 1 << 2, DAY = 1 << 3, HOUR = 1 << 10, MINUTE = 1 << 11 };
    enum { SECOND = 1 << 12, FULL_PRECISION = 0xffff };
    static const struct {
        int fields;
        const char *name;
    } ranges[] = {
        {YEAR, " year"},
        {MONTH, " month"},
        {DAY, " day"},
        {HOUR, " hour"},
        {MINUTE, " minute"},
        {SECOND, " second"},
        {YEAR | MONTH, " year to month"},
        {DAY | HOUR, " day to hour"},
        {DAY | HOUR | MINUTE, " day to minute"},
        {DAY | HOUR | MINUTE | SECOND, " day to second"},
        {HOUR | MINUTE, " hour to minute"},
        {HOUR | MINUTE | SECOND, " hour to second"},
        {MINUTE | SECOND, " minute to second"},
    };
    buf_puts(out, "interval");
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if ((typmod >> 16 & 0x7fff) == ranges[i].fields)
            buf_puts(out, ranges[i].name);
    if ((typmod & 0xffff) != FULL_PRECISION)
        buf_printf(out, "(%d)", typmod & 0xffff);
}

// The element type's name with its modifier. False: this type has none.
static bool format_modifier(struct buf *out, uint32_t oid, int32_t typmod)
{
    switch (oid) {
    case OID_BPCHAR:
        buf_printf(out, "character(%d)", typmod - 4);
        return true;
    case OID_VARCHAR:
        buf_printf(out, "character varying(%d)", typmod - 4);
        return true;
    case OID_NUMERIC: // since 15 the scale is of 11 bits with a sign; before it was never that
                      // large
        buf_printf(out, "numeric(%d,%d)", (typmod - 4) >> 16 & 0xffff,
                   (((typmod - 4) & 0x7ff) ^ 1024) - 1024);
        return true;
    case OID_BIT:
        buf_printf(out, "bit(%d)", typmod);
        return true;
    case OID_VARBIT:
        buf_printf(out, "bit varying(%d)", typmod);
        return true;
    case OID_TIME:
        buf_printf(out, "time(%d) without time zone", typmod);
        return true;
    case OID_TIMETZ:
        buf_printf(out, "time(%d) with time zone", typmod);
        return true;
    case OID_TIMESTAMP:
        buf_printf(out, "timestamp(%d) without time zone", typmod);
        return true;
    case OID_TIMESTAMPTZ:
        buf_printf(out, "timestamp(%d) with time zone", typmod);
        return true;
    case OID_INTERVAL:
        format_interval(out, typmod);
        return true;
    default:
        return false;
    }
}

void type_format(struct buf *out, const char *name, uint32_t base_oid, int32_t typmod)
{
    const struct type *t = type_builtin(base_oid);
    if (!t || strcmp(t->name, name) != 0) {
        buf_puts(out, name);
        return;
    }
    bool array = t->kind >= KIND_ARRAY;
    uint32_t oid = array ? t[-1].oid : t->oid; // TYPE_OF puts an array behind its element
    if (typmod < 0 && oid == OID_BPCHAR)       // "character" alone would mean character(1),
        buf_puts(out, "bpchar");
    else if (typmod < 0 && oid == OID_BIT) // and "bit" alone bit(1)
        buf_puts(out, "\"bit\"");
    else if (typmod < 0 || !format_modifier(out, oid, typmod)) {
        buf_puts(out, name);
        return;
    }
    if (array)
        buf_puts(out, "[]");
}
