"""Every type on real servers: names, JSON and protobuf against what PostgreSQL itself says."""

import base64
import itertools
import re
import subprocess

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from lib import paths
from lib.rowcast import command
from lib.texts import Exact, as_json, as_protobuf, leaves, parse_array

# SQL type: (oldest server, values). Each value stands in a row of its own, then in arrays.
TYPES = {
    "bool": (10, ["true", "false"]),
    "bytea": (10, [r"\x", r"\x00ff5c22", "abc"]),
    '"char"': (10, ["x"]),
    "name": (10, ["a name"]),
    "bigint": (10, ["9223372036854775807", "-9223372036854775808", "0"]),
    "smallint": (10, ["32767", "-32768"]),
    "integer": (10, ["2147483647", "-2147483648", "0"]),
    "int2vector": (10, ["1 2 3"]),
    "regproc": (10, ["now"]),
    "text": (10, ["", "NULL", "null", 'a "quoted", \\ {text}', " grüß\tdich \n🐘", "'"]),
    "oid": (10, ["4294967295", "0"]),
    "tid": (10, ["(7,1)"]),
    "xid": (10, ["4294967295"]),
    "cid": (10, ["1"]),
    "oidvector": (10, ["23 25"]),
    "json": (10, ['{"a":  [1, 2.50, null],\n "b": "ü\\n"}', '"text"', "12345678901234567890.5"]),
    "xml": (10, ["<a b='1'>text</a>"]),
    "point": (10, ["(1.5,-2)"]),
    "lseg": (10, ["[(0,0),(1,1)]"]),
    "path": (10, ["((0,0),(1,1))", "[(0,0),(1,1)]"]),
    "box": (10, ["(2,2),(1,1)", "(1,1),(0,0)"]),
    "polygon": (10, ["((0,0),(1,1),(1,0))"]),
    "line": (10, ["{1,-1,0}"]),
    "cidr": (10, ["10.0.0.0/8", "2001:db8::/32"]),
    "real": (10, ["1.5", "0.1", "3.4028235e38", "1e-45", "-0", "NaN", "Infinity", "-Infinity"]),
    "double precision": (10, ["0.1", "-1.5", "1.7976931348623157e308", "5e-324", "-0", "1e23",
                              "123456789.123456789", "NaN", "Infinity", "-Infinity"]),
    "circle": (10, ["<(0,0),1>"]),
    "macaddr8": (10, ["08:00:2b:01:02:03:04:05"]),
    "money": (10, ["1234.5"]),
    "macaddr": (10, ["08:00:2b:01:02:03"]),
    "inet": (10, ["::1", "10.1.2.3/8"]),
    "aclitem": (10, ["postgres=r/postgres"]),
    "char(5)": (10, ["ab", ""]),
    "bpchar": (10, ["ab  "]),
    "varchar(20)": (10, ["", "grüß"]),
    "varchar": (10, ["x"]),
    "date": (10, ["2026-11-23", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"]),
    "time": (10, ["24:00:00", "15:44:00.123456"]),
    "time(3)": (10, ["15:44:00.123456"]),
    "timestamp": (10, ["2026-11-23 15:44:00.123456", "294276-12-31 23:59:59.999999", "infinity",
                       "0044-03-15 00:00:00 BC"]),
    "timestamp(0)": (10, ["2026-11-23 15:44:00.6"]),
    "timestamptz": (10, ["2026-11-23 15:44:00.123456+05:30", "1970-01-01 00:00:00+00",
                         "1969-12-31 23:59:59.5+00", "0001-01-01 00:00:00+00",
                         "9999-12-31 23:59:59.999999+00", "10000-01-01 00:00:00+00",
                         "294276-12-31 23:59:59.999999+00", "0044-03-15 00:00:00+00 BC",
                         "infinity", "-infinity"]),
    "timestamptz(3)": (10, ["2026-11-23 15:44:00.1236+00"]),
    "interval": (10, ["1 year 2 mons -3 days 04:05:06.789", "0"]),
    "interval day to second(3)": (10, ["3 days 04:05:06.7891"]),
    "interval year": (10, ["3 years"]),
    "timetz": (10, ["15:44:00.5+05:30"]),
    "timetz(0)": (10, ["15:44:00-08"]),
    "bit(3)": (10, ["101"]),
    '"bit"': (10, ["10101"]),
    "varbit(7)": (10, ["", "1"]),
    "varbit": (10, ["0011"]),
    "numeric": (10, ["NaN", "0", "-0.000000000000000000000000000000000001000",
                     "99999999999999999999999999999999999999999999999999.5"]),
    "numeric(10,2)": (10, ["-1234567.891", "0"]),
    "numeric(3,-2)": (15, ["12345"]),
    "refcursor": (10, ["c"]),
    "regprocedure": (10, ["now()"]),
    "regoper": (10, ["||/"]),
    "regoperator": (10, ["+(integer,integer)"]),
    "regclass": (10, ["pg_class", "public.scalars"]),
    "regtype": (10, ["integer", "public.mood"]),
    "uuid": (10, ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "txid_snapshot": (10, ["10:20:10,14,15"]),
    "pg_lsn": (10, ["16/B374D848"]),
    "tsvector": (10, ["'cat':3 'fat':2A,4"]),
    "tsquery": (10, ["'fat' & ( 'rat' | !'cat' )"]),
    "regconfig": (10, ["english"]),
    "regdictionary": (10, ["simple"]),
    "jsonb": (10, ['{"a": [1, 2.50, null], "b": "ü\\n\\""}', "[]", "true", '"NULL"']),
    "int4range": (10, ["[1,10)", "empty", "(,)"]),
    "numrange": (10, ["(1.0,1.5]"]),
    "tsrange": (10, ["[2026-01-01,infinity)"]),
    "tstzrange": (10, ["[2026-01-01 00:00+00,)"]),
    "daterange": (10, ["[2026-01-01,2026-02-01)"]),
    "int8range": (10, ["[1,9223372036854775807)"]),
    "jsonpath": (12, ['$."a"[*]?(@ > 1)']),
    "regnamespace": (10, ["public"]),
    "regrole": (10, ["postgres"]),
    "regcollation": (13, ['"C"']),
    "int4multirange": (14, ["{[1,3),[5,8)}", "{}"]),
    "nummultirange": (14, ["{[1.5,2]}"]),
    "tsmultirange": (14, ["{[2026-01-01,2026-02-01)}"]),
    "tstzmultirange": (14, ["{[2026-01-01 00:00+00,)}"]),
    "datemultirange": (14, ["{[2026-01-01,2026-02-01)}"]),
    "int8multirange": (14, ["{[1,3)}"]),
    "pg_snapshot": (13, ["10:20:10,14,15"]),
    "xid8": (13, ["18446744073709551615"]),
    # user types
    "public.mood": (10, ["sehr gut", "ok"]),
    "public.count": (10, ["-5", "7"]),
    "public.small": (10, ["5"]),
    "public.moment": (10, ["2026-11-23 15:44:00+00", "infinity"]),
    "public.doc": (10, ['{"a": 1}']),
    "public.pair": (10, ['(1,"a ""b"" \\\\ c")', "(,)"]),
    'public."Odd.Name"': (10, ["x"]),
    "public.floatrange": (10, ["[1.5,2.5)"]),
    "hstore": (10, ['"a"=>"1", "b"=>NULL']),
    "citext": (10, ["Ab"]),
    "ltree": (10, ["Top.Science"]),
}
SETUP = """
create type mood as enum ('sehr gut', 'ok');
create domain count as integer;
create domain small as count check (value < 100);
create domain moment as timestamptz;
create domain doc as jsonb;
create domain tags as text[];
create domain zone as box;
create type pair as (a int, b text);
create type "Odd.Name" as enum ('x');
create type floatrange as range (subtype = float8);
"""
DOMAINS = ("public.count", "public.small", "public.moment", "public.doc")
# What texts depend on, as rowcast sets it for itself.
SETTINGS = "set timezone = 'UTC'; set extra_float_digits = 3; set search_path = pg_catalog; " \
           "set bytea_output = hex; set datestyle = ISO; set intervalstyle = postgres"


def literal(text):
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


def make_tables(pg, without=()):
    """The tables with a column a type, but for those in `without`; returns {column of arrays:
    element type}, and {type: values}."""
    pg.sql(SETUP)
    missing = set()
    for extension in ("hstore", "citext", "ltree"):
        if pg.value("select count(*) from pg_available_extensions where name = %s", extension):
            pg.sql(f"create extension {extension}")
        else:
            missing.add(extension)
    have = {sql_type: values for sql_type, (oldest, values) in TYPES.items()
            if pg.version >= oldest and sql_type not in missing and sql_type not in without}
    columns = {f"c{i}": t for i, t in enumerate(have)}
    domains = () if pg.version >= 11 else DOMAINS  # they have no arrays before
    arrays = {n: t for n, t in columns.items() if t not in domains}
    more = ", d0 tags, d1 tags[], d2 zone[]" if pg.version >= 11 else ""
    make_table(pg, "scalars", columns, "")
    make_table(pg, "arrays", {n: t + "[]" for n, t in arrays.items()}, more)
    return arrays, have


def make_table(pg, table, columns, more):
    columns = ", ".join(f"{n} {t}" for n, t in columns.items())
    pg.sql(f"create table {table} (id int primary key, {columns}{more})")


def fill(pg, arrays, have):
    for i, row in enumerate(itertools.zip_longest(*have.values())):
        pg.sql(f"insert into scalars values ({i}, {', '.join(map(literal, row))})")
    for i, shape in enumerate(("null", "empty", "all", "nested", "bounds")):
        cells = [array_of(shape, t, have[t]) for t in arrays.values()]
        pg.sql(f"insert into arrays (id, {', '.join(arrays)}) values ({i}, {', '.join(cells)})")
    if pg.version >= 11:
        pg.sql("""insert into arrays (id, d0, d1, d2) values (100, '{a,NULL,"b c"}',
                  array['{a,b}', '{}']::tags[], '{(1,1),(0,0);(3,3),(2,2)}')""")


def array_of(shape, sql_type, values):
    """An SQL literal; array constructors would take vectors apart."""
    quoted = ['"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values]
    comma = ";" if sql_type == "box" else ","
    if shape == "null":
        return shape
    if shape == "empty":
        return "'{}'"
    if shape == "all":
        return literal("{" + comma.join(["NULL", *quoted]) + "}")
    if shape == "nested":
        first, second = quoted[0] + comma + "NULL", quoted[-1] + comma + quoted[0]
        return literal(f"{{{{{first}}}{comma}{{{second}}}}}")
    return literal(f"[0:1]={{{quoted[0]}{comma}{quoted[-1]}}}")


class Truth:
    """What PostgreSQL says of a table: `types` {column: (name, base name)}, `rows` {id: {column:
    text}}, and of each column the base type of its scalars and the arrays' delimiter (or None)."""

    def __init__(self, pg, table):
        with pg.connect() as c:
            c.execute(SETTINGS)
            self.catalog = {row[0]: row[1:] for row in c.execute(
                "select oid, format_type(oid, null), typtype::text, typbasetype, typdelim::text, "
                "case when oid in (select typarray from pg_type) then typelem else 0 end "
                "from pg_type")}
            columns = c.execute(
                "select attname::text, format_type(atttypid, atttypmod), atttypid "
                "from pg_attribute where attrelid = to_regclass(%s) and attnum > 0",
                [f"public.{table}"]).fetchall()
            self.types = {name: (full, self.base_name(oid)) for name, full, oid in columns}
            self.scalars = {name: self.scalar(oid) for name, _, oid in columns}
            texts = ", ".join(f"case when num_nulls({n}) = 0 then format('%s', {n}) end"
                              for n in self.types)
            self.rows = {int(row[0]): dict(zip(self.types, row))
                         for row in c.execute(f"select {texts} from public.{table}")}

    def base(self, oid):
        """Behind all domains."""
        while self.catalog[oid][1] == "d":
            oid = self.catalog[oid][2]
        return oid

    def base_name(self, oid):
        oid = self.base(oid)
        element = self.catalog[oid][4]
        return self.base_name(element) + "[]" if element else self.catalog[oid][0]

    def scalar(self, oid):
        """(base type of the scalars, delimiter of their arrays or None)"""
        oid = self.base(oid)
        element = self.base(self.catalog[oid][4]) if self.catalog[oid][4] else None
        if element is None:
            return self.catalog[oid][0], None
        inner = "text" if self.catalog[element][4] else self.catalog[element][0]
        return inner, self.catalog[element][3]

    def value(self, i, name):
        """A value as its text, nested lists of texts, or None."""
        text, delimiter = self.rows[i][name], self.scalars[name][1]
        return text if text is None or delimiter is None else parse_array(text, delimiter)


def expected(convert, truth, i, name):
    """(value, exact): the converted value; or PostgreSQL's text where the field cannot hold it."""
    try:
        return leaves(convert, truth.scalars[name][0], truth.value(i, name)), False
    except Exact:
        return truth.rows[i][name], True


def check_json(truth, change):
    i = change["row"]["id"]
    for name, got in change["row"].items():
        base, delimiter = truth.scalars[name]
        want, is_exact = expected(as_json, truth, i, name)
        if base in ("real", "double precision"):
            got = leaves(lambda _, v: v if isinstance(v, str) else as_protobuf(base, v), base, got)
        assert got == want, f"{truth.types[name]} {truth.rows[i][name]!r}"
        if delimiter and not is_exact and (truth.rows[i][name] or "").startswith("["):
            text = change["exact"][name]  # servers before 12 write more digits than a float has
            assert text.split("=")[0] == truth.rows[i][name].split("=")[0]
            assert leaves(as_json, base, parse_array(text, delimiter)) == want
        else:
            assert name not in change.get("exact", {})


def check_relation(truth, relation):
    got = {c["name"]: (c["type"], c["base_type"]) for c in relation["columns"]}
    assert got == truth.types


def protobuf_classes(rc, directory):
    """Message classes by full name, from the schema that rowcast prints, by protoc."""
    schema = command("schema", f"ws://127.0.0.1:{rc.port}")
    assert schema.returncode == 0, schema.stderr
    (directory / "tables.proto").write_text(schema.stdout)
    google = directory / "google" / "protobuf" / "timestamp.proto"  # Debian: in libprotobuf-dev
    google.parent.mkdir(parents=True)
    google.write_text('syntax = "proto3"; package google.protobuf;'
                      "message Timestamp { int64 seconds = 1; int32 nanos = 2; }")
    subprocess.run(["protoc", f"-I{directory}", f"-I{paths.ROOT / 'proto'}", "--include_imports",
                    f"--descriptor_set_out={directory / 'set'}", "tables.proto"], check=True)
    files = descriptor_pb2.FileDescriptorSet.FromString((directory / "set").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return lambda name: factory.GetPrototype(pool.FindMessageTypeByName(name))


def nested(message):
    """The nested lists that an array message says."""
    numbers = set(message.null)
    flat = [None if i in numbers else v for i, v in enumerate(message.value)]
    for d in reversed(message.dimension[1:]):
        flat = [flat[i:i + d.length] for i in range(0, len(flat), d.length)]
    if message.dimension:
        assert len(flat) == message.dimension[0].length
    return flat


def plain(base, value):
    """A field's value as as_protobuf gives it."""
    if base in ("real", "double precision"):
        return repr(value)
    if base == "timestamp with time zone":
        assert value.nanos % 1000 == 0
        return value.seconds * 1000000 + value.nanos // 1000
    return value


def check_protobuf(truth, row, exact):
    for name in truth.types:
        base, delimiter = truth.scalars[name]
        want, is_exact = expected(as_protobuf, truth, row.id, name)
        number = row.DESCRIPTOR.fields_by_name[name].number
        assert is_exact == (number in exact), f"{truth.types[name]} {want!r}"
        if is_exact:
            assert exact[number] == want
        if is_exact or want is None:
            assert not row.HasField(name)
            continue
        assert row.HasField(name), f"{truth.types[name]} {want!r}"
        got = getattr(row, name)
        if delimiter:
            bounds = re.findall(r"\[(-?\d+):", truth.rows[row.id][name].split("{")[0])
            assert [str(d.lower) for d in got.dimension if d.lower != 1] == bounds
            got = nested(got)
        assert leaves(plain, base, got) == want, f"{truth.types[name]}"


def test_every_type(each_pg, make_rowcast, tmp_path):
    pg = each_pg
    arrays, have = make_tables(pg)
    rc = make_rowcast("--table", "public.*", source=pg.url()).start()
    fill(pg, arrays, have)
    truths = {t: Truth(pg, t) for t in ("scalars", "arrays")}
    count = sum(len(t.rows) for t in truths.values())
    assert count >= 15
    relations = 0
    with rc.stream(start="earliest") as stream:
        while count:
            entry = stream.entry()
            if entry.get("type") == "relation":
                check_relation(truths[entry["name"]], entry)
                relations += 1
            elif "op" in entry:
                check_json(truths[entry["table"].split(".")[1]], entry)
                count -= 1
    assert relations >= 2
    message = protobuf_classes(rc, tmp_path)
    rows = {"scalars": message("rowcast.tables.PublicScalars"),
            "arrays": message("rowcast.tables.PublicArrays")}
    seen = {name: set() for name in rows}
    tables = {}
    with rc.stream(start="earliest", subprotocol="rowcast.v1.proto") as stream:
        while any(seen[t] != set(truths[t].rows) for t in seen):
            frame = message("rowcast.v1.ServerFrame").FromString(stream.recv_raw())
            for entry in frame.entry:
                if entry.HasField("relation"):
                    tables[entry.relation.id] = entry.relation.name
                if entry.HasField("change"):
                    table = tables[entry.change.relation]
                    row = rows[table].FromString(entry.change.after)
                    exact = {x.number: x.text for x in entry.change.exact}
                    check_protobuf(truths[table], row, exact)
                    seen[table].add(row.id)


def test_json_null_inside_jsonb_is_told_from_null(pg, make_rowcast):
    pg.sql("create table t (id int primary key, j json, b jsonb, a jsonb[])")
    rc = make_rowcast("--table", "public.t", source=pg.url()).start()
    with rc.stream(tables=["public.t"], start="now") as stream:
        pg.sql("""insert into t values (1, 'null', 'null', array['null', null, '1']::jsonb[])""")
        change, = stream.changes(1)
    assert change["row"] == {"id": 1, "j": None, "b": None, "a": [None, None, 1]}
    assert change["exact"] == {"j": "null", "b": "null", "a": '{"null",NULL,1}'}


def test_large_and_unchanged_values(each_pg, make_rowcast):
    pg = each_pg
    pg.sql("create table t (id int primary key, body text, raw bytea, n int);"
           "alter table t alter body set storage external, alter raw set storage external")
    rc = make_rowcast("--table", "public.t", source=pg.url()).start()
    size = 5 << 20
    with rc.stream(tables=["public.t"], start="now") as stream:
        pg.sql(f"insert into t values (1, repeat('ü', {size}), "
               f"decode(repeat('00ff', {size // 2}), 'hex'), 1)")
        change, = stream.changes(1, deadline=60)
        body, raw = "ü" * size, b"\x00\xff" * (size // 2)
        if "omitted" in change:  # larger than one frame may be
            assert set(change["omitted"]) == {"body", "raw"}
        else:
            assert change["row"]["body"] == body
            assert base64.b64decode(change["row"]["raw"]) == raw
        pg.sql("update t set n = 2")
        change, = stream.changes(1)
        assert sorted(change["unchanged"]) == ["body", "raw"]
        assert change["row"] == {"id": 1, "n": 2}
        pg.sql("alter table t replica identity full")
        pg.sql("update t set body = repeat('a', 10000), raw = repeat('b', 10000)::bytea")
        pg.sql("update t set n = 3")
        stream.changes(1, deadline=60)
        change, = stream.changes(1)
        assert "unchanged" not in change
        assert change["row"]["body"] == change["old"]["body"] == "a" * 10000
        assert (change["row"]["n"], change["old"]["n"]) == (3, 2)
