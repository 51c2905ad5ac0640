"""What the catalog of now may say about the changes of then: partitions, renamed columns."""

from lib.postgres import NEWEST
from lib.wait import wait_for

SALES = ("create table sales (id int, year int, secret text, primary key (id, year))"
         " partition by range (year);")


def leaf(year):
    return (f"create table sales_{year} partition of sales for values from ({year}) to ({year + 1});"
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
           "create publication rowcast for table sales, other;" + ";".join(map(leaf, (2024, 2025, 2026))))
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
