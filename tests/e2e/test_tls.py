"""TLS and secrets: every option of libpq passes; what is not as it should be is named with cause
and remedy; passwords and certificates are exchanged without a restart."""

import datetime
import os
import pathlib
import re

import pytest

from lib import paths
from lib.rowcast import command
from lib.tls import Authority, give_to_server
from lib.wait import wait_for

DAY = datetime.timedelta(days=1)
SOURCE = 3


def full(pg, user="postgres", host="127.0.0.1"):
    """A connection string that leaves nothing open."""
    return (f"host={host} port={pg.port} user={user} dbname=postgres sslmode=verify-full"
            f" sslrootcert={pg.authority.root} connect_timeout=5")


def finding(*args, env=None):
    """What `check` says of the connection."""
    out = command("check", *args, env=env)
    return re.search(r"^\w+: connection: .*", out.stdout, re.M)[0]


def new_pair(pg, **options):
    """The server gets another certificate."""
    pair = pg.authority.pair("localhost", options.pop("hosts", ["127.0.0.1"]), **options)
    give_to_server(*pair)
    pg.configure({"ssl_cert_file": pair[0], "ssl_key_file": pair[1]})
    pg.reload()
    wait_for(lambda: pg.value("show ssl_cert_file") == str(pair[0]), what="the new certificate")
    return pair


def test_each_fault_of_the_servers_certificate_is_named(pg_with_tls):
    pg, authority = pg_with_tls, pg_with_tls.authority
    none = authority.crl()
    assert finding("--source", full(pg) + f" sslcrl={none}") == "ok: connection: established"
    assert finding("--source", full(pg, host="localhost")) == "ok: connection: established"
    faults = [
        (full(pg) + f" sslcrl={authority.crl(pg.pair[0])}",
         r"certificate revoked \(/CN=localhost\); remedy: have the server use another.*sslcrl"),
        (full(pg).replace(str(authority.root), str(Authority().root)),
         r"unable to get local issuer certificate \(/CN=Test CA\); remedy: .*sslrootcert"),
        (full(pg).replace(str(authority.root), "/nowhere"),
         r"root certificate file .*; remedy: give with sslrootcert"),
        (full(pg) + f" sslcrl={authority.root}", r"sslcrl .* every CA"),
    ]
    for source, pattern in faults:
        found = finding("--source", source)
        assert found.startswith("fail") and re.search(pattern, found), found
    new_pair(pg, hosts=["db.example"])
    assert re.search(r'does not match host name "127.0.0.1"; remedy: .*hostaddr',
                     finding("--source", full(pg)))
    assert finding("--source", full(pg, host="db.example") + " hostaddr=127.0.0.1") \
        == "ok: connection: established"
    new_pair(pg, first=-2 * DAY, last=-DAY)
    assert re.search(r"certificate has expired \(/CN=localhost, valid until \d{4}-.*; remedy: have"
                     r" it renewed", finding("--source", full(pg)))
    new_pair(pg, first=DAY)
    assert re.search(r"not yet valid .*; remedy: look at this machine's clock",
                     finding("--source", full(pg)))


def test_client_certificates(pg_with_tls, make_rowcast):
    """With an encrypted key, and exchanged while it runs."""
    pg, authority = pg_with_tls, pg_with_tls.authority
    pg.sql("create role by_certificate login replication superuser;"
           " create table t (id int primary key)")
    source = full(pg, "by_certificate")
    assert re.search("valid client certificate.*; remedy: give sslcert and sslkey",
                     finding("--source", source))
    certificate, key = authority.pair("by_certificate", password="hunter2")
    mine = f"{source} sslcert={certificate} sslkey={key}"
    assert re.search("private key file.*; remedy: .*sslpassword", finding("--source", mine))
    wrong = authority.pair("somebody")
    assert re.search("certificate authentication failed.*; remedy: .*made out to the role",
                     finding("--source", f"{source} sslcert={wrong[0]} sslkey={wrong[1]}"))
    assert re.search("key values mismatch; remedy: give with sslkey",
                     finding("--source", f"{source} sslcert={certificate} sslkey={wrong[1]}"))
    stranger = Authority().pair("by_certificate")
    assert re.search("alert unknown ca.*; remedy: the server does not know",
                     finding("--source", f"{source} sslcert={stranger[0]} sslkey={stranger[1]}"))
    old = authority.pair("by_certificate", last=-DAY / 2)
    assert re.search("alert certificate expired.*; remedy: .*renewed",
                     finding("--source", f"{source} sslcert={old[0]} sslkey={old[1]}"))
    key.chmod(0o644)
    assert re.search("group or world access.*; remedy: .*chmod 600",
                     finding("--source", f"{mine} sslpassword=hunter2"))
    key.chmod(0o600)
    rc = make_rowcast("--table", "public.t", source=f"{mine} sslpassword=hunter2").start()
    assert pg.value("select ssl from pg_stat_ssl join pg_stat_replication using (pid)")
    # Exchanged in place: the stream goes on, the next connection uses the new ones.
    pid = pg.slot("rowcast")["active_pid"]
    os.replace(old[0], certificate)
    os.replace(old[1], key)
    pg.sql("insert into t values (1)")
    with rc.stream(start="earliest") as s:
        assert s.changes(1)[0]["row"] == {"id": 1}
        assert pg.slot("rowcast")["active_pid"] == pid
        pg.sql("select pg_terminate_backend(%s)", pid)
        rc.wait_log("retrying.*certificate expired")
        new = authority.pair("by_certificate")
        os.replace(new[0], certificate)
        os.replace(new[1], key)
        pg.sql("insert into t values (2)")
        assert s.changes(1, 30)[0]["row"] == {"id": 2}
    assert "hunter2" not in rc.process.log_text()


def locked(make_postgres, **conf):
    pg = make_postgres(conf=conf, hba=["host all locked 127.0.0.1/32 scram-sha-256"])
    pg.sql("create role locked login replication password 'first'; create table t (id int primary"
           " key); create publication rowcast for table t")
    return pg


def test_every_way_to_say_where(pg_with_tls, make_postgres, make_rowcast):
    """URL, keywords, environment, service file, password file of libpq, a list of hosts; what the
    user gave beside what is pinned."""
    pg = locked(make_postgres)
    home = paths.scratch("home")
    passfile = home / "passfile"
    passfile.write_text(f"127.0.0.1:{pg.port}:*:locked:first\n")
    passfile.chmod(0o600)
    (home / "service").write_text(f"[mine]\nhost=127.0.0.1\nport={pg.port}\nuser=locked\n"
                                  "dbname=postgres\noptions=-c geqo=off\n")
    at = f"127.0.0.1:{pg.port}"
    bare = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    dead = paths.scratch("nothing")
    ways = [
        (f"postgresql://locked:first@{at}/postgres?gssencmode=disable", {}),
        (f"postgresql://locked@{at}/postgres?passfile={passfile}&channel_binding=disable", {}),
        ("service=mine", {"PGSERVICEFILE": str(home / "service"), "PGPASSFILE": str(passfile)}),
        ("", {"PGHOST": "127.0.0.1", "PGPORT": str(pg.port), "PGUSER": "locked",
              "PGPASSWORD": "first", "PGDATABASE": "postgres"}),
        (f"host={dead},127.0.0.1 port={pg.port} user=locked password=first dbname=postgres"
         " target_session_attrs=read-write keepalives=0 keepalives_idle=7 tcp_user_timeout=9000"
         " application_name=mine krbsrvname=x sslmode=allow sslcompression=0 sslsni=0", {}),
    ]
    for source, env in ways:
        out = command("check", "--source", source or " ", env={**bare, **env})
        assert "ok: connection: established" in out.stdout, (source, out.stdout, out.stderr)
    passfile.chmod(0o644)  # libpq does not take it
    assert re.search("no password supplied.*; remedy: .*not be readable by others", finding(
        "--source", f"postgresql://locked@{at}/postgres?passfile={passfile}", env=bare))
    passfile.chmod(0o600)
    # What both say holds: the user's options beside ours, also when they are in a service.
    rc = make_rowcast(source="service=mine", env={"PGSERVICEFILE": str(home / "service"),
                                                  "PGPASSFILE": str(passfile)}).start()
    assert pg.value("select application_name from pg_stat_replication") == "rowcast_rowcast"
    assert rc.stop() == 0
    # A channel that is bound to the certificate; and none, where it is asked for.
    tls = pg_with_tls
    tls.sql("create role bound login replication password 'first'")
    tls.reload()
    found = finding("--source", full(tls, "bound") + " channel_binding=require password=first")
    assert re.search("hannel binding.*; remedy: it needs TLS and a SCRAM password", found), found


@pytest.mark.parametrize("way", ["password-file", "passfile"])
def test_a_password_is_exchanged_without_a_restart(make_postgres, make_rowcast, way):
    """The stream goes on; the next connection takes the new password; until it is there the
    refusal is told, and retried; and no password shows anywhere."""
    pg = locked(make_postgres)
    secret = paths.scratch("secret") / "password"

    def write(password):
        line = f"*:*:*:locked:{password}" if way == "passfile" else password
        secret.write_text(line + "\n")
        secret.chmod(0o600)
    write("first")
    source = pg.conninfo(user="locked")
    args = ["--log-level", "debug"]
    if way == "passfile":
        source += f" passfile={secret}"
    else:
        args += ["--password-file", secret]
    rc = make_rowcast(*args, source=source).start()
    pid = pg.slot("rowcast")["active_pid"]
    pg.sql("alter role locked password 'second-secret'; insert into t values (1)")
    with rc.stream(start="earliest") as s:
        assert s.changes(1)[0]["row"] == {"id": 1}
        assert pg.slot("rowcast")["active_pid"] == pid, "the stream was disturbed"
        pg.sql("select pg_terminate_backend(%s)", pid)
        rc.wait_log("retrying.*password authentication failed.*28P01.*remedy.*password")
        assert "password authentication failed" in rc.get("/readyz")[1]
        write("second-secret")
        pg.sql("insert into t values (2)")
        assert s.changes(1, 30)[0]["row"] == {"id": 2}
    shown = [rc.process.log_text(), *(rc.get(path)[1] for path in
                                      ("/v1/status", "/readyz", "/metrics")),
             pathlib.Path(f"/proc/{rc.process.pid}/cmdline").read_text()]
    for text in shown:
        assert "second-secret" not in text
