"""Random work on a real server: what a resuming WebSocket client, Kafka and the journal's dump
rebuild equals the tables, and comes in commit order."""

import json
import os
import random

import pytest

from lib import wild
from lib.model import SCHEMA, SEED, TABLES, Replay, Writer, place
from lib.oracle import Oracle
from lib.rowcast import command
from lib.wait import wait_for

STEPS = int(os.environ.get("MODEL_STEPS", "4000"))


def read_on(rc, replay, start, seed, until):
    """Reads to `until` in pieces, as a client that loses its connection again and again."""
    rnd = random.Random(seed)
    cursor, passed = start, False
    while not passed:
        with rc.stream(start=cursor) as s:
            s.send({"ask": {}})
            for _ in range(rnd.randrange(1, 2000)):
                entry = s.entry()
                replay.take(entry)
                if entry.get("type") in ("end", "progress"):
                    high, low = entry.get("end_lsn", entry["lsn"]).split("/")
                    passed = (int(high, 16) << 32 | int(low, 16)) >= until
                if passed:
                    break
            cursor = s.cursor
            if rnd.random() < 0.5:
                s.abort()
    return cursor


def dumped(rc):
    rc.wait_written()
    out = command("journal", "dump", rc.journal)
    assert out.returncode == 0, out.stderr
    replay = Replay()
    for line in out.stdout.splitlines():
        replay.take(json.loads(line))
    return replay


def from_kafka(kafka, prefix, dump):
    """The changes that Kafka holds, each once, in the order of their positions."""
    topics = [t for t in kafka.topics() if t.startswith(prefix + ".")]
    found = {}
    for record in kafka.records(*topics):
        if record.value is None or b'"op"' not in record.value:
            continue
        change = json.loads(record.value)
        if "seq" not in change or change["op"] == "message":
            continue
        found.setdefault(place(change), []).append(change)
    return found


def test_streams_equal_tables(each_pg, kafka, make_rowcast):
    print(f"MODEL_SEED={SEED}")
    pg = each_pg
    prefix = f"model{pg.version}-{pg.port}"  # the broker is shared, also by other settings
    pg.sql(SCHEMA)
    pg.sql(wild.SCHEMA)
    # By name, so that a partition that is detached stays published.
    pg.sql(f"create publication rowcast for table {', '.join([*TABLES.values(), *wild.TABLES])}")
    if pg.version >= 13:  # a few large values, and a transaction is streamed
        pg.sql("alter system set logical_decoding_work_mem = '64kB'")
        pg.reload()
    oracle = Oracle(pg, wanted=wild.ours, messages=pg.version >= 14)
    rc = make_rowcast("--table", "public.*", "--table", "wild*.*", "--messages", "on",
                      "--topic-prefix", prefix, "--kafka-format", "json",
                      source=pg.conninfo(), kafka=kafka.bootstrap).start()
    writer = Writer(pg, SEED, wild=True)
    client, cursor = Replay(), "earliest"
    for part in range(4):
        writer.run(STEPS // 4)
        cursor = read_on(rc, client, cursor, SEED + part, pg.lsn())
        if part % 2:
            rc.restart(kill=part == 3)
    writer.close()
    writer.touch()
    end = pg.lsn()
    read_on(rc, client, cursor, SEED + 9, end)
    assert writer.commits > STEPS / 20, "hardly any work was done"
    assert len(client.changes) > STEPS / 4, "hardly anything was changed"

    client.state.assert_equals_tables(pg, client.numbers)
    oracle.read()
    for transaction in oracle.transactions:
        for change in transaction.changes:
            change.table = wild.one_name(change.table)
    oracle.check([{**c, "table": wild.one_name(c.get("table"))} for c in client.everything
                  if c.get("table") != "public.aside"])
    assert len(writer.wild.done) > 12, f"hardly any of it succeeded: {writer.wild.done}"

    dump = dumped(rc)
    assert dump.places() == client.places()
    dump.state.assert_equals_tables(pg, dump.numbers)

    slot = rc.status()["slot"]
    pg.wait_confirmed(slot if isinstance(slot, str) else slot["name"], end - 1, deadline=60)
    found = wait_for(lambda: (lambda f: f if set(f) >= set(dump.places()) else None)(
        from_kafka(kafka, prefix, dump)), 60, "every change to be in Kafka", every=0.5)
    assert_kafka(found, dump, pg)
    assert rc.stop() == 0


def assert_kafka(found, dump, pg):
    assert set(found) == set(dump.places()), "Kafka has changes that the journal has not"
    replay = Replay()
    for at in sorted(found):
        changes = found[at]
        # A key change is a delete and an insert there; put together it is the update that it was.
        change = changes[0]
        ops = {c["op"] for c in changes}
        if ops == {"delete", "insert"}:
            gone = next(c for c in changes if c["op"] == "delete")
            come = next(c for c in changes if c["op"] == "insert")
            change = {**come, "op": "update", "key": gone["key"]}
            if "old" in gone:
                change["old"] = gone["old"]
        else:
            assert len(ops) == 1, f"{at}: {changes}"
        replay.numbers[change["table"]] = dump.used[at]
        replay.take(change)
    replay.state.assert_equals_tables(pg, dump.numbers)


def test_the_oracle_sees_every_fault(pg, make_rowcast):
    """The second opinion can differ: in a value, a key, an old row, a message, the order."""
    pg.sql("create table a (id int primary key, v text, t timestamptz, n numeric[], d float8);"
           "alter table a alter v set storage external; create table b (id int, v text);"
           "alter table b replica identity full")
    rc = make_rowcast("--table", "public.*", "--messages", "on", source=pg.conninfo()).start()
    oracle = Oracle(pg, messages=True)
    large = "x" * 9000
    with rc.stream(start="earliest") as stream:
        pg.sql("insert into a values (1, %s, '2026-01-01+02', '{1.50,NULL}', 1e23)", large)
        pg.sql("update a set id = 2")
        pg.sql("insert into b values (1, 'it''s new-tuple: v[text]:null'), (null, '')")
        pg.sql("update b set v = v || '!'")
        pg.sql("select pg_logical_emit_message(true, 'a prefix', 'text')")
        pg.sql("delete from b; truncate a, b restart identity")
        changes = stream.changes(11)
    oracle.check(changes)
    assert [c["op"] for c in changes[-5:]] == ["message", *["delete"] * 2, *["truncate"] * 2]

    def differs(i, pattern, **more):
        with pytest.raises(AssertionError, match=pattern):
            oracle.check([*changes[:i], {**changes[i], **more}, *changes[i + 1:]])

    differs(0, "^v: ", row={**changes[0]["row"], "v": large + "x"})
    differs(0, "^t: ", row={**changes[0]["row"], "t": None})
    differs(0, "^n: ", row={**changes[0]["row"], "n": ["1.5", None]})
    differs(0, "columns {'z'}", row={**changes[0]["row"], "z": None})
    differs(1, "^key id: ", key={"id": 2})
    differs(1, "^v: ", unchanged=[])
    differs(4, "^old id: ", old={**changes[4]["old"], "id": 7})
    differs(4, "change 0", op="insert")
    differs(6, "change 0", prefix="another")
    differs(9, "change 2", restart_identity=False)
    for wrong in (changes[:3] + changes[4:], changes[:-1], changes[1:],
                  changes[1:2] + changes[:1] + changes[2:]):
        with pytest.raises(AssertionError):
            oracle.check(wrong)


def test_the_model_sees_a_lost_change():
    """The check itself can fail: a stream without one of its changes does not pass."""
    change = {"op": "insert", "table": "public.orders", "lsn": "0/1", "seq": 0, "xid": 1,
              "key": {"id": 1}, "row": {"id": 1, "note": None}}
    replay = Replay()
    replay.take({"type": "relation", "table": "public.orders",
                 "columns": [{"name": "id", "number": 1}, {"name": "note", "number": 2}]})
    with pytest.raises(AssertionError, match="no such row"):
        replay.take({**change, "op": "update"})
    replay = Replay()
    replay.numbers["public.orders"] = {"id": 1, "note": 2}
    replay.take(change)
    with pytest.raises(AssertionError, match="out of order"):
        replay.take(change)
    assert set(TABLES) == set(replay.state.rows)
