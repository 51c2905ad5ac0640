"""A second opinion: what PostgreSQL's own test_decoding says of the same WAL, from a slot of its
own in the same database, compared with rowcast's changes one by one, in commit order.

    oracle = Oracle(pg)                     # before the first change; makes the slot
    ... work, and the changes that rowcast gave, as lib.stream gives them, in stream order ...
    oracle.check(changes)                   # commit order, xids, operations, keys, every value

The shape of the tables may change meanwhile: both read WAL with the catalog of its time. Old rows,
unchanged large values, truncates and (messages=True) logical messages are compared too. Snapshot
rows and marks are not in WAL: leave them out. Options: `wanted(table)`: whether a table (quoted as
SQL would) is published; `hidden(table, column)`: columns that are not (excluded, generated, not in
the column list). Row filters and publish = '..' are not known here, for test_decoding has no
publication: `dropped(table, op)` says of an operation that it is not published."""

import base64
import collections
import re

from .texts import Exact, as_json, leaves, parse_array

SETTINGS = "set timezone = 'UTC'; set extra_float_digits = 3; set bytea_output = hex; " \
           "set datestyle = ISO; set intervalstyle = postgres; set search_path = pg_catalog"
UNCHANGED = object()

NAME = r'(?:"(?:[^"]|"")+"|[^\s".,:\[]+)'
TABLE = rf"{NAME}\.{NAME}"
COLUMN = re.compile(rf"\s*({NAME})\[(.*?)\]:"
                    r"(null(?= |$)|unchanged-toast-datum(?= |$)|B?'(?:[^']|'')*'|[^ ']+)", re.S)
LINE = re.compile(rf"table ({TABLE}(?:, {TABLE})*): (INSERT|UPDATE|DELETE|TRUNCATE): ?(.*)", re.S)
MESSAGE = re.compile(r"message: transactional: ([01]) prefix: (.*), sz: \d+ content:(.*)", re.S)

Transaction = collections.namedtuple("Transaction", "xid changes")


class Change:
    """op as rowcast names it; old, row: {column: (type, text, None or UNCHANGED)} or None."""

    def __init__(self, op, table=None, row=None, old=None, more=None):
        self.op, self.table, self.row, self.old, self.more = op, table, row, old, more or {}

    def __str__(self):
        return f"{self.op} {self.table} row={self.row} old={self.old} {self.more}"


class Oracle:
    """See the module."""

    def __init__(self, pg, slot="oracle", wanted=None, hidden=None, dropped=None, messages=False):
        self.pg, self.slot, self.messages = pg, slot, messages
        self.wanted = wanted or (lambda table: True)
        # before 11 tables that are being rewritten are decoded too, under such names
        self.rewritten = re.compile(r"\.pg_temp_\d+$")
        self.hidden = hidden or (lambda table, column: False)
        self.dropped = dropped or (lambda table, op: False)
        self.transactions = []  # of what is compared: those with a change
        pg.sql("select pg_create_logical_replication_slot(%s, 'test_decoding')", slot)

    def read(self):
        """Adds what was committed since the last call to `transactions`; returns what is new."""
        new = []
        changes = None  # of the open transaction
        with self.pg.connect() as c:
            c.execute(SETTINGS)
            if self.pg.version >= 13:  # 18's test_decoding dies of a larger one's abort
                c.execute("set logical_decoding_work_mem = '1GB'")
            rows = c.execute("select xid::text, data from pg_logical_slot_get_changes(%s, null, "
                             "null, 'skip-empty-xacts', '0')", [self.slot]).fetchall()
        for xid, data in rows:
            if data.startswith("BEGIN"):
                changes = []
            elif data.startswith("COMMIT"):
                new.append(Transaction(int(xid), changes))
                changes = None
            elif changes is None:  # a message that is of no transaction
                new.append(Transaction(None, list(self._changes(data))))
            else:
                changes += self._changes(data)
        new = [t for t in new if t.changes]
        self.transactions += new
        return new

    def _changes(self, data):
        if data.startswith("message:"):
            transactional, prefix, content = MESSAGE.fullmatch(data).groups()
            if self.messages:
                yield Change("message", more={"transactional": transactional == "1",
                                              "prefix": prefix, "content": content})
            return
        line = LINE.fullmatch(data)
        assert line, f"not a line of test_decoding: {data[:300]!r}"
        tables, op, rest = re.findall(TABLE, line[1]), line[2].lower(), line[3]
        tables = [t for t in tables if self.wanted(t) and not self.dropped(t, op)
                  and not self.rewritten.search(t)]
        if op == "truncate":
            more = {"cascade": "cascade" in rest, "restart_identity": "restart_seqs" in rest}
            yield from (Change(op, t, more=more) for t in tables)
        elif tables:
            yield self._row_change(tables[0], op, rest)

    def _row_change(self, table, op, rest):
        old = None
        if op == "delete":
            return Change(op, table, old=self._columns(table, rest))
        if rest.startswith("old-key: "):
            old, at = self._read(table, rest, len("old-key:"))
            rest = rest[at:].lstrip()
            assert rest.startswith("new-tuple:"), rest[:300]
            rest = rest[len("new-tuple:"):]
        return Change(op, table, row=self._columns(table, rest), old=old)

    def _columns(self, table, text):
        if text == "(no-tuple-data)":
            return {}
        columns, at = self._read(table, text, 0)
        assert at == len(text), f"not understood: {text[at:][:200]!r} of {text[:300]!r}"
        return columns

    def _read(self, table, text, at):
        """({column: (type, value)}, where they end)"""
        columns = {}
        while (m := COLUMN.match(text, at)) is not None:
            at = m.end()
            name, kind, value = m.groups()
            name = name[1:-1].replace('""', '"') if name[0] == '"' else name
            if not self.hidden(table, name):
                columns[name] = (kind, _plain(kind, value))
        return columns, at

    def check(self, changes):
        """That these are, in order, all changes so far: as rowcast's JSON form has them."""
        self.read()
        mine = []
        for change in changes:
            if change["op"] == "message" and not self.messages:
                continue
            at = change["lsn"], change.get("xid")
            if not mine or mine[-1][0] != at:
                mine.append((at, []))
            mine[-1][1].append(change)
        xids = [xid for (_, xid), _ in mine]
        assert xids == [t.xid for t in self.transactions], _order(xids, self.transactions)
        for (at, got), want in zip(mine, self.transactions):
            assert len(got) == len(want.changes), \
                f"transaction {want.xid} at {at[0]}: {len(got)} changes, not " \
                f"{len(want.changes)}: {[_brief(c) for c in got][:9]} instead of " \
                f"{[_brief(c) for c in want.changes][:9]}"
            for g, w in zip(got, want.changes):
                _compare(g, w)


def _brief(change):
    return f"{change.op} {change.table}" if isinstance(change, Change) \
        else f"{change['op']} {change.get('table')}"


def _order(got, transactions):
    """What is wrong with an order of transactions."""
    want = [t.xid for t in transactions]
    missing, more = set(want) - set(got), set(got) - set(want)
    if missing or more:
        first = [(t.xid, [_brief(c) for c in t.changes][:9]) for t in transactions
                 if t.xid in missing][:3]
        return f"{len(missing)} transactions are missing, such as {first}; " \
               f"not PostgreSQL's: {sorted(more, key=str)[:5]}"
    first = next(i for i, (g, w) in enumerate(zip(got, want)) if g != w) \
        if len(got) == len(want) else "their number"
    return f"not the commit order: differs at {first}"


def _plain(kind, value):
    """A value of test_decoding's as the text that PostgreSQL gives, None or UNCHANGED."""
    if value == "null":
        return None
    if value == "unchanged-toast-datum":
        return UNCHANGED
    if value.startswith("B'"):
        return value[2:-1]
    if value.startswith("'"):
        return value[1:-1].replace("''", "'")
    return {"true": "t", "false": "f"}[value] if kind == "boolean" else value


def _says(kind, text, got, exact):
    """Whether a JSON value is that text of a type."""
    if text is None or exact is not None:
        return got is None if exact is None else exact == text
    base = re.sub(r"\(.*?\)", "", kind)
    try:
        if base.endswith("[]"):
            base, value = base[:-2], parse_array(text)
        else:
            value = text
        want = leaves(as_json, base, value)
    except Exact:
        return got == text
    if base in ("real", "double precision"):
        got = leaves(lambda _, v: v if isinstance(v, str) else as_json(base, repr(v)), base, got)
    return got == want


def _compare(got, want):
    where = f"transaction {got.get('xid')} at {got['lsn']}, change {got['seq']}: {got}\n" \
            f"test_decoding: {want}"
    assert got["op"] == want.op and got.get("table") == want.table, where
    if want.op == "message":
        assert got["prefix"] == want.more["prefix"], where
        assert base64.b64decode(got["content"]).decode() == want.more["content"], where
        assert bool(got.get("transactional")) == want.more["transactional"], where
        return
    if want.op == "truncate":
        for flag, value in want.more.items():
            assert bool(got.get(flag)) == value, where
        return
    exact = got.get("exact") or {}
    old = got.get("old")
    if want.row is not None:
        _compare_row(got, want, exact, where)
    if old is not None:  # a whole old row: NULLs are left out by test_decoding
        assert want.old is not None, where
        for name, value in old.items():
            kind, text = want.old.get(name, (None, None))
            assert _says(kind, text, value, None) or name in exact, f"old {name}: {where}"
        assert set(want.old) <= set(old), where
    # The identity of the row as it was.
    before = want.old or want.row
    if old is None and want.old:
        assert set(got["key"]) == set(want.old), f"the key's columns: {where}"
    for name, value in (got.get("key") or {}).items():
        kind, text = before.get(name, (None, None))
        assert _says(kind, text, value, None) or name in exact, f"key {name}: {where}"


def _compare_row(got, want, exact, where):
    row, unchanged = got["row"], set(got.get("unchanged", ()))
    for name, (kind, text) in want.row.items():
        if text is UNCHANGED and got.get("old") is not None:  # it stands in the old row
            assert row[name] == got["old"][name], f"{name}: {where}"
        elif text is UNCHANGED:
            assert name in unchanged and name not in row, f"{name}: {where}"
        else:
            assert name in row or name in exact, f"{name}: {where}"
            assert _says(kind, text, row.get(name), exact.get(name)), f"{name}: {where}"
    extra = (set(row) | unchanged) - set(want.row)
    assert not extra, f"columns {extra}: {where}"
