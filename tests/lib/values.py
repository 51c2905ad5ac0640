"""Many values of each type whose binary form can be read, as SQL.

    cd tests && /usr/bin/python3 -m lib.values > unit/binary_values.txt

prints what a server says of them: OID, type, binary form and text, a line each. The unit test
`binary` reads the file. Random values come from a fixed seed."""

import sys

from .postgres import Postgres

SETTINGS = "set timezone = 'UTC'; set extra_float_digits = 3; set bytea_output = hex; " \
           "set datestyle = ISO; set intervalstyle = postgres"
SETUP = """
create function bits() returns bigint language sql volatile as
    'select ((random() * 4294967295)::bigint << 32) + (random() * 4294967295)::bigint';
create function wild(digits int default 600) returns float8 language sql volatile as
    'select (random() - 0.5) * 10 ^ ((random() - 0.5) * digits)';
create function word() returns text language sql volatile as
    'select string_agg(substr(E'' \\t\\\\"''''(){}[],;=>:&|!<*aAbBzZ09NULLäß🐘'',
     (random() * 38)::int + 1, 1), '''') from generate_series(0, (random() * 8)::int)';
create type couple as (a int, b text);
create type deep as (p couple, f float8[], r numrange, t text[]);
create type textrange as range (subtype = text);
create type doublerange as range (subtype = float8);
create extension hstore;
create extension ltree;
create extension citext;
"""

# type -> (fixed values as literals, an expression for random ones)
VALUES = {
    "bool": (["true", "false"], None),
    "bytea": ([r"'\x'", r"'\x00ff5c22'", "'abc'"], "decode(md5(random()::text), 'hex')"),
    '"char"': (["'x'", "''", r"'\303'"], None),
    "name": (["'a name'"], None),
    "int8": (["9223372036854775807", "-9223372036854775808", "0"], "bits()"),
    "int2": (["32767", "-32768", "0"], None),
    "int4": (["2147483647", "-2147483648", "0"], "bits() >> 33"),
    "int2vector": (["'1 -2 3'", "''"], None),
    "oidvector": (["'23 4294967295'", "''"], None),
    "text": (["''", "'NULL'", "E' grüß\\tdich \\n🐘'"], "word()"),
    "varchar(20)": (["''", "'grüß'"], None),
    "char(5)": (["'ab'"], None),
    "oid": (["4294967295", "0"], None),
    "tid": (["'(4294967295,65535)'", "'(0,1)'"], None),
    "xid": (["'4294967295'"], None),
    "cid": (["'1'"], None),
    "xid8": (["'18446744073709551615'"], None),
    "pg_lsn": (["'16/B374D848'", "'0/0'", "'FFFFFFFF/FFFFFFFF'"], None),
    "pg_snapshot": (["'10:20:10,14,15'", "'10:10:'"], None),
    "txid_snapshot": (["'10:20:10,14,15'", "'10:10:'"], None),
    "json": (["""'{"a":  [1, 2.50, null]}'"""], None),
    "jsonb": (["'[]'", """'{"a": [1, 2.50, null], "b": "ü"}'"""],
              "jsonb_build_object(word(), word())"),
    "jsonpath": (["""'$."a"[*]?(@ > 1)'"""], None),
    "xml": (['''\'<?xml version="1.0" encoding="UTF-8"?><a b="1">ü</a>\'''', "'<a/>'"], None),
    "float4": (["'NaN'", "'Infinity'", "'-Infinity'", "-0.0", "1e-45", "3.4028235e38",
                "1.17549435e-38",
                "123456", "1234567", "999999.9", "1e6", "1e5", "0.0001", "0.00001", "8388608",
                "33554432", "16777216", "8.5899345e9", "2.1990233e12", "4194304.5"],
               "wild(70)::float4"),
    "float8": (["'NaN'", "'Infinity'", "'-Infinity'", "-0.0", "5e-324", "1.7976931348623157e308",
                "2.2250738585072014e-308", "1e23", "5e22", "9.5e22", "123456789012345",
                "1234567890123456",
                "999999999999999.9", "1e15", "1e14", "0.0001", "0.00001", "9007199254740992",
                "9007199254740993", "5.684341886080801e-14", "2::float8 ^ (-44)", "2::float8 ^ 89",
                "2::float8 ^ (-1022)", "9.007199254740993e22", "4.4501477170144023e-308"],
               "wild()"),
    "numeric": (["'NaN'", "0", "'Infinity'", "'-Infinity'", "0.00", "10000", "1e100", "1e-100",
                 "-0.000000000000000000000000000000000001000", "100000000.00010000",
                 "99999999999999999999999999999999999999999999999999.5", "9999.9999", "0.1000"],
                "round(wild(80)::numeric, (random() * 30)::int)"),
    "numeric(10,2)": (["-1234567.891", "0"], None),
    "date": (["'infinity'", "'-infinity'", "'4713-11-24 BC'", "'5874897-12-31'", "'0001-01-01'",
              "'0001-12-31 BC'", "'2000-02-29'", "'1900-02-28'", "'1900-03-01'"],
             "'2000-01-01'::date + wild(11)::int"),
    "time": (["'24:00:00'", "'00:00:00'"], "(random() * 86399)::int * '1.000001s'::interval"),
    "timetz": (["'15:44:00.5+05:30'", "'24:00:00-15:59:59'", "'00:00+00'", "'12:00:00-00:30'"],
                None),
    "timestamp": (["'infinity'", "'-infinity'", "'4713-11-24 00:00:00 BC'",
                   "'294276-12-31 23:59:59.999999'", "'0001-01-01'",
                   "'1999-12-31 23:59:59.999999'"],
                  "'2000-01-01'::timestamp + wild(5) * '100 years'::interval"),
    "timestamptz": (["'infinity'", "'-infinity'", "'0044-03-15 00:00:00+00 BC'",
                     "'294276-12-31 23:59:59.999999+00'", "'10000-01-01+00'", "'0001-01-01+00'",
                     "'0001-12-31 23:59:59.999999+00 BC'", "'9999-12-31 23:59:59.999999+00'",
                     "'1970-01-01+00'", "'1969-12-31 23:59:59.5+00'"],
                    "'2000-01-01'::timestamptz + wild(5) * '100 years'::interval"),
    "interval": (["'0'", "'1 year 2 mons -3 days 04:05:06.789'", "'-1 mon'", "'-1 year -1 day'",
                  "'-1 mon 1 day'", "'1 mon -1 day 00:00:01'", "'-1 day 00:00:01'",
                  "'-00:00:00.000001'",
                  "'1 day -00:00:01'", "'2147483647 mons'", "'infinity'", "'-infinity'",
                  "'2562047788:00:54.775807'", "'1 day'", "'1 mon'", "'-1 year 1 mon'"],
                 "make_interval(months => (random() * 50 - 25)::int,"
                 " days => (random() * 50 - 25)::int, secs => random() * 200000 - 100000)"),
    "uuid": (["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"], "gen_random_uuid()"),
    "inet": (["'10.1.2.3/8'", "'0.0.0.0/0'", "'255.255.255.255'", "'::1'", "'::'", "'::/0'",
              "'::2'",
              "'::1.2.3.4'", "'::ffff:1.2.3.4'", "'::ffff:0:1.2.3.4'", "'1::'", "'1:0:0:2::3'",
              "'1:0:0:2:0:0:0:3'", "'1:0:2:3:4:5:6:7'", "'0:1:2:3:4:5:6:7'", "'1:2:3:4:5:6:7:0'",
              "'1:2:3:4:5:6:0:0'", "'0:0:1::'", "'2001:db8::ff00:42:8329/64'", "'::1:0'",
              "'::5:6:7'",
              "'64:ff9b::1.2.3.4'"], None),
    "cidr": (["'10.0.0.0/8'", "'10.1.2.3/32'", "'2001:db8::/32'", "'::/0'", "'::1/128'"], None),
    "macaddr": (["'08:00:2b:01:02:03'"], None),
    "macaddr8": (["'08:00:2b:01:02:03:04:05'"], None),
    "bit(3)": (["B'101'"], None),
    "varbit": (["B''", "B'1'", "B'00110011'", "B'001100111'"], None),
    "point": (["'(1.5,-2)'", "'(1e300,NaN)'"], "point(wild(), wild())"),
    "lseg": (["'[(0,0),(1,1)]'"], None),
    "path": (["'((0,0),(1,1))'", "'[(0,0),(1,1e20)]'"], None),
    "box": (["'(2,2),(1,1)'"], None),
    "polygon": (["'((0,0),(1,1),(1,0))'"], None),
    "line": (["'{1,-1,0.1}'"], None),
    "circle": (["'<(0,0),1>'"], None),
    "tsvector": (["''", "$$'cat':3 'fat':2A,4B,5C,16383$$", r"$$'it''s' '\\' ' '$$"], None),
    "tsquery": (["''", "$$'fat' & ( 'rat' | !'cat' )$$", "$$a <-> (b <-> c)$$",
                 "$$(a <-> b) <-> c$$",
                 "$$a <7> b$$", "$$!(a & b) | !!c$$", "$$a:*AB & b:D & 'it''s\\\\'$$",
                 "$$(a | b) & c <-> d$$",
                 "$$!(a <-> b) <-> (c | d)$$"], None),
    "int4range": (["'[1,10)'", "'empty'", "'(,)'", "'(,5)'", "'[5,)'"], None),
    "numrange": (["'(1.0,1.5]'"], None),
    "tsrange": (["'[2026-01-01,infinity)'"], None),
    "tstzrange": (["'[2026-01-01 00:00+00,)'"], None),
    "daterange": (["'[2026-01-01,2026-02-01)'"], None),
    "int8range": (["'[1,9223372036854775807)'"], None),
    "int4multirange": (["'{[1,3),[5,8)}'", "'{}'"], None),
    "tsmultirange": (["'{[2026-01-01,2026-02-01),[2027-01-01,)}'"], None),
    "int4[]": (["'{}'", "'{1,NULL,3}'", "'[0:1]={1,2}'", "'{{1,2},{3,4}}'",
                "'[2:3][-1:0]={{1,2},{3,4}}'",
                "'{{{1},{2}}}'"], None),
    "bool[]": (["'{t,f,NULL}'"], None),
    "text[]": (["""'{"",NULL,"NULL","null","a b","a,b","a\\"b","a\\\\\\\\b","{}",x}'"""],
               "array[word(), word(), null, word()]"),
    "box[]": (["'{(1,1),(0,0);(3,3),(2,2)}'"], None),
    "timestamptz[]": (["'{2026-01-01 00:00+00,NULL}'", "'{infinity,2026-01-01 00:00+00}'"], None),
    "bytea[]": ([r"""'{"\\x00ff",NULL}'"""], None),
    "float4[]": (["'{1.5,NaN,1e-45}'"], None),
    "float8[]": (["'{1.5,NaN,5e-324}'"], "array[wild(), wild()]"),
    "numeric[]": (["'{1.50,NaN}'"], None),
    "jsonb[]": (["""array['{"a": 1}', 'null']::jsonb[]"""], None),
    "int4range[]": (["""array['[1,2)', 'empty']::int4range[]"""], None),
}
# Of types with OIDs of their own the file says what they are, for the test to find.
OWN = {
    "couple": "row((random() * 9)::int, word())::couple",
    "couple[]": "array[row(1, word())::couple, null, row(null, '')::couple]",
    "deep": "row(row(1, word()), array[wild(), null], numrange(1, 2.5), array[word(), null])::deep",
    "textrange": "textrange(nullif(least(a, b), 'z'), nullif(greatest(a, b), 'A'), '(]')",
    "doublerange": "doublerange(-1.5, abs(wild()))",
    "hstore": "hstore(array[a, b, 'x'], array[b, null, ''])",
    "citext": "word()::citext",
    "ltree": "'Top.Science'::ltree",
}
TIMES = 12  # random values of each


def send(c, sql_type, expression, count):
    """The type's OID and [(text, binary form in hex)]."""
    name = c.execute(f"select p.oid, s.proname from pg_type p join pg_proc s on s.oid = p.typsend "
                     f"where p.oid = '{sql_type}'::regtype").fetchone()
    return name[0], c.execute(
        f"select format('%s', v), encode({name[1]}(v), 'hex') from "
        f"(select ({expression})::{sql_type} v from (select word() || i a, word() || i b "
        f"from generate_series(1, {count}) i) g) x").fetchall()


def main():
    pg = Postgres(int(sys.argv[1]) if len(sys.argv) > 1 else 18).start()
    pg.sql(SETUP)
    with pg.connect() as c:
        c.execute(SETTINGS)
        c.execute("select setseed(0.5)")
        for sql_type, (fixed, expression) in VALUES.items():
            for value in fixed:
                show(sql_type, *send(c, sql_type, value, 1))
            if expression:
                show(sql_type, *send(c, sql_type, expression, TIMES))
        for sql_type, expression in OWN.items():
            show(sql_type, *send(c, sql_type, expression, TIMES))
    pg.destroy()


def show(sql_type, oid, rows):
    for text, binary in rows:
        print(oid, sql_type.split("(")[0].replace(" ", "_"), binary or "-",
        text.encode().hex() or "-")


if __name__ == "__main__":
    main()
