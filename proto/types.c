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

// Each type with its array: OIDs, SQL's name (format_type's, without a modifier), kind, JSON class,
// the delimiter of its arrays, form and the type inside. money's form depends on the server's
// lc_monetary; reg* types are names of what only the server knows.
#define BUILTIN(T)                                                                                 \
    T(16, 1000, "boolean", BOOL, TEXT, ',', BOOL, 0)                                               \
    T(17, 1001, "bytea", BYTES, TEXT, ',', BYTEA, 0)                                               \
    T(18, 1002, "\"char\"", STRING, TEXT, ',', CHAR, 0)                                            \
    T(19, 1003, "name", STRING, TEXT, ',', TEXT, 0)                                                \
    T(20, 1016, "bigint", INT64, TEXT, ',', INT, 0)                                                \
    T(21, 1005, "smallint", INT32, TEXT, ',', INT, 0)                                              \
    T(22, 1006, "int2vector", STRING, TEXT, ',', VECTOR, 0)                                        \
    T(23, 1007, "integer", INT32, TEXT, ',', INT, 0)                                               \
    T(24, 1008, "regproc", STRING, TEXT, ',', NONE, 0)                                             \
    T(25, 1009, "text", STRING, TEXT, ',', TEXT, 0)                                                \
    T(26, 1028, "oid", UINT32, TEXT, ',', UINT, 0)                                                 \
    T(27, 1010, "tid", STRING, TEXT, ',', TID, 0)                                                  \
    T(28, 1011, "xid", STRING, TEXT, ',', UINT, 0)                                                 \
    T(29, 1012, "cid", STRING, TEXT, ',', UINT, 0)                                                 \
    T(30, 1013, "oidvector", STRING, TEXT, ',', VECTOR, 0)                                         \
    T(114, 199, "json", STRING, JSON, ',', TEXT, 0)                                                \
    T(142, 143, "xml", STRING, TEXT, ',', TEXT, 0)                                                 \
    T(600, 1017, "point", STRING, TEXT, ',', POINT, 0)                                             \
    T(601, 1018, "lseg", STRING, TEXT, ',', LSEG, 0)                                               \
    T(602, 1019, "path", STRING, TEXT, ',', PATH, 0)                                               \
    T(603, 1020, "box", STRING, TEXT, ';', BOX, 0)                                                 \
    T(604, 1027, "polygon", STRING, TEXT, ',', POLYGON, 0)                                         \
    T(628, 629, "line", STRING, TEXT, ',', LINE, 0)                                                \
    T(650, 651, "cidr", STRING, TEXT, ',', INET, 0)                                                \
    T(700, 1021, "real", FLOAT, TEXT, ',', FLOAT, 0)                                               \
    T(701, 1022, "double precision", DOUBLE, TEXT, ',', FLOAT, 0)                                  \
    T(718, 719, "circle", STRING, TEXT, ',', CIRCLE, 0)                                            \
    T(774, 775, "macaddr8", STRING, TEXT, ',', MACADDR, 0)                                         \
    T(790, 791, "money", STRING, TEXT, ',', NONE, 0)                                               \
    T(829, 1040, "macaddr", STRING, TEXT, ',', MACADDR, 0)                                         \
    T(869, 1041, "inet", STRING, TEXT, ',', INET, 0)                                               \
    T(1033, 1034, "aclitem", STRING, TEXT, ',', NONE, 0)                                           \
    T(OID_BPCHAR, 1014, "character", STRING, TEXT, ',', TEXT, 0)                                   \
    T(OID_VARCHAR, 1015, "character varying", STRING, TEXT, ',', TEXT, 0)                          \
    T(1082, 1182, "date", STRING, TEXT, ',', DATE, 0)                                              \
    T(OID_TIME, 1183, "time without time zone", STRING, TEXT, ',', TIME, 0)                        \
    T(OID_TIMESTAMP, 1115, "timestamp without time zone", STRING, TEXT, ',', TIMESTAMP, 0)         \
    T(OID_TIMESTAMPTZ, 1185, "timestamp with time zone", TIMESTAMP, TEXT, ',', TIMESTAMPTZ, 0)     \
    T(OID_INTERVAL, 1187, "interval", STRING, TEXT, ',', INTERVAL, 0)                              \
    T(OID_TIMETZ, 1270, "time with time zone", STRING, TEXT, ',', TIMETZ, 0)                       \
    T(OID_BIT, 1561, "bit", STRING, TEXT, ',', BIT, 0)                                             \
    T(OID_VARBIT, 1563, "bit varying", STRING, TEXT, ',', BIT, 0)                                  \
    T(OID_NUMERIC, 1231, "numeric", STRING, TEXT, ',', NUMERIC, 0)                                 \
    T(1790, 2201, "refcursor", STRING, TEXT, ',', TEXT, 0)                                         \
    T(2202, 2207, "regprocedure", STRING, TEXT, ',', NONE, 0)                                      \
    T(2203, 2208, "regoper", STRING, TEXT, ',', NONE, 0)                                           \
    T(2204, 2209, "regoperator", STRING, TEXT, ',', NONE, 0)                                       \
    T(2205, 2210, "regclass", STRING, TEXT, ',', NONE, 0)                                          \
    T(2206, 2211, "regtype", STRING, TEXT, ',', NONE, 0)                                           \
    T(2950, 2951, "uuid", STRING, TEXT, ',', UUID, 0)                                              \
    T(2970, 2949, "txid_snapshot", STRING, TEXT, ',', SNAPSHOT, 0)                                 \
    T(3220, 3221, "pg_lsn", STRING, TEXT, ',', LSN, 0)                                             \
    T(3614, 3643, "tsvector", STRING, TEXT, ',', TSVECTOR, 0)                                      \
    T(3615, 3645, "tsquery", STRING, TEXT, ',', TSQUERY, 0)                                        \
    T(3642, 3644, "gtsvector", STRING, TEXT, ',', NONE, 0)                                         \
    T(3734, 3735, "regconfig", STRING, TEXT, ',', NONE, 0)                                         \
    T(3769, 3770, "regdictionary", STRING, TEXT, ',', NONE, 0)                                     \
    T(3802, 3807, "jsonb", STRING, JSON, ',', VERSIONED, 0)                                        \
    T(3904, 3905, "int4range", STRING, TEXT, ',', RANGE, 23)                                       \
    T(3906, 3907, "numrange", STRING, TEXT, ',', RANGE, 1700)                                      \
    T(3908, 3909, "tsrange", STRING, TEXT, ',', RANGE, 1114)                                       \
    T(3910, 3911, "tstzrange", STRING, TEXT, ',', RANGE, 1184)                                     \
    T(3912, 3913, "daterange", STRING, TEXT, ',', RANGE, 1082)                                     \
    T(3926, 3927, "int8range", STRING, TEXT, ',', RANGE, 20)                                       \
    T(4072, 4073, "jsonpath", STRING, TEXT, ',', VERSIONED, 0)                                     \
    T(4089, 4090, "regnamespace", STRING, TEXT, ',', NONE, 0)                                      \
    T(4096, 4097, "regrole", STRING, TEXT, ',', NONE, 0)                                           \
    T(4191, 4192, "regcollation", STRING, TEXT, ',', NONE, 0)                                      \
    T(4451, 6150, "int4multirange", STRING, TEXT, ',', MULTIRANGE, 3904)                           \
    T(4532, 6151, "nummultirange", STRING, TEXT, ',', MULTIRANGE, 3906)                            \
    T(4533, 6152, "tsmultirange", STRING, TEXT, ',', MULTIRANGE, 3908)                             \
    T(4534, 6153, "tstzmultirange", STRING, TEXT, ',', MULTIRANGE, 3910)                           \
    T(4535, 6155, "datemultirange", STRING, TEXT, ',', MULTIRANGE, 3912)                           \
    T(4536, 6157, "int8multirange", STRING, TEXT, ',', MULTIRANGE, 3926)                           \
    T(5038, 5039, "pg_snapshot", STRING, TEXT, ',', SNAPSHOT, 0)                                   \
    T(5069, 271, "xid8", STRING, TEXT, ',', UINT, 0)

#define TYPES(oid, array_oid, sql, kind, json, delimiter, form, inner)                             \
    {oid, sql, sql, KIND_##kind, JSON_CLASS_##json, delimiter, FORM_##form, inner},                \
        {array_oid,         sql "[]", sql "[]",   KIND_ARRAY + KIND_##kind,                        \
         JSON_CLASS_##json, ',',      FORM_ARRAY, oid},
#define OIDS(oid, array_oid, ...) oid, array_oid,

// An array stands behind its element.
static const struct type builtin[] = {BUILTIN(TYPES)};
// By itself, so that a search touches little memory: values say their types by OID.
static const uint32_t builtin_oids[] = {BUILTIN(OIDS)};

const struct type *type_builtin(uint32_t oid)
{
    for (size_t i = 0; i < ARRAY_LEN(builtin_oids); i++)
        if (builtin_oids[i] == oid)
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
    struct type t = {.kind = KIND_STRING,
                     .json_class = element->json_class,
                     .delimiter = ',',
                     .form = FORM_ARRAY,
                     .inner = element->oid};
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
        t.form = typtype == 'e' ? FORM_TEXT : typtype == 'c' ? FORM_COMPOSITE : FORM_NONE;
        copy_name(t.name, buf_cstr(&quoted));
        copy_name(t.base_name, t.name);
        if (typtype == 'd' && base) {
            copy_name(t.base_name, base->base_name);
            t.kind = base->kind;
            t.json_class = base->json_class;
            t.delimiter = base->delimiter;
            t.form = base->form;
            t.inner = base->inner;
        }
    }
    t.oid = oid;
    return t;
}

enum form type_form(const char *output, const char *send)
{
    static const struct {
        const char *output, *send;
        enum form form;
    } known[] = {
        {"textout", "textsend", FORM_TEXT},          {"hstore_out", "hstore_send", FORM_HSTORE},
        {"ltree_out", "ltree_send", FORM_VERSIONED}, {"lquery_out", "lquery_send", FORM_VERSIONED},
        {"ltxtq_out", "ltxtq_send", FORM_VERSIONED},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(output, known[i].output) == 0 && strcmp(send, known[i].send) == 0)
            return known[i].form;
    return FORM_NONE;
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
    uint32_t oid = array ? t[-1].oid : t->oid; // an array stands behind its element
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
