"""The widest table and the longest names, as awkward as PostgreSQL allows, through every sink."""

import json
import subprocess

import pytest

from lib import paths
from lib.rowcast import command
from lib.wait import wait_for

COLUMNS = 1600


def longest(text):
    """63 bytes of name, with quotes, a dot, blanks and emoji."""
    name = text + ' "q" .\u00e9 %s \\ ' + "\U0001f418" * 20
    name = name.encode()[:63].decode(errors="ignore")
    return name + "-" * (63 - len(name.encode()))


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture
def odd(pg):
    """Schema, table, column and publication of the longest names."""
    schema, table, column, publication = map(longest, ("Schema", "Table", "Column", "Publication"))
    whole = f"{quoted(schema)}.{quoted(table)}"
    with pg.connect() as c:
        c.execute(f"create schema {quoted(schema)}")
        c.execute(f"create table {whole} (id int primary key, {quoted(column)} text)")
        c.execute(f"create publication {quoted(publication)} for table {whole}")
    return schema, table, column, publication, whole


def test_the_longest_names(pg, kafka, make_rowcast, odd):
    schema, table, column, publication, whole = odd
    rc = make_rowcast("--publication", publication, "--topic-prefix", "odd", "--kafka-format",
                      "json", "--stdout", "--table", whole, source=pg.conninfo(),
                      kafka=kafka.bootstrap).start()
    with pg.connect() as c:
        c.execute(f"insert into {whole} values (1, 'x')")
        c.execute(f"truncate {whole}")
    row = {"id": 1, column: "x"}
    with rc.stream(tables=[whole], start="earliest") as s:
        change, emptied = s.changes(2)
    assert change["table"] == whole and change["row"] == row and emptied["tables"] == [whole]
    wait_for(lambda: '"op":"truncate"' in rc.output(), what="the changes on stdout")
    printed = [json.loads(line) for line in rc.output().splitlines()]
    assert row in [entry.get("row") for entry in printed]
    clean = [bytes(b if chr(b).isalnum() and b < 128 or b in b"._-" else ord("_")
                   for b in name.encode()).decode() for name in (schema, table)]
    topic = ".".join(["odd", *clean])
    records = wait_for(lambda: kafka.records(topic), 30, f"records in {topic}", every=0.2)
    assert json.loads(records[0].value)["row"] == row and len(topic) <= 249
    assert rc.metrics().get("rowcast_changes_total", op="insert") == 1
    assert rc.stop() == 0
    schema_text = command("schema", "--journal", rc.journal).stdout
    proto = rc.dir / "odd.proto"
    proto.write_text(schema_text)
    subprocess.run(["protoc", f"-I{rc.dir}", f"-I{paths.ROOT / 'proto'}",
                    f"--descriptor_set_out={rc.dir / 'odd.pb'}", proto], check=True)
    dumped = command("journal", "dump", rc.journal, "--table", whole)
    assert row in [json.loads(line).get("row") for line in dumped.stdout.splitlines()]
    found = command("check", "--source", pg.conninfo(), "--publication", publication, "--table",
                    quoted(schema).replace("\\", "?") + ".*", "--exclude-column",
                    f"{whole}.{quoted(column)}").stdout
    assert found.endswith("0 problems\n"), found


def test_the_widest_table(pg, kafka, make_rowcast):
    """1,600 columns; all of them, some unchanged, some gone and renamed."""
    columns = ", ".join(f"c{n} int" for n in range(1, COLUMNS))
    pg.sql(f"create table wide (id int primary key, {columns});"
           "create publication rowcast for table wide")
    rc = make_rowcast("--topic-prefix", "wide", "--kafka-format", "json", source=pg.conninfo(),
                      kafka=kafka.bootstrap).start()
    pg.sql(f"insert into wide select {', '.join(str(n) for n in range(COLUMNS))}")
    pg.sql(f"alter table wide rename c{COLUMNS - 1} to last; update wide set last = null")
    names = ["id", *(f"c{n}" for n in range(1, COLUMNS))]
    with rc.stream(start="earliest") as s:
        first, second = s.changes(2)
    assert first["row"] == dict(zip(names, range(COLUMNS)))
    assert second["row"]["last"] is None and len(second["row"]) == COLUMNS
    records = wait_for(lambda: kafka.records("wide.public.wide")[:2], 30, "records", every=0.2)
    assert json.loads(records[0].value)["row"] == first["row"]
    text = command("schema", "--source", pg.conninfo()).stdout
    assert text.count(" = ") >= COLUMNS and rc.stop() == 0
