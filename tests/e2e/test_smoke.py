"""A committed row reaches every consumer, and each goes on where it stopped."""

import json

import pytest

from lib.rowcast import command

pytestmark = pytest.mark.sanitize


@pytest.fixture
def shop(pg):
    pg.sql("create table orders (id int primary key, item text, paid bool)")
    return pg


def test_a_row_reaches_a_websocket_client(shop, make_rowcast):
    rc = make_rowcast("--table", "public.orders", source=shop.url()).start()
    with rc.stream(tables=["public.orders"], start="now") as stream:
        assert stream.subscribed["tables"] == ["public.orders"]
        shop.sql("insert into orders values (1, 'tea', false)")
        shop.sql("update orders set paid = true; delete from orders")
        insert, update, delete = stream.changes(3)
    assert (insert["op"], insert["table"]) == ("insert", "public.orders")
    assert insert["row"] == {"id": 1, "item": "tea", "paid": False}
    assert update["row"]["paid"] is True
    assert (delete["op"], delete["key"]) == ("delete", {"id": 1})
    assert update["lsn"] == delete["lsn"] > insert["lsn"]  # one transaction, a later one
    assert rc.stop() == 0


@pytest.mark.parametrize("kill", [False, True], ids=["stop", "kill9"])
def test_a_client_resumes_by_cursor_over_a_restart(shop, make_rowcast, kill):
    rc = make_rowcast("--table", "public.orders", source=shop.conninfo()).start()
    with rc.stream(tables=["public.orders"], start="now") as stream:
        shop.sql("insert into orders select generate_series(1, 10)")
        seen = [c["row"]["id"] for c in stream.changes(7)]
    shop.sql("insert into orders values (11)")
    rc.restart(kill)
    shop.sql("insert into orders values (12)")
    with rc.stream(tables=["public.orders"], start=stream.cursor) as again:
        assert again.subscribed["recovered"] is True
        seen += [c["row"]["id"] for c in again.changes(5)]
    assert seen == list(range(1, 13))


def test_earliest_gives_what_is_in_the_journal(shop, make_rowcast):
    rc = make_rowcast("--table", "public.orders", source=shop.url()).start()
    shop.sql("insert into orders select generate_series(1, 100)")
    with rc.stream(tables=["public.orders"], start="earliest") as stream:
        assert [c["row"]["id"] for c in stream.changes(100)] == list(range(1, 101))


def test_stdout_and_journal_dump_say_the_same(shop, make_rowcast):
    rc = make_rowcast("--table", "public.orders", "--stdout", source=shop.url()).start()
    with rc.stream(tables=["public.orders"], start="now") as stream:
        shop.sql("insert into orders values (1, 'tea', false), (2, null, true)")
        streamed = stream.changes(2)
    assert rc.stop() == 0

    def changes(text):
        return [e for e in map(json.loads, text.splitlines()) if "op" in e]
    assert changes(rc.output()) == streamed
    dump = command("journal", "dump", rc.journal)
    assert dump.returncode == 0, dump.stderr
    assert changes(dump.stdout) == streamed


def test_the_slot_is_acknowledged(shop, make_rowcast):
    rc = make_rowcast("--table", "public.orders", "--slot", "s", source=shop.url()).start()
    shop.sql("insert into orders values (1)")
    shop.wait_confirmed("s", shop.lsn())
    assert rc.stop() == 0


def test_health_and_metrics(shop, make_rowcast):
    rc = make_rowcast("--table", "public.orders", source=shop.url()).start()
    assert rc.get("/healthz")[0] == 200
    assert rc.status()["state"] == "live"
    metrics = rc.metrics()
    assert metrics.samples
    families = {line.split()[2] for line in metrics.text.splitlines() if line.startswith("# TYPE")}
    assert families and families <= metrics.helped()


def test_rows_reach_kafka(shop, kafka, make_rowcast):
    topic = "smoke.public.orders"
    make_rowcast("--table", "public.orders", "--topic-prefix", "smoke", "--kafka-format", "json",
                 source=shop.url(), kafka=kafka.bootstrap).start()
    shop.sql("insert into orders values (1, 'tea', false); delete from orders")
    records = kafka.wait_records(3, topic)
    values = [json.loads(r.value) for r in records if r.value]
    assert [v["op"] for v in values] == ["insert", "delete"]
    assert values[0]["row"] == {"id": 1, "item": "tea", "paid": False}
    assert records[-1].value is None  # the delete's tombstone
    assert len({r.key for r in records}) == 1
