"""What the catalog of now may say about the changes of then: partitions, renamed columns."""

import re

from lib.postgres import NEWEST
from lib.rowcast import command
from lib.wait import wait_for
from e2e.test_bad_input import USAGE, ends

SALES = ("create table sales (id int, year int, secret text, primary key (id, year))"
         " partition by range (year);")


def leaf(year):
    return (f"create table sales_{year} partition of sales"
            f" for values from ({year}) to ({year + 1});"
            f"insert into sales values (1, {year}, 'hidden')")


def tables(rc, count):
    """The tables of the first changes, in their order."""
    with rc.stream(tables=["*"], start="earliest") as stream:
        return [c["table"] for c in stream.changes(count)]


def kill_look_up(pg):
    pg.sql("select pg_terminate_backend(pid) from pg_stat_activity"
           " where application_name = 'rowcast_lookup'")


def test_a_partition_that_the_look_up_says_nothing_of_is_read_again(make_postgres, make_rowcast):
    pg = make_postgres(NEWEST)
    pg.sql(SALES + "create publication rowcast for table sales; create role r login replication;"
           "grant select on sales to r;" + leaf(2025))
    rc = make_rowcast("--table", "public.sales", source=pg.conninfo(user="r")).start()
    kill_look_up(pg)
    pg.sql(leaf(2026))  # a fresh connection answers
    assert tables(rc, 1) == ["public.sales_2026"]
    assert not rc.metrics().get("rowcast_reconnects_total")
    pg.sql("alter role r nologin")
    kill_look_up(pg)
    pg.sql(leaf(2027))  # none does
    rc.wait_log("level=warn.*no answer about table public.sales_2027.*not permitted to log in")
    wait_for(lambda: rc.get("/readyz")[0] == 503, what="the source to be away")
    pg.sql("alter role r login")
    assert tables(rc, 2) == ["public.sales_2026", "public.sales_2027"]


def test_partitions_detached_and_dropped_while_away(make_postgres, make_rowcast):
    """What was known of them decides; of one that is not known its changes are kept."""
    pg = make_postgres(NEWEST)
    pg.sql(SALES + "create table other (id int primary key);"
           "create publication rowcast for table sales, other;"
           + ";".join(map(leaf, (2024, 2025, 2026))))
    rc = make_rowcast("--table", "public.sales", source=pg.conninfo()).start()
    assert rc.stop() == 0
    pg.sql(leaf(2027) + ";" + leaf(2028))  # never seen
    pg.sql("insert into other values (1); insert into sales values (2, 2025), (2, 2026);"
           "alter table sales detach partition sales_2025; drop table sales_2026;"
           "alter table sales detach partition sales_2027; drop table sales_2028")
    rc.start()
    assert tables(rc, 4) == ["public.sales_2027", "public.sales_2028",
                             "public.sales_2025", "public.sales_2026"]
    for year, unknown in ((2025, False), (2026, False), (2027, True), (2028, True)):
        found = rc.log_contains(f"level=warn.*never seen before.*public.sales_{year}")
        assert bool(found) is unknown, rc.process.log_text()


def test_a_partition_that_came_and_went_while_away(each_pg, make_rowcast):
    """Also where partitions are published by themselves: its changes of then are kept, and neither
    those of now nor those of other tables."""
    pg = each_pg
    # (10 has no primary keys on partitioned tables)
    pg.sql("create table sales (id int, year int) partition by range (year);"
           "create table sales_24 partition of sales for values from (24) to (25);"
           "create table other (id int primary key); create table staging (id int, n int);"
           "create publication rowcast for all tables")
    rc = make_rowcast("--table", "public.sales", source=pg.conninfo()).start()
    assert rc.stop() == 0
    pg.sql("create table sales_25 partition of sales for values from (25) to (26)")
    pg.sql("insert into sales values (1, 25); insert into other values (1);"
           "insert into staging values (1)")
    pg.sql("truncate staging; alter table sales detach partition sales_25")
    pg.sql("insert into sales_25 values (2, 25)")
    pg.sql("create table sales_26 partition of sales for values from (26) to (27);"
           "insert into sales values (3, 26)")
    rc.start()
    assert tables(rc, 2) == ["public.sales_25", "public.sales_26"]
    assert rc.log_contains("level=warn.*may have been a partition.*public.sales_25")
    assert not rc.log_contains("may have been.*(other|staging)")


def test_a_table_that_becomes_a_partition(make_postgres, make_rowcast):
    pg = make_postgres(NEWEST)
    pg.sql(SALES + leaf(2024) + "; create table sales_2025 (like sales including all);"
           "create publication rowcast for all tables")
    rc = make_rowcast("--table", "public.sales", source=pg.conninfo()).start()
    pg.sql("insert into sales_2025 values (1, 2025)")  # not wanted
    pg.sql("alter table sales attach partition sales_2025 for values from (2025) to (2026)")
    pg.sql("insert into sales values (2, 2025)")
    with rc.stream(tables=["*"], start="earliest") as stream:
        assert stream.changes(1)[0]["row"]["id"] == 2


def test_excluded_and_masked_columns_of_partitions_and_under_new_names(make_postgres, make_rowcast):
    pg = make_postgres(NEWEST)
    pg.sql(SALES + "create table people (id int primary key, card int, name text);"
           "create publication rowcast for table sales, people;" + leaf(2025))
    rc = make_rowcast("--table", "public.sales", "--exclude-column", "public.sales.secret",
                      "--table", "people", "--mask-column", "people.card",
                      source=pg.conninfo()).start()
    pg.sql("insert into sales values (2, 2025, 'hidden');" + leaf(2026))
    pg.sql("begin; insert into people values (1, 777001); alter table people rename card to ssn;"
           "insert into people values (2, 777002); commit")
    with rc.stream(tables=["*"], start="earliest") as stream:
        got = [c["row"] for c in stream.changes(4)]
    assert got == [{"id": 2, "year": 2025}, {"id": 1, "year": 2026},
                   {"id": 1, "card": "****", "name": None}, {"id": 2, "ssn": "****", "name": None}]
    # The same while it is away.
    assert rc.stop() == 0
    pg.sql("alter table people rename ssn to tax; alter table sales rename secret to note;"
           "insert into people values (3, 777003); insert into sales values (3, 2025, 'hidden')")
    rc.start()
    with rc.stream(tables=["*"], start="earliest") as stream:
        got = [c["row"] for c in stream.changes(6)][4:]
    assert got == [{"id": 3, "tax": "****", "name": None}, {"id": 3, "year": 2025}]
    assert rc.stop() == 0
    for file in rc.journal.rglob("*"):
        assert file.is_dir() or b"hidden" not in file.read_bytes()
    assert "777" not in command("journal", "dump", rc.journal).stdout


def test_a_renamed_table_stays_wanted(make_postgres, make_rowcast):
    """By the name that it had when it was first seen; so do globs over its columns. One that takes
    the name over is wanted too."""
    pg = make_postgres(NEWEST)
    pg.sql("create table t (id int primary key, secret text);"
           "create table other (id int primary key);"
           "create table fresh (id int primary key, secret text);"
           "create publication rowcast for all tables")
    options = ["--table", "public.t", "--exclude-column", "public.t.secret"]
    rc = make_rowcast(*options, source=pg.conninfo()).start()
    pg.sql("insert into t values (1, 'hidden'); insert into fresh values (1, 'not wanted')")
    pg.sql("alter table t rename secret to word; alter table t rename to t_old;"
           "insert into t_old values (2, 'hidden')")
    rc.restart()
    pg.sql("insert into t_old values (3, 'hidden'); insert into other values (1)")
    assert rc.stop() == 0
    pg.sql("create schema s; alter table t_old set schema s; alter table fresh rename to t;"
           "insert into s.t_old values (4, 'hidden'); insert into t values (5, 'hidden')")
    rc.start()
    with rc.stream(tables=["*"], start="earliest") as stream:
        got = [(c["table"], c["row"]) for c in stream.changes(5)]
    assert got == [("public.t", {"id": 1}), ("public.t_old", {"id": 2}),
                   ("public.t_old", {"id": 3}), ("s.t_old", {"id": 4}), ("public.t", {"id": 5})]
    # Alone it is enough to start with, though no table has the name any more.
    assert rc.stop() == 0
    pg.sql("drop table t")
    rc.start()
    assert rc.stop() == 0
    for file in rc.journal.rglob("*"):
        assert file.is_dir() or b"hidden" not in file.read_bytes()
    assert "hidden" not in command("journal", "dump", rc.journal).stdout


def test_a_gone_partition_keeps_its_secrets(make_postgres, make_rowcast):
    pg = make_postgres(NEWEST)
    pg.sql(SALES + "create publication rowcast for table sales;" + leaf(2025))
    rc = make_rowcast("--exclude-column", "public.sales.secret", source=pg.conninfo()).start()
    assert rc.stop() == 0
    pg.sql(leaf(2026) + "; drop table sales_2026")  # never seen, and gone when it is read
    rc.start()
    with rc.stream(tables=["*"], start="earliest") as stream:
        assert stream.changes(1)[0]["row"] == {"id": 1, "year": 2026}


def test_a_glob_that_matches_no_column_is_refused(pg, make_rowcast):
    pg.sql("create table people (id int primary key, card text);"
           "create publication rowcast for table people")
    options = ["--exclude-column", "public.people.crad", "--mask-column", "people.card"]
    result = command("check", "--source", pg.conninfo(), *options)
    assert result.returncode
    assert re.findall("^fail: (.*?):", result.stdout, re.M) == ["exclude-column public.people.crad"]
    ends(make_rowcast(*options, source=pg.conninfo()), USAGE,
         "exclude-column public.people.crad: matches no column")
    # One that was there when it was read is remembered.
    rc = make_rowcast(*options[2:], source=pg.conninfo()).start()
    pg.sql("alter table people rename card to ssn")
    rc.restart()
    pg.sql("insert into people values (1, 'hidden')")
    with rc.stream(tables=["*"], start="earliest") as stream:
        assert stream.changes(1)[0]["row"] == {"id": 1, "ssn": "****"}


def shapes(proto):
    """The fields of each table's row, from what `rowcast schema` prints."""
    return {table: re.findall(r"(\w+) = \d+", body) for table, body in
            re.findall(r"^message (\w+) \{(.*?)^\}", proto, re.M | re.S)
            if not table.endswith("Change")}


def test_the_tables_are_listed_once_however_many(each_pg, make_rowcast):
    """Listing is the server's work over all tables: not to be done again for each part of them."""
    pg = each_pg
    pg.configure({"log_statement": "all"})
    pg.reload()
    pg.sql("do $$ begin for i in 1..450 loop execute "
           "format('create table many_%s (id int primary key, v text)', i); end loop; end $$;"
           "create publication rowcast for all tables; create publication few for table many_1")
    listed = []
    for name in "few", "rowcast":
        mark = len(pg.process.log_text())
        rc = make_rowcast("--publication", name, "--slot", name, source=pg.conninfo()).start()
        listed.append(len(re.findall("rowcast_lookup LOG: .*pg_(get_)?publication_tables",
                                     pg.process.log_text()[mark:])))
        assert rc.stop() == 0
        tables_seen = shapes(command("schema", "--journal", rc.journal).stdout)
        assert len(tables_seen) == {"few": 1, "rowcast": 450}[name]
    assert listed[0] == listed[1] > 0


def test_only_published_columns_are_seen_before_the_first_row(each_pg):
    pg = each_pg
    # (a generated column is published from 18 on, on request; a column list is known from 15 on)
    pg.sql("create table plain (id int primary key, a text"
           + (", g int generated always as (id + 1) stored" if pg.version >= 12 else "")
           + "); create publication rowcast for table plain"
           + ("; create table part (id int primary key, a text, b text, c text);"
              "alter publication rowcast add table part (id, b)" if pg.version >= 15 else ""))
    if pg.version >= 18:
        pg.sql("create table made (id int primary key, g int generated always as (id + 1) stored);"
               "create publication made for table made with (publish_generated_columns = stored)")
    result = command("schema", "--source", pg.conninfo(), "--publication", "rowcast,made"
                     if pg.version >= 18 else "rowcast")
    assert shapes(result.stdout) == {
        "PublicPlain": ["id", "a"],
        **({"PublicPart": ["id", "b"]} if pg.version >= 15 else {}),
        **({"PublicMade": ["id", "g"]} if pg.version >= 18 else {})}, result
