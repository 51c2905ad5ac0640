"""Random work that changes what tables are: renamed and re-created tables and schemas, other types
of columns, other replica identities and keys, partitions that come and go, publications that
change, messages, nested savepoints, prepared transactions, large ones.

Nothing here is rebuilt by lib.model's state: lib.oracle tells whether the changes are right."""

import psycopg

SCHEMA = """
create schema wild;
create table wild.a (id int primary key, code text not null, n int, v text);
create unique index on wild.a (code);
alter table wild.a alter v set storage external;
create table wild.b (id int primary key, code text not null, n int, v text);
create unique index on wild.b (code);
create table wild.parted (id int, v text) partition by range (id);
create table wild.low partition of wild.parted for values from (0) to (30);
create table wild.high partition of wild.parted for values from (30) to (60);
alter table wild.low replica identity full;
alter table wild.high replica identity full;
create table public.aside (id int);
"""
TABLES = ("wild.a", "wild.b", "wild.low", "wild.high")
NAMES = ("a", "b", "c", '"Big One"')
EXPECTED = (
    psycopg.errors.ObjectNotInPrerequisiteState,  # an update without a replica identity
    psycopg.errors.NotNullViolation, psycopg.errors.DuplicateTable, psycopg.errors.UndefinedTable,
    psycopg.errors.CheckViolation, psycopg.errors.DuplicateSchema, psycopg.errors.UndefinedObject,
    psycopg.errors.InvalidTableDefinition, psycopg.errors.InvalidSchemaName,
    psycopg.errors.DatatypeMismatch, psycopg.errors.NumericValueOutOfRange,
    psycopg.errors.InvalidTextRepresentation, psycopg.errors.WrongObjectType,
    psycopg.errors.DuplicateObject, psycopg.errors.InvalidObjectDefinition,
    psycopg.errors.StringDataRightTruncation, psycopg.errors.UndefinedColumn,
    psycopg.errors.InternalError_,  # "tuple concurrently updated": two of them, one catalog row
)


def ours(table):
    """Whether the oracle is asked about it."""
    return table != "public.aside"


def one_name(table):
    """The table as if its schema had never been renamed. 18's pgoutput, where it streams, may tell
    a transaction that was open across a rename by the later name: test_decoding does not."""
    return table and table.replace("wilder.", "wild.")


class Wild:
    """Takes steps for lib.model's Writer, in its transactions."""

    def __init__(self, pg, rnd):
        self.pg, self.random = pg, rnd
        self.prepared = 0
        self.done = {}  # what succeeded, and how often

    def step(self, c):
        """One statement or a few that belong together."""
        act = self.random.choice([
            self.rows, self.rows, self.rows, self.rows, self.large, self.savepoints, self.rename,
            self.rename_schema, self.retype, self.identity, self.key, self.recreate,
            self.partition, self.aside, self.message, self.prepare, self.finish])
        act(c)
        self.done[act.__name__] = self.done.get(act.__name__, 0) + 1

    def _tables(self, c):
        return [row[0] for row in c.execute(
            "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = "
            "c.relnamespace where nspname ~ '^wild' and relkind = 'r' and not exists (select 1 from"
            " pg_attribute a where a.attrelid = c.oid and attname = 'plain') order by 1")]

    def _table(self, c):
        """One of those that are not partitions, with all of its columns."""
        return self.random.choice([t for t in self._tables(c) if t.split(".")[1] not in
                                   ("low", "high")])

    def rows(self, c):
        i, table = self.random.randrange(60), self.random.choice(self._tables(c))
        if table.split(".")[1] in ("low", "high"):
            i = i // 2 + (30 if "high" in table else 0)
            c.execute(self.random.choice([f"insert into {table} values ({i}, 'x')",
                                          f"update {table} set v = v || '!' where id = {i}",
                                          f"delete from {table} where id = {i}"]))
            return
        v = self.random.choice(["null", "''", "repeat(md5(random()::text), 200)", "'it''s'"])
        c.execute(self.random.choice([
            f"insert into {table} (id, code, n, v) values ({i}, 'c{i}', {i}, {v})",
            f"update {table} set n = {i} where id = {i}",
            f"update {table} set v = {v} where id between {i} and {i + 2}",
            f"update {table} set id = id + 100 where id = {i}",
            f"update {table} set code = code || 'x' where id = {i}",
            f"delete from {table} where id = {i}"]))

    def large(self, c):
        table = self._table(c)
        c.execute(f"delete from {table}")
        c.execute(f"insert into {table} (id, code, n, v) select g, 'c' || g, g, repeat('y', 100) "
                  "from generate_series(0, 300) g")

    def savepoints(self, c):
        """One in another, with changes of tables and rows in each; some are undone."""
        depth = self.random.randrange(1, 4)
        for i in range(depth):
            c.execute(f"savepoint wild{i}")
            for _ in range(2):
                self._within(c, f"wild{i}")
        for i in reversed(range(depth)):
            how = self.random.choice(["rollback to savepoint", "release savepoint"])
            c.execute(f"{how} wild{i}")
            self.rows(c)

    def _within(self, c, savepoint):
        act = self.random.choice([self.rows, self.rows, self.large, self.rename, self.retype,
                                  self.identity, self.key, self.partition, self.rename_schema])
        try:
            act(c)
        except EXPECTED:
            c.execute(f"rollback to savepoint {savepoint}")

    def rename(self, c):
        c.execute(f"alter table {self._table(c)} rename to {self.random.choice(NAMES)}")

    def rename_schema(self, c):
        if self.pg.version < 18:  # before, pgoutput goes on with the old name for a while
            return
        name = c.execute("select nspname from pg_namespace where nspname ~ '^wild'").fetchone()[0]
        c.execute(f"alter schema {name} rename to {'wilder' if name == 'wild' else 'wild'}")

    def retype(self, c):
        column, kind = self.random.choice([("n", "bigint"), ("n", "int"), ("n", "numeric(12,1)"),
                                           ("v", "varchar(9999)"), ("v", "text"), ("id", "bigint"),
                                           ("id", "int")])
        c.execute(f"alter table {self._table(c)} alter {column} type {kind}")

    def identity(self, c):
        table = self._table(c)
        index = c.execute("select relname from pg_index i join pg_class x on x.oid = indexrelid "
                          "where indrelid = to_regclass(%s) and not indisprimary", [table])
        names = [row[0] for row in index]
        how = self.random.choice(["full", "default", "default", "nothing"] +
                                 [f'using index "{n}"' for n in names])
        c.execute(f"alter table {table} replica identity {how}")

    def key(self, c):
        table = self._table(c)
        name = c.execute("select conname from pg_constraint where conrelid = to_regclass(%s) and "
                         "contype = 'p'", [table]).fetchone()
        columns = self.random.choice(["id", "id, code", "code"])
        c.execute(f'alter table {table} drop constraint "{name[0]}", add primary key ({columns})'
                  if name else f"alter table {table} add primary key ({columns})")

    def recreate(self, c):
        table = self._table(c)
        c.execute(f"drop table {table}")
        c.execute(f"create table {table} (id int primary key, v text, n int, code text not null)")
        c.execute(f"create unique index on {table} (code)")
        c.execute(f"alter publication rowcast add table {table}")

    def partition(self, c):
        schema = c.execute("select nspname from pg_namespace where nspname ~ '^wild'").fetchone()[0]
        attached = c.execute("select inhrelid::regclass::text from pg_inherits where inhparent = "
                             "to_regclass(%s)", [f"{schema}.parted"]).fetchall()
        name = self.random.choice(["low", "high"])
        if f"{schema}.{name}" in [row[0] for row in attached]:
            c.execute(f"alter table {schema}.parted detach partition {schema}.{name}")
        else:
            bounds = "(0) to (30)" if name == "low" else "(30) to (60)"
            c.execute(f"alter table {schema}.parted attach partition {schema}.{name} "
                      f"for values from {bounds}")

    def aside(self, _):
        """Published and not, on its own: a transaction that is open meanwhile has none of it."""
        with self.pg.connect() as c:
            c.execute("set lock_timeout = '20ms'")  # our own transactions may hold it
            there = c.execute("select count(*) from pg_publication_tables where tablename = "
                              "'aside'").fetchone()[0]
            c.execute(f"alter publication rowcast {'drop' if there else 'add'} table public.aside")
            c.execute("insert into public.aside values (1)")

    def message(self, c):
        if self.pg.version >= 14:
            c.execute("select pg_logical_emit_message(%s, 'wild', %s)",
                      [self.random.random() < 0.7, f"text {self.random.random()}"])

    def prepare(self, c):
        self.prepared += 1
        c.execute(f"prepare transaction 'wild{self.prepared}'")
        c.rollback()  # psycopg has not noticed that it is over

    def finish(self, _):
        """Ends what is prepared, one way or the other."""
        with self.pg.connect() as c:
            for (gid,) in c.execute("select gid from pg_prepared_xacts where gid ~ '^wild'"):
                how = "commit" if self.random.random() < 0.8 else "rollback"
                c.execute(f"{how} prepared '{gid}'")
