"""Throwaway Kafka brokers, and what they hold."""

import dataclasses
import shutil

import confluent_kafka
import confluent_kafka.admin

from . import paths
from .process import Process
from .wait import free_port, wait_for


@dataclasses.dataclass
class Record:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None  # None: a tombstone
    headers: dict  # name -> bytes
    timestamp_ms: int


class Kafka:
    """A broker of its own; not started by the constructor. Starting takes about 5 seconds, so tests
    share one (the fixture `kafka`) unless they harm it (the fixture `own_kafka`).

    properties: broker properties over those of tests/lib/kafka."""

    def __init__(self, properties=None):
        self.dir = paths.scratch("kafka")
        self.port = free_port(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        extra = "\n".join(f"{name}={value}" for name, value in (properties or {}).items())
        self.env = {"KAFKA_DIR": str(self.dir / "broker"), "KAFKA_PORT": str(self.port),
                    "KAFKA_HEAP": "512m", "KAFKA_EXTRA": extra}
        self.process = Process("Kafka", [paths.LIB / "kafka", "run"], self.dir / "kafka.log",
                               env=self.env)

    def start(self):
        """Starts it, on the data that it had, and waits until it answers."""
        self.process.start()
        # A client of its own each time: librdkafka waits ever longer before it connects again.
        wait_for(self._answers, 90, lambda: f"Kafka to answer:\n{self.process.log_tail()}",
                 ignore=(confluent_kafka.KafkaException,), every=0.2)
        return self

    def _answers(self):
        assert self.process.alive(), f"Kafka ended:\n{self.process.log_tail()}"
        return self.admin().list_topics(timeout=2).brokers

    def stop(self):
        """SIGTERM: a clean shutdown."""
        self.process.stop(deadline=60)

    def kill9(self):
        self.process.kill9()

    def restart(self):
        self.stop()
        return self.start()

    def destroy(self):
        self.kill9()
        shutil.rmtree(self.dir / "broker", ignore_errors=True)

    def admin(self):
        return confluent_kafka.admin.AdminClient(self._client())

    def _client(self, **properties):
        # Its complaints about a broker that is down on purpose only confuse.
        return {"bootstrap.servers": self.bootstrap, "log_level": 0, **properties}

    def topics(self):
        """Names of the topics, without Kafka's own."""
        names = self.admin().list_topics(timeout=10).topics
        return sorted(name for name in names if not name.startswith("__"))

    def create_topic(self, name, partitions=1, **config):
        """config: topic properties, with _ for the dots."""
        topic = confluent_kafka.admin.NewTopic(
            name, num_partitions=partitions, replication_factor=1,
            config={k.replace("_", "."): str(v) for k, v in config.items()})
        admin = self.admin()  # must live until the result is there
        admin.create_topics([topic])[name].result(timeout=30)

    def delete_topic(self, name):
        admin = self.admin()
        admin.delete_topics([name])[name].result(timeout=30)

    def produce(self, topic, value, key=None):
        """Writes one record and waits for it."""
        producer = confluent_kafka.Producer(self._client())
        producer.produce(topic, value=value, key=key)
        assert producer.flush(30) == 0, f"the record for {topic} was not delivered"

    def records(self, *topics, committed=False, deadline=60):
        """Every record that the topics (all partitions) hold now, as a list of Record in the order
        of each partition. A topic that does not exist holds none. committed: only records of
        committed transactions."""
        consumer = confluent_kafka.Consumer(self._client(**{
            "group.id": "rowcast-tests", "enable.auto.commit": False,
            "enable.partition.eof": True, "auto.offset.reset": "earliest",
            "isolation.level": "read_committed" if committed else "read_uncommitted"}))
        try:
            return self._read_to_end(consumer, topics, deadline)
        finally:
            consumer.close()

    def _read_to_end(self, consumer, topics, deadline):
        known = consumer.list_topics(timeout=deadline).topics
        left = {(topic, partition) for topic in topics if topic in known
                for partition in known[topic].partitions}
        consumer.assign([confluent_kafka.TopicPartition(t, p, confluent_kafka.OFFSET_BEGINNING)
                         for t, p in left])
        found = []
        while left:
            message = consumer.poll(deadline)
            assert message is not None, f"no end of {sorted(left)} within {deadline} s"
            if message.error() is None:
                found.append(_record(message))
            elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                left.discard((message.topic(), message.partition()))
            else:
                raise confluent_kafka.KafkaException(message.error())
        return found

    def wait_records(self, count, *topics, deadline=60, **options):
        """Waits until the topics hold at least `count` records; returns them."""
        def enough():
            records = self.records(*topics, **options)
            return records if len(records) >= count else None
        return wait_for(enough, deadline, f"{count} records in {topics}", every=0.2)


def _record(message):
    return Record(message.topic(), message.partition(), message.offset(), message.key(),
                  message.value(), dict(message.headers() or []), message.timestamp()[1])
