"""A server that cannot be trusted: a proxy in front of a real one, which sends what it likes."""

import socket
import struct
import threading


INSTEAD = object()


class Hostile:
    """Passes everything on between clients and the server at `port`, until a client comes to a
    stage: "accept" (connected), "startup" (its first packet read), "ready" (logged in), "query"
    (`request` received, but not passed on) or "stream" (streaming). Then spoil(socket) may send
    anything to the client. What it returns decides: True, go on passing; INSTEAD, the same, but the
    query is not passed on; else the connection is closed. spoil None: it is honest. `spoilt`
    counts."""

    def __init__(self, port):
        self._target = port
        self.stage = self.spoil = None
        self.request = b"START_REPLICATION"
        self.spoilt = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _at(self, stage, client):
        """False: the connection is over."""
        if stage != self.stage or not self.spoil:
            return True
        self.spoilt += 1
        return self.spoil(client)

    def _serve(self, client):
        server = socket.create_connection(("127.0.0.1", self._target))
        try:
            if not self._at("accept", client):
                return
            startup = _exactly(client, 4)
            server.sendall(startup + _exactly(client, struct.unpack("!I", startup)[0] - 4))
            if not self._at("startup", client):
                return
            threading.Thread(target=self._requests, args=[client, server], daemon=True).start()
            self._answers(client, server)
        except OSError:
            pass
        finally:
            _hang_up(client, server)

    def _requests(self, client, server):
        try:
            while True:
                data = client.recv(65536)
                if not data:
                    break
                verdict = self.request not in data or self._at("query", client)
                if verdict is INSTEAD:
                    continue
                if not verdict:
                    break
                server.sendall(data)
        except OSError:
            pass
        _hang_up(client, server)

    def _answers(self, client, server):
        ready = False
        while True:
            head = _exactly(server, 5)
            client.sendall(head + _exactly(server, struct.unpack("!I", head[1:])[0] - 4))
            if head[:1] == b"Z" and not ready:
                ready = True
                if not self._at("ready", client):
                    return
            if head[:1] == b"W" and not self._at("stream", client):
                return


def _exactly(sock, n):
    data = b""
    while len(data) < n:
        part = sock.recv(n - len(data))
        if not part:
            raise OSError("closed")
        data += part
    return data


def _hang_up(*sockets):
    for sock in sockets:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        sock.close()


# ---- what it may send ----

def message(kind, body=b"", length=None):
    """One message of the protocol; `length`: what it pretends to have."""
    return kind + struct.pack("!I", len(body) + 4 if length is None else length) + body


def error(text, state=b"XX000", kind=b"E"):
    return message(kind, b"SERROR\0VERROR\0C" + state + b"\0M" + text + b"\0\0")


def row(*values):
    """The answer to a query: one row of texts (None: NULL)."""
    columns = b"".join(b"c\0" + struct.pack("!IHIhih", 0, 0, 25, -1, -1, 0) for _ in values)
    fields = b"".join(struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v
                      for v in values)
    count = struct.pack("!H", len(values))
    return (message(b"T", count + columns) + message(b"D", count + fields)
            + message(b"C", b"SELECT 1\0") + message(b"Z", b"I"))


def wal(payload, lsn=1):
    """A pgoutput message in its frame."""
    return message(b"d", b"w" + struct.pack("!QQQ", lsn, lsn, 0) + payload)


def begin(lsn, xid=7):
    return wal(b"B" + struct.pack("!QQI", lsn, 0, xid))


def relation(relid, columns, name=b"t", count=None):
    body = b"".join(b"\0" + c + b"\0" + struct.pack("!Ii", 23, -1) for c in columns)
    return wal(b"R" + struct.pack("!I", relid) + b"public\0" + name + b"\0d"
               + struct.pack("!H", len(columns) if count is None else count) + body)


def insert(relid, values, count=None, length=None):
    body = b"".join(b"t" + struct.pack("!I", len(v) if length is None else length) + v
                    for v in values)
    return wal(b"I" + struct.pack("!I", relid) + b"N"
               + struct.pack("!H", len(values) if count is None else count) + body)
