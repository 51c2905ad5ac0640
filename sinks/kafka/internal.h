// The sink's state, and how its parts meet. All of it belongs to the sink's thread, but what is
// marked otherwise.
//
//   kafka.c     life, the thread, its sessions
//   deliver.c   batches to records to the producer
//   resume.c    the position: written, read back, and where the journal's reader opens
//
// A session is the life of one producer. What ends it (a record that was not delivered, a fatal
// error of idempotence) is mended by the next one, which goes on behind the last delivered
// position: repeats have the same positions, a gap is impossible.
#pragma once

#include "sinks/kafka/admin.h"
#include "sinks/kafka/flight.h"
#include "sinks/kafka/position.h"
#include "sinks/kafka/record.h"
#include "sinks/kafka/topic.h"

#include "base/metrics.h"

#include <pthread.h>

#define FLIGHT_MEMORY_MAX (16u << 20) // of batches that are out; at it reading waits
#define REQUEST_MS        5000        // an answer of the brokers; then it is asked again
#define POSITION_US       200000      // the position is written at most this often ..
#define POSITION_BYTES    (2u << 20)  // .. or when so much was delivered since
#define HOLD_US           30000000    // until a cause that somebody must mend is looked at again
#define RETRY_US          1000000     // until one that passes is
#define RENEW_US_MAX      30000000    // between producers that deliver nothing

struct topic {
    char *name;
    rd_kafka_topic_t *handle; // of this session; NULL: not prepared yet
    size_t bytes_max;
    bool stale;  // its facts are to be asked for again
    bool wanted; // to be prepared next
    struct topic *next;
};

struct route { // of one relation version
    const struct relation *relation;
    struct topic *topic;
    struct key_columns key;
};

struct kafka_metrics {
    struct metric *records, *bytes, *errors, *renewals, *in_flight, *position, *lag_bytes,
        *lag_time, *held, *restarts;
    struct histogram *commit_to_sink;
};

struct kafka {
    struct sink sink;
    struct kafka_options o; // its strings are ours
    struct journal *journal;
    struct journal_reader *reader;
    pthread_t thread;
    int wake;                // eventfd: the journal has more, librdkafka has something, stop
    _Atomic uint32_t era;    // of the journal's: `durable` is of it
    _Atomic lsn_t durable;   // any thread
    _Atomic int64_t stop_at; // when to give up delivering; 0: go on. Any thread
    pthread_mutex_t lock;    // of `failure`
    bool failed;
    struct err failure;

    // session
    struct client client;
    rd_kafka_t *producer;
    bool broken; // this producer must be replaced
    char why[600];
    size_t batch_bytes; // of a request: no more than any topic takes
    int64_t renew_us;   // wait before the next producer
    struct flights flights;

    // what is being sent
    struct flight *flight; // its batch; NULL: the next one is to be read
    size_t next;           // entry of it
    struct position skip;  // the consumer has what is at or below
    struct encoder encoder;
    struct topic_names *names;
    struct topic *topics, *message_topic, *event_topic, *position_topic;
    struct route **routes; // by relation id
    size_t route_cap;
    int sent; // records of the entry `next`

    // holding: the next change cannot be sent
    bool held;
    int64_t retry_at;
    struct err held_by;

    // the position
    bool stranded;     // the reader's place is gone: it is to be found again
    bool known;        // Kafka was asked for it
    bool delivered;    // there is one: flights.done
    bool dirty;        // it moved since it was written
    bool position_out; // a record of it is out
    struct buf position_key;
    struct kafka_position writing; // in that record
    int64_t written_at;
    uint64_t written_bytes;

    struct kafka_metrics metrics;
    _Atomic lsn_t seen_watermark;   // delivered; for metrics, any thread
    _Atomic int64_t seen_commit_us; // commit time of the last delivered, or when nothing was behind
};

enum send_result { SEND_DONE, SEND_FULL, SEND_HELD, SEND_BROKEN };

// deliver.c
// Sends the rest of the batch in k->flight.
enum send_result deliver(struct kafka *k);
// Makes the topic's handle; its facts are known.
int topic_ready(struct kafka *k, struct topic *t, const struct topic_facts *facts,
                struct err *e) MUST_CHECK;
struct topic *topic_of(struct kafka *k, const char *name);
void topics_reset(struct kafka *k); // at the end of a session
void routes_free(struct kafka *k);

// resume.c
// Makes the position's topic ready; once a session, before anything else.
int resume_prepare(struct kafka *k, struct err *e) MUST_CHECK;
// Finds the position in Kafka and opens the reader there. ERR_RETRY; ERR_KAFKA: see hold_back;
// ERR_SLOT_LOST: the sink cannot go on.
int resume_first(struct kafka *k, struct err *e) MUST_CHECK;
// The place that the reader had is gone, and nothing is in flight: Kafka is asked again.
void resume_forget(struct kafka *k);
// Opens the reader behind the last delivered position again.
int resume_again(struct kafka *k, struct err *e) MUST_CHECK;
// Writes the position if it moved and it is time.
void position_write(struct kafka *k);
void position_reported(struct kafka *k, bool delivered);

// kafka.c
// The next step cannot be taken: says why (once), and when it is tried again.
void hold_back(struct kafka *k, const struct err *why);
void kafka_break(struct kafka *k, const char *why);
void kafka_wake(void *arg);
