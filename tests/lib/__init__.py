"""What the end-to-end tests stand on: real servers, a running rowcast, and clients of it.

paths       where things lie: binaries, cache, scratch space
wait        wait_for(), free_port()
process     a child process with a log file, which never outlives the tests
postgres    Postgres: a throwaway server of any version from 10 to 18
kafka       Kafka: a throwaway broker, and what it holds
rowcast     Rowcast: the daemon under test
stream      Stream: a WebSocket client of it
"""
