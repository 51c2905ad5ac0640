"""A consumer that upserts by key and deletes, as the README tells it to, and must end with the
tables, whatever existing rows were read in between. Tables without a key are counted."""

import collections

import psycopg

from .model import TABLES, place

BAGS = ("public.events", "public.bag")
LOST = "a large value that never came"


class Upserts:
    """Takes entries in stream order. rows: table -> key -> row, by field number."""

    def __init__(self):
        self.rows = collections.defaultdict(dict)
        self.bags = collections.defaultdict(collections.Counter)
        self.numbers = {}
        self.marks = []
        self.last = (0, 0)
        self.reads = collections.Counter()

    def take(self, entry):
        if entry.get("type") == "relation":
            self.numbers[entry["table"]] = {c["name"]: c["number"] for c in entry["columns"]}
        elif entry.get("type") == "snapshot":
            self._mark(entry)
        elif "op" in entry and entry["op"] != "message":
            assert place(entry) > self.last, f"out of order: {entry} after {self.last}"
            self.last = place(entry)
            self._change(entry)

    def _mark(self, mark):
        self.marks.append((mark["step"], mark["table"]))
        if mark["table"] in BAGS and mark["step"] in ("begin", "restart"):
            self.bags[mark["table"]].clear()

    def _change(self, c):
        if c["op"] == "truncate":
            for table in c["tables"]:
                self.rows[table].clear()
                self.bags[table].clear()
            return
        numbers = self.numbers[c["table"]]
        row = by_number(c.get("row"), numbers)
        self.reads[c["table"]] += c["op"] == "read"
        if c["table"] in BAGS:
            bag = self.bags[c["table"]]
            if c["op"] in ("update", "delete"):
                bag[freeze(by_number(c["old"], numbers))] -= 1
            if c["op"] != "delete":
                bag[freeze(row)] += 1
            return
        rows, key = self.rows[c["table"]], by_number(c["key"], numbers)
        old = rows.pop(freeze(key), {})
        if c["op"] == "delete":
            return
        for name in c.get("unchanged", ()):
            assert c["op"] != "read", f"a row that was read lacks a value: {c}"
            row[numbers[name]] = old.get(numbers[name], LOST)
        rows[freeze({n: row[n] for n in key})] = row

    def differences(self, pg, tables=tuple(TABLES)):
        """What is only in the tables, or only here; empty: they are the same."""
        found = []
        with pg.connect(row_factory=psycopg.rows.dict_row) as c:
            for table in tables:
                numbers = self.numbers[table]
                real = collections.Counter(freeze(by_number(row, numbers))
                                           for row in c.execute(f"select * from {table}"))
                live = set(numbers.values())
                mine = self.bags[table] if table in BAGS else collections.Counter(
                    freeze({n: row.get(n) for n in live}) for row in self.rows[table].values())
                mine = collections.Counter({row: n for row, n in mine.items() if n})
                if mine != real:
                    less = [(r, n) for r, n in mine.items() if n < 0]
                    found.append(f"{table}: only in the stream {list((mine - real).items())[:3]}, "
                                 f"only in the table {list((real - mine).items())[:3]}, "
                                 f"less than none {less[:3]}")
        return found


def by_number(row, numbers):
    return {numbers[name]: None if value is None else str(value)
            for name, value in (row or {}).items()}


def freeze(row):
    return tuple(sorted(row.items()))
