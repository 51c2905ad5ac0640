"""`rowcast check`: what is weak, and what the server's version lacks."""

import os
import re

import psycopg

from lib import paths
from lib.rowcast import command


def weak(*args, env=None):
    """The objects that it warns of, with cause and remedy."""
    out = command("check", *args, env=env).stdout
    found = re.findall(r"^warn: ([^:/]+?) ?(/\S+)?: (.*; remedy: .*)$", out.replace(
        "listen 0.0.0.0:7654", "listen"), re.M)
    assert len(found) == out.count("warn: "), f"a warning without a remedy: {out}"
    return {name: text for name, _, text in found if name != "max_slot_wal_keep_size"}


def test_each_weak_setting_is_named(pg_with_tls):
    """And none of a strong one. 0.0.0.0 leads here too, but does not look like it: a network."""
    pg = pg_with_tls
    (pg.data / "pg_hba.conf").write_text("\n".join([
        "host all plain all password", "host all old all md5", "host all strong all scram-sha-256",
        (pg.data / "pg_hba.conf").read_text()]))
    pg.reload()
    for role, method in (("plain", "scram-sha-256"), ("old", "md5"), ("strong", "scram-sha-256")):
        pg.sql(f"set password_encryption = '{method}';"
               f"create role {role} login replication password 'secret'")
    pg.sql("create table t (id int primary key); create publication rowcast for table t;"
           " grant select on pg_authid to old")

    def at(user, **options):
        return " ".join([f"host=localhost hostaddr=0.0.0.0 port={pg.port} user={user}"
                         " dbname=postgres",
                         *(f"{k}={v}" for k, v in options.items())])

    tls = {"sslmode": "verify-full", "sslrootcert": pg.authority.root}
    secret = paths.scratch("secret") / "password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    strong = at("strong", **tls, channel_binding="require")
    assert weak("--source", strong, "--password-file", secret) == {}
    secret.chmod(0o644)
    assert "mode 0644" in weak("--source", strong, "--password-file", secret)["password file"]
    secret.chmod(0o600)
    of = {
        "encryption": at("strong", sslmode="disable", password="secret"),
        "sslmode": at("strong", sslmode="require", password="secret", channel_binding="require"),
        "channel_binding": at("strong", **tls, password="secret"),
        "password": at("strong", **tls, password="secret", channel_binding="require"),
        "role": at("postgres", **tls),
        "log-in": at("old", **tls, password="secret"),
    }
    for name, source in of.items():
        assert name in weak("--source", source), (name, weak("--source", source))
    assert "pretend to be" in weak("--source", at("strong", **{**tls, "sslmode": "verify-ca"},
                                                  password="secret"))["sslmode"]
    assert "trust" in weak("--source", at("postgres", **tls))["log-in"]
    assert "password" not in weak("--source", at("strong", **tls, channel_binding="require"),
                                  env={**os.environ, "PGPASSWORD": "secret"})
    config = secret.with_name("rowcast.conf")
    config.write_text(f'source = "{strong} password=secret"\n')
    config.chmod(0o604)
    assert "mode 0604" in weak("--config", config)["configuration file"]
    ports = weak("--source", strong, "--password-file", secret, "--listen", "0.0.0.0:7654",
                 "--kafka", "kafka.example", "--kafka-property", "socket.timeout.ms=1000")
    assert "without a log-in" in ports["listen"]
    assert "security.protocol" in ports["kafka kafka.example"]


def test_the_method_is_asked_of_a_newer_server(make_postgres):
    pg = make_postgres(18, hba=["host all plain all password", "host all old all md5"])
    pg.sql("create role plain login replication password 'secret';"
           " set password_encryption = 'md5'; create role old login replication password 'secret';"
           " create table t (id int primary key); create publication rowcast for table t")
    for user, words in (("plain", "clear text"), ("old", "md5"), ("postgres", "trust")):
        assert words in weak("--source", pg.conninfo(user=user) + " password=secret")["log-in"]


PROBES = {  # what a server that has it can do
    "TRUNCATE in the stream": "create publication probe with (publish = 'truncate')",
    "partitioned tables in publications":
        "create table parts (id int) partition by range (id); create publication probe for table"
        " parts",
    "pg_current_snapshot": "select pg_current_snapshot()",
    "max_slot_wal_keep_size": "show max_slot_wal_keep_size",
    "streaming of open transactions": "select stream_txns from pg_stat_replication_slots",
    "TID range scans": "set enable_tidscan = off; select enable_tidscan_range()",
    "logical messages": "messages",
    "binary values": "binary",
    "row filters and column lists": "create publication probe for table t (id) where (id > 1)",
    "origin filters": "origin",
    "decoding on a standby": "select pg_log_standby_snapshot()",
    "failover slots": "select failover from pg_replication_slots",
}


def has(pg, probe):
    with psycopg.connect(pg.conninfo(), autocommit=True) as c:
        try:
            if probe in ("messages", "binary", "origin"):
                value = "none" if probe == "origin" else "on"
                c.execute("select * from pg_logical_slot_peek_binary_changes('probe', null, null,"
                          f" 'proto_version', '1', 'publication_names', 'rowcast', '{probe}',"
                          f" '{value}')")
            elif "tidscan" in probe:
                plan = c.execute("explain select 1 from t where ctid < '(1,0)'").fetchall()
                return "Tid Range Scan" in str(plan)
            else:
                c.execute(f"begin; {probe}; rollback")
            return True
        except psycopg.Error:
            return False


def test_what_the_version_lacks_is_told(each_pg):
    """As the server itself shows."""
    pg = each_pg
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    pg.sql("select pg_create_logical_replication_slot('probe', 'pgoutput')")
    pg.sql("insert into t values (1)")
    out = command("check", "--source", pg.conninfo()).stdout
    readme = (paths.ROOT / "README.md").read_text()
    for name, probe in PROBES.items():
        told = re.search(rf"^ok: not before PostgreSQL (\d+): {name}; here: .+$", out, re.M)
        assert bool(told) is not has(pg, probe), f"{name}: {told and told[0]}\n{out}"
        assert name in readme, f"{name} is missing in the README's table"
        assert not told or int(told[1]) > pg.version, told
    assert out.count("not before") == len([n for n in PROBES if not has(pg, PROBES[n])])
