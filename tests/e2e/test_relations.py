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
