"""The files beside the segments, as a power cut, a bad disk or a partial restore may leave them:
nothing is lost or mixed up. What cannot be gone on with is refused, and its file named."""

import os

from lib.wait import wait_for

JOURNAL = 6


def gone(path):
    path.unlink()


def emptied(path):
    os.truncate(path, 0)


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


def garbled(path):
    path.write_bytes(os.urandom(max(path.stat().st_size, 64)))


DAMAGES = [gone, emptied, zeroed, garbled]


def begin(pg, make_rowcast):
    """A journal with a table's existing rows and its changes; rowcast has ended."""
    pg.sql("create table t (id int primary key); insert into t values (1), (2);"
           "create publication rowcast for table t")
    rc = make_rowcast("--snapshot", "initial", source=pg.conninfo()).start()
    rc.wait_log("existing rows of a table are read")
    pg.sql("insert into t values (3)")
    with rc.stream(start="earliest") as s:
        s.entries_until(lambda e: e.get("row") == {"id": 3})
        cursor = s.entries_until(lambda e: e.get("type") == "end")[-1]["cursor"]
    pg.wait_confirmed("rowcast", pg.lsn())
    assert rc.stop() == 0
    return rc, cursor


def test_refused(pg, make_rowcast):
    rc, cursor = begin(pg, make_rowcast)

    def refuses(name, damage):
        path = rc.journal / name
        before = path.read_bytes() if path.exists() else None
        damage(path)
        for _ in range(2):  # the first did not mend it by making another one
            since = rc.process.log_size()
            assert rc.start(ready=False).wait_exit() == JOURNAL, (name, damage)
            assert rc.log_contains(f"class=journal .*{name}.* (missing|damaged|not rowcast's).*"
                                   "backup", since=since), rc.process.log_tail()
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)

    for name in ("identity", "relations", "snapshot"):
        for damage in DAMAGES:
            if (name, damage) != ("snapshot", gone):
                refuses(name, damage)
    refuses("cut", lambda path: path.touch())
    rc.start()
    pg.sql("insert into t values (4)")
    with rc.stream(start=cursor) as s:
        assert s.changes(1)[0]["row"] == {"id": 4}


def test_gone_on_with(pg, make_rowcast):
    """At worst shapes are announced again."""
    rc, cursor = begin(pg, make_rowcast)
    ids = iter(range(10, 1000))
    old = {name: (rc.journal / name).read_bytes() for name in ("told", "hint", "snapshot")}

    def old_copy(path):
        path.write_bytes(old[path.name])

    def halved(path):
        os.truncate(path, path.stat().st_size // 2)

    def goes_on(what):
        nonlocal cursor
        column = f"c{next(ids)}"
        row = {"id": next(ids), column: "x"}
        rc.start()
        pg.sql(f"alter table t add {column} text;"
               f"insert into t (id, {column}) values ({row['id']}, 'x')")
        with rc.stream(start=cursor) as s:
            entries = s.entries_until(lambda e: e.get("type") == "end")
        changes = [e for e in entries if "op" in e]
        assert len(changes) == 1, (what, changes)
        assert {k: v for k, v in changes[0]["row"].items() if v is not None} == row, what
        told = [e for e in entries if e.get("type") == "schema_change"]
        assert len(told) == 1 and entries.index(told[0]) < entries.index(changes[0]), what
        cursor = entries[-1]["cursor"]
        rc.kill9()

    goes_on("what is whole")
    for name in ("told", "hint", "lock", "snapshot"):
        for damage in [*DAMAGES, halved, old_copy]:
            path = rc.journal / name
            refused = name == "snapshot" and damage not in (gone, old_copy)
            if path.exists() and not refused and (damage is not old_copy or name in old):
                damage(path)
                goes_on((name, damage.__name__))
    rc.start()
    wait_for(lambda: rc.metrics().get("rowcast_snapshot_tables") == 0, 20, "no table to be read")
