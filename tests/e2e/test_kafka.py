"""What Kafka gets, and what happens when it cannot have it."""

import json
import subprocess
import time

import confluent_kafka.admin
import pytest

from lib import paths
from lib.kafka import Kafka
from lib.rowcast import command
from lib.wait import wait_for

SCHEMA = "create table t (id int primary key, v text)"


def changes(kafka, topic):
    """Values of the topic's records, tombstones as None, in order."""
    return [None if r.value is None else json.loads(r.value) for r in kafka.records(topic)]


def rows(kafka, prefix, table="public.t"):
    return [c for c in changes(kafka, f"{prefix}.{table}") if c]


def wait_rows(kafka, prefix, count, deadline=30):
    def enough():
        found = rows(kafka, prefix)
        return found if len(found) >= count else None
    return wait_for(enough, deadline, f"{count} changes in {prefix}.public.t", every=0.2)


def set_limit(kafka, topic, limit):
    kind = confluent_kafka.admin.ConfigResource.Type.TOPIC
    resource = confluent_kafka.admin.ConfigResource(
        kind, topic, set_config={"max.message.bytes": str(limit)})
    admin = kafka.admin()
    admin.alter_configs([resource])[resource].result(timeout=30)


@pytest.fixture
def run(pg, make_rowcast):
    """run(kafka, prefix, *args): a rowcast that writes JSON into topics of this prefix."""
    pg.sql(SCHEMA)

    def make(kafka, prefix, *args):
        return make_rowcast("--table", "public.*", "--topic-prefix", prefix, "--kafka-format",
                            "json", *args, source=pg.conninfo(), kafka=kafka.bootstrap)
    return make


def test_records(pg, kafka, run):
    """Keys, values, tombstones, split key changes, truncates, headers, timestamps."""
    kafka.create_topic("rec.public.t", partitions=3)
    run(kafka, "rec").start()
    pg.sql("insert into t values (1, 'a'), (2, 'b')")
    pg.sql("update t set v = 'c' where id = 1")
    pg.sql("update t set id = 9 where id = 2")
    pg.sql("delete from t where id = 1")
    pg.sql("truncate t")
    # 2 inserts, an update, delete + tombstone + insert, delete + tombstone, 3 truncates
    records = kafka.wait_records(11, "rec.public.t", deadline=30)
    assert len(records) == 11

    def of(key):
        return [(r.headers["op"].decode(), r.value is not None)
                for r in records if r.key == json.dumps(key, separators=(",", ":")).encode()]
    assert of({"id": 1}) == [("insert", True), ("update", True), ("delete", True),
                             ("delete", False)]
    assert of({"id": 2}) == [("insert", True), ("delete", True), ("delete", False)]
    assert of({"id": 9}) == [("insert", True)]
    assert {r.partition for r in records if r.key == b"{}"} == {0, 1, 2}

    moved = [r for r in records if "new_key" in r.headers or "old_key" in r.headers]
    assert [r.headers.get("new_key") for r in moved if r.key == b'{"id":2}'] == [b'{"id":9}'] * 2
    assert [r.headers.get("old_key") for r in moved if r.key == b'{"id":9}'] == [b'{"id":2}']
    for r in records:
        assert r.headers["xid"].isdigit()
        if r.value:
            value = json.loads(r.value)
            assert value["cursor"].encode() == r.headers["cursor"]
            assert value["op"].encode() == r.headers["op"]
    # in one partition cursors never go back
    for partition in range(3):
        seen = [[int(part, 16) for part in r.headers["cursor"].decode().split(".")[2:]]
                for r in records if r.partition == partition]
        assert seen == sorted(seen)


def test_same_partitions_as_java(pg, kafka, run):
    """Kafka's own tools put a key where we put it."""
    kafka.create_topic("mur.public.t", partitions=7)
    kafka.create_topic("mur.theirs", partitions=7)
    run(kafka, "mur").start()
    pg.sql("insert into t select i, '' from generate_series(1, 50) i")
    ours = {r.key: r.partition for r in kafka.wait_records(50, "mur.public.t")}
    # murmur2 as org.apache.kafka.common.utils.Utils has it
    for key, partition in ours.items():
        assert (murmur2(key) & 0x7FFFFFFF) % 7 == partition
    assert len(set(ours.values())) == 7


def murmur2(data):
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i:i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_restart_repeats_nothing(pg, kafka, run):
    rc = run(kafka, "again").start()
    pg.sql("insert into t select i, 'x' from generate_series(1, 1000) i")
    wait_rows(kafka, "again", 1000)
    assert rc.stop() == 0
    pg.sql("insert into t select i, 'x' from generate_series(1001, 2000) i")
    rc.start()
    assert [c["key"]["id"] for c in wait_rows(kafka, "again", 2000)] == list(range(1, 2001))
    assert rc.stop() == 0


def test_a_lost_journal_loses_nothing(pg, kafka, run):
    """Kafka gates the slot, so the rest is still to be had from the server."""
    rc = run(kafka, "disk").start()
    pg.sql("insert into t select i, 'x' from generate_series(1, 100) i")
    wait_rows(kafka, "disk", 100)
    rc.kill9()
    pg.sql("insert into t select i, 'x' from generate_series(101, 200) i")
    run(kafka, "disk").start()  # with a journal of its own
    wait_for(lambda: {c["key"]["id"] for c in rows(kafka, "disk")} == set(range(1, 201)), 30,
             "every row in Kafka", every=0.2)


def test_kill9_repeats_little(pg, kafka, run):
    rc = run(kafka, "kill").start()

    def keys():
        return [c["key"]["id"] for c in rows(kafka, "kill")]
    for i in range(5):
        pg.sql(f"insert into t select i, 'x' from generate_series({i * 4000 + 1}, "
               f"{i * 4000 + 4000}) i")
        wait_for(lambda: i * 4000 + 1 in keys(), 30, f"batch {i} to begin in Kafka", every=0.05)
        rc.restart(kill=True)
        # The slot waits for Kafka's own position: what it has passed does not come again.
        pg.wait_confirmed("rowcast", pg.lsn(), 30)
    wait_for(lambda: set(keys()) == set(range(1, 20001)), 30, "every row in Kafka", every=0.2)
    found = keys()
    assert list(dict.fromkeys(found)) == sorted(set(found)), "first records are not in order"
    assert len(found) - len(set(found)) <= 5 * 4000


def test_broker_down_at_start_and_killed_later(pg, own_kafka, run):
    own_kafka.kill9()
    rc = run(own_kafka, "down").start()
    pg.sql("insert into t select i, 'x' from generate_series(1, 500) i")
    with rc.stream(tables=["public.t"], start="earliest") as stream:
        assert len(stream.changes(500)) == 500  # nobody else waits
    rc.wait_log("Kafka cannot be reached")
    own_kafka.start()
    wait_rows(own_kafka, "down", 500, 60)
    own_kafka.kill9()
    pg.sql("insert into t select i, 'x' from generate_series(501, 1000) i")
    own_kafka.start()
    found = [c["key"]["id"] for c in wait_rows(own_kafka, "down", 1000, 60)]
    assert list(dict.fromkeys(found)) == list(range(1, 1001))
    assert rc.stop() == 0


def test_a_record_over_the_limit(pg, kafka, run):
    """Kafka stops with a word about it and goes on when the limit is raised; others never stop."""
    kafka.create_topic("big.public.t", max_message_bytes=20000)
    rc = run(kafka, "big").start()
    pg.sql("insert into t values (1, 'small'), (2, repeat('x', 30000)), (3, 'small')")
    said = rc.wait_log(r"nothing more goes to Kafka.*")[0]
    assert "big.public.t" in said and "max.message.bytes, 20000" in said and "raise" in said
    assert rc.metrics().get("rowcast_kafka_held") == 1
    with rc.stream(tables=["public.t"], start="earliest") as stream:
        assert len(stream.changes(3)) == 3
    assert [c["key"]["id"] for c in rows(kafka, "big")] == [1]
    assert len([line for line in rc.process.log_text().splitlines()
                if "nothing more goes to Kafka" in line]) == 1
    set_limit(kafka, "big.public.t", 100000)
    assert rc.stop() == 0
    rc.start()
    wait_for(lambda: {c["key"]["id"] for c in rows(kafka, "big")} == {1, 2, 3}, 30,
             "the others", every=0.2)


def test_small_limits_mean_small_batches(pg, kafka, run):
    """A topic's limit counts for a batch of records; ours fit."""
    kafka.create_topic("small.public.t", max_message_bytes=20000)
    rc = run(kafka, "small").start()
    pg.sql("insert into t select i, repeat(md5(i::text), 20) from generate_series(1, 3000) i")
    assert [c["key"]["id"] for c in wait_rows(kafka, "small", 3000)] == list(range(1, 3001))
    assert rc.metrics().get("rowcast_kafka_errors_total") == 0


def test_topics_that_cannot_be_had(pg, run):
    broker = Kafka({"auto.create.topics.enable": "false"}).start()
    try:
        rc = run(broker, "none", "--kafka-create-topics", "off").start()
        said = rc.wait_log(r"nothing more goes to Kafka.*")[0]
        assert "none.position" in said and "kafka-topics --create" in said
        check = command("check", "--source", pg.conninfo(), "--kafka", broker.bootstrap,
                        "--topic-prefix", "none", "--table", "public.t",
                        "--kafka-create-topics", "off")
        assert check.returncode == 8
        assert "fail: topic none.public.t: missing" in check.stdout
        assert "fail: topic none.event: missing" in check.stdout
        broker.create_topic("none.position", cleanup_policy="compact")
        broker.create_topic("none.event")
        broker.create_topic("none.public.t")
        pg.sql("insert into t values (1, 'a')")
        rc.restart()
        wait_rows(broker, "none", 1)
    finally:
        broker.destroy()


def test_tables_that_would_share_a_topic(pg, kafka, run):
    pg.sql('create table "a.b" (id int primary key); create table a_b (id int primary key)')
    rc = run(kafka, "share").start()
    pg.sql('insert into "a.b" values (1)')
    pg.sql("insert into a_b values (1)")
    said = rc.wait_log(r"nothing more goes to Kafka.*")[0]
    assert "share.public.a_b" in said and "rename one" in said


def test_a_position_of_another_database(pg, kafka, run, make_rowcast):
    rc = run(kafka, "alien").start()
    pg.sql("insert into t values (1, 'a')")
    wait_rows(kafka, "alien", 1)
    assert rc.stop() == 0
    pg.sql("select pg_drop_replication_slot('rowcast')")
    with pg.connect() as connection:
        connection.autocommit = True
        connection.execute("create database other")
    pg.sql(SCHEMA, db="other")
    rc = make_rowcast("--table", "public.*", "--topic-prefix", "alien",
                      source=pg.conninfo(db="other"), kafka=kafka.bootstrap).start(ready=False)
    assert rc.wait_exit() == 4
    assert rc.log_contains(r"position of stream \w+ is of another server or database")


def test_protobuf_values(pg, kafka, make_rowcast):
    pg.sql(SCHEMA)
    make_rowcast("--table", "public.*", "--topic-prefix", "proto", source=pg.conninfo(),
                 kafka=kafka.bootstrap).start()
    pg.sql("insert into t values (7, 'hello')")
    record = kafka.wait_records(1, "proto.public.t")[0]
    text = subprocess.run(
        ["protoc", f"--proto_path={paths.ROOT}/proto", "--decode=rowcast.v1.Change",
         "rowcast.proto"], input=record.value, capture_output=True, check=True).stdout.decode()
    assert "op: INSERT" in text and "hello" in text
    assert record.key == b"\x08\x07"


def test_an_idle_stream_moves_on(pg, kafka, run):
    """Foreign traffic moves the position, and with it the slot, without a record in any topic."""
    rc = run(kafka, "idle").start()
    pg.sql("create schema elsewhere")
    pg.sql("create table elsewhere.x (i int)")
    pg.sql("insert into elsewhere.x select generate_series(1, 1000)")
    slot = rc.status()["slot"]
    pg.wait_confirmed(slot if isinstance(slot, str) else slot["name"], pg.lsn() - 1, deadline=30)


def test_secrets_stay_secret(pg, kafka, run):
    rc = run(kafka, "secret", "--kafka-property", "sasl.password=hunter2", "--log-level",
             "debug").start()
    pg.sql("insert into t values (1, 'a')")
    wait_rows(kafka, "secret", 1)
    assert "hunter2" not in rc.process.log_text()
    for wrong, why in (("acks=0", "crash loses records"), ("sasl.pasword=hunter2", "know it")):
        rc = run(kafka, "secret", "--kafka-property", wrong).start(ready=False)
        assert rc.wait_exit() == 2
        assert rc.log_contains(why) and not rc.log_contains("hunter2")


def test_a_clock_that_is_behind_gives_no_negative_times(pg, kafka, run):
    # The server's clock is what is changed: librdkafka's waits do not end well by a false one.
    pg.process.argv = ["env", "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
                       "FAKETIME=+10", "FAKETIME_DONT_FAKE_MONOTONIC=1", *pg.process.argv]
    pg.restart()
    ahead = pg.sql("select extract(epoch from clock_timestamp())::float8")[0][0] - time.time()
    assert ahead > 5, f"the server's clock is {ahead} s ahead, not 10"
    rc = run(kafka, "clock", "--stdout").start()
    with rc.stream(start="now") as stream:
        pg.sql("insert into t values (1, 'a')")
        stream.changes(1)
    wait_rows(kafka, "clock", 1)
    latency = "rowcast_commit_to_sink_seconds"
    metrics = rc.wait_metric(lambda m: len(m.samples[f"{latency}_count"]) == 3
                             and min(m.samples[f"{latency}_count"].values()) > 0 and m,
                             what="each of three sinks to have delivered")
    for name in (f"{latency}_sum", "rowcast_sink_lag_seconds", "rowcast_source_lag_seconds"):
        assert metrics.samples[name] and min(metrics.samples[name].values()) >= 0, name
