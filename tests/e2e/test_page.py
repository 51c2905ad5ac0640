"""The live page in a real Chromium."""

import os

from lib.browser import Browser
from lib.rowcast import command
from lib.wait import wait_for

SHOP = """create schema shop;
create table shop.orders (id int primary key, customer text, total numeric(10,2));
create table shop.customers (id int primary key, name text);
create publication rowcast for table shop.orders, shop.customers"""


def test_changes_arrive_and_survive_a_restart(pg, make_rowcast):
    pg.sql(SHOP)
    rc = make_rowcast(source=pg.conninfo()).start()
    with Browser() as b:
        b.open(rc.http + "/")
        wait_for(lambda: "live" in (b.text("#state") or "").lower(), 15,
                 lambda: f"the page to be live: {b.text('body')}")
        pg.sql("insert into shop.customers values (1, 'Ada <b>L.</b>')")
        pg.sql("insert into shop.orders values (1, 'Ada', 12.50)")
        pg.sql("update shop.orders set total = 99.95 where id = 1")
        pg.sql("delete from shop.orders where id = 1")
        rows = "#changes tbody tr[data-op='{}'][data-table='{}']"
        for op, table in (("insert", "shop.customers"), ("insert", "shop.orders"),
                          ("update", "shop.orders"), ("delete", "shop.orders")):
            wait_for(lambda: b.count(rows.format(op, table)) == 1, 10,
                     lambda: f"{op} of {table} on the page:\n{b.text('#changes')}")
        assert "99.95" in b.text(rows.format("update", "shop.orders"))
        # A value is text, never markup.
        assert b.count("#changes b") == 0
        assert "<b>L.</b>" in b.text(rows.format("insert", "shop.customers"))

        rc.restart(kill=True)
        pg.sql("insert into shop.orders values (2, 'Grace', 1)")
        wait_for(lambda: b.count(rows.format("insert", "shop.orders")) == 2, 30,
                 lambda: f"the change after the restart:\n{b.text('#changes')}")
        assert b.count(rows.format("delete", "shop.orders")) == 1, "seen twice, or lost"
        errors = [e for e in b.errors() if "WebSocket" not in e and "favicon" not in e
                  and "ERR_CONNECTION_REFUSED" not in e]
        assert not errors, errors


def test_shapes_and_existing_rows_are_seen(pg, make_rowcast):
    pg.sql(SHOP + "; insert into shop.customers select n, 'n' || n from generate_series(1, 20) n")
    rc = make_rowcast(source=pg.conninfo()).start()
    with Browser() as b:
        b.open(rc.http + "/")
        wait_for(lambda: b.text("#connection") == "connected", 15, "the page to connect")
        pg.sql("insert into shop.orders values (1, 'Ada', 12.50);"
               "alter table shop.orders add note text; insert into shop.orders values (2)")
        events = "#changes tbody tr[data-op='event'][data-table='{}']"
        wait_for(lambda: b.count(events.format("shop.orders")) == 2, 10,
                 lambda: f"schema changes on the page:\n{b.text('#changes')}")
        assert "+ note text" in b.text(events.format("shop.orders"))
        answer = command("snapshot", "shop.customers", "--journal", rc.journal)
        assert answer.returncode == 0, answer.stderr
        wait_for(lambda: "20 rows" in (b.text("#changes") or ""), 15,
                 lambda: f"the end of the snapshot on the page:\n{b.text('#changes')}")
        assert b.count("#changes tbody tr[data-op='read']") == 20
        assert b.count(events.format("shop.customers")) == 3  # begin, its shape, end
        assert "shop.customers were read" in b.text("#notice")
        wait_for(lambda: b.count("#reading[hidden]") == 1, 15, "the word of the reading to go")
        assert not [e for e in b.errors() if "favicon" not in e]


def test_a_dead_connection_is_noticed(pg, make_rowcast):
    """One over which nothing comes any more, but which nobody closed."""
    pg.sql(SHOP)
    rc = make_rowcast(source=pg.conninfo()).start()
    with Browser() as b:
        # The page asks every 20 seconds: here a hundred times as often.
        b.before_pages("const real = window.setInterval;"
                       "window.setInterval = (f, ms) => real(f, ms >= 10000 ? ms / 100 : ms)")
        b.open(rc.http + "/")
        wait_for(lambda: b.text("#connection") == "connected", 15, "the page to connect")
        pg.sql("insert into shop.customers values (1, 'Ada')")
        inserts = "#changes tbody tr[data-op='insert']"
        wait_for(lambda: b.count(inserts) == 1, 10, "a change on the page")
        asked = rc.metrics().get("rowcast_websocket_requests_total")
        rc.wait_metric(lambda m: m.get("rowcast_websocket_requests_total") > asked + 5, 10,
                       "the page to ask")
        assert b.text("#connection") == "connected", "given up while it was answered"
        rc.process.pause()
        wait_for(lambda: b.text("#connection") != "connected", 10, "the page to notice")
        rc.process.resume()
        wait_for(lambda: b.text("#connection") == "connected", 15, "the page to connect again")
        pg.sql("insert into shop.customers values (2, 'Grace')")
        wait_for(lambda: b.count(inserts) == 2, 10, "the next change on the page")


def test_a_flood_does_not_stop_the_page(pg, make_rowcast):
    pg.sql(SHOP)
    rc = make_rowcast(source=pg.conninfo()).start()
    with Browser() as b:
        b.open(rc.http + "/")
        wait_for(lambda: "live" in (b.text("#state") or "").lower(), 15, "the page to be live")
        pg.sql("insert into shop.customers select n, 'n' || n from generate_series(1, 100000) n")
        pg.sql("insert into shop.orders values (1, 'the last', 1)")
        wait_for(lambda: "the last" in (b.text("#changes") or ""), 90, "the end of the flood")
        assert b.count("#changes tbody tr") <= 1000, "the page grows without bound"


def test_other_origins_are_refused(pg, make_rowcast):
    """A page of another origin must not read the database through the developer's browser."""
    pg.sql(SHOP)
    rc = make_rowcast(source=pg.conninfo()).start()
    with Browser() as b:
        b.open("data:text/html,<p id=out>waiting</p>")
        b.script("const s = new WebSocket(arguments[0]);"
                 "s.onopen = () => { document.querySelector('#out').innerText = 'open' };"
                 "s.onerror = () => { document.querySelector('#out').innerText = 'refused' };",
                 f"ws://127.0.0.1:{rc.port}/v1/stream?from=earliest")
        wait_for(lambda: b.text("#out") != "waiting", 10, "an answer")
        assert b.text("#out") == "refused"


def test_screenshot(pg, make_rowcast):
    """Draws the picture of the README where ROWCAST_SCREENSHOT names a file."""
    pg.sql(SHOP)
    rc = make_rowcast(source=pg.conninfo()).start()
    with Browser() as b:
        b.open(rc.http + "/")
        wait_for(lambda: "live" in (b.text("#state") or "").lower(), 15, "the page to be live")
        names = ["Ada Lovelace", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Don Knuth"]
        for n, name in enumerate(names):
            pg.sql("insert into shop.customers values (%s, %s)", n, name)
            pg.sql("insert into shop.orders values (%s, %s, %s)", n, name, 10.5 * n + 3)
            pg.sql("update shop.orders set total = total + 5 where id = %s", n)
        pg.sql("delete from shop.orders where id = 2")
        wait_for(lambda: b.count("#changes tbody tr") >= 16, 10, "all changes on the page")
        out = os.environ.get("ROWCAST_SCREENSHOT") or rc.dir / "page.png"
        b.screenshot(out)
        assert os.path.getsize(out) > 20_000
