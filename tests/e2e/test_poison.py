"""What cannot be decoded: the same error at the same place three times ends the process, and says
where, in which table, and what to do; --skip-to gives it up, and consumers are told."""

import re

import pytest

from lib.postgres import lsn_number, lsn_text

DATA, USAGE = 5, 2


def poisoned(rc, *words):
    """Waits until it has given up; the place that its error offers to skip to, or None."""
    assert rc.wait_exit(30) == DATA, rc.process.log_tail()
    errors = re.findall(r"level=error.*", rc.process.log_text())
    assert len(errors) == 1, errors
    for word in ("the same error 3 times", "--skip-to", *words):
        assert word in errors[0], f"{word!r} is missing: {errors[0]}"
    found = re.search(r"--skip-to (\w+/\w+)", errors[0])
    return found and found[1]


def with_filter(pg):
    """A table whose row filter divides by a column, and a slot."""
    pg.sql("create table t (id int primary key, d int)")
    pg.sql("create publication rowcast for table t where (100 / d > 0) with (publish = 'insert')")


def test_a_transaction_is_given_up(pg, make_rowcast):
    """One that fails behind many good rows, of which a client had a part: it is told to forget
    that, then of the gap; the transactions before and behind it are whole, and nothing is skipped
    a second time."""
    with_filter(pg)
    rc = make_rowcast(source=pg.conninfo()).start()
    with rc.stream(start="now") as s:
        pg.sql("insert into t values (0, 1)")
        before = s.changes(1)[0]
        pg.sql("insert into t select n, case n when 30000 then 0 else 1 end"
               " from generate_series(1, 30000) n")
        pg.sql("insert into t values (30001, 1)")
        part = s.changes(100)
    skip = poisoned(rc, "division by zero", "last seen table public.t", "row filter")
    assert lsn_number(skip) == lsn_number(part[0]["lsn"]) + 1
    rc.process.argv += ["--skip-to", skip]
    rc.start()
    with rc.stream(start=part[-1]["cursor"]) as s:
        restart, gap, *_, last = s.entries_until(lambda e: "op" in e)
        assert restart["type"] == "restart" and gap["type"] == "gap", (restart, gap)
        assert lsn_number(before["lsn"]) < lsn_number(gap["from_lsn"]) <= lsn_number(part[0]["lsn"])
        assert gap["to_lsn"] == skip and "--skip-to" in gap["reason"]
        assert last["row"] == {"id": 30001, "d": 1}
    pg.wait_confirmed("rowcast", lsn_number(last["lsn"]))
    since = rc.process.log_size()
    assert rc.restart().log_contains("level=info.*nothing is skipped", since)
    with rc.stream(start="earliest") as s:
        kinds = [e.get("op") or e["type"] for e in s.until_lsn(pg.lsn() - 1)]
        assert kinds.count("gap") == 1 and kinds.count("insert") == 2, kinds


@pytest.mark.parametrize("streamed", [False, True])
def test_everything_up_to_now_is_given_up(make_postgres, make_rowcast, streamed):
    """Where the transaction is not known: its first change fails, or it is still open."""
    pg = make_postgres(conf={"logical_decoding_work_mem": "64kB"})
    with_filter(pg)
    rc = make_rowcast(source=pg.conninfo()).start()
    rows = 30000 if streamed else 1
    pg.sql(f"insert into t select n, n % {rows} from generate_series(1, {rows}) n")
    table = "public.t" if streamed else ""
    assert poisoned(rc, "division by zero", "pg_current_wal_lsn", table) is None
    here = lsn_text(pg.lsn())
    rc.process.argv += ["--skip-to", "FF/0"]
    rc.start(ready=False)
    assert rc.wait_exit() == USAGE and rc.log_contains("skip-to FF/0: the server's WAL ends at")
    rc.process.argv[-1] = here
    rc.start()
    pg.sql("insert into t values (99999, 1)")
    with rc.stream(start="earliest") as s:
        entries = s.entries_until(lambda e: "op" in e)
        assert entries[-1]["row"]["id"] == 99999
        assert [e["to_lsn"] for e in entries if e.get("type") == "gap"] == [here]


def test_column_lists_that_differ(pg, make_rowcast):
    """The remedy works: one publication alone can be read."""
    pg.sql("create table t (id int primary key, a int, b int);"
           "create publication one for table t (id, a);"
           "create publication two for table t (id, b)")
    rc = make_rowcast("--publication", "one,two", source=pg.conninfo()).start()
    pg.sql("insert into t values (1, 1, 1)")
    poisoned(rc, "different column lists", "public.t", "fewer publications")
    rc.process.argv[rc.process.argv.index("one,two")] = "two"
    rc.start()
    with rc.stream(start="earliest") as s:
        assert s.changes(1)[0]["row"] == {"id": 1, "b": 1}


def test_a_row_that_is_too_large(pg, make_rowcast):
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t")
    rc = make_rowcast("--row-max", "1MiB", source=pg.conninfo()).start()
    pg.sql("insert into t values (1, repeat('x', 1100000))")
    pg.sql("insert into t values (2, 'y')")
    skip = poisoned(rc, "public.t", "1100", "raise row-max")
    rc.process.argv += ["--skip-to", skip]
    rc.start()
    with rc.stream(start="earliest") as s:
        entries = s.entries_until(lambda e: "op" in e)
        assert "gap" in [e.get("type") for e in entries] and entries[-1]["row"]["id"] == 2
