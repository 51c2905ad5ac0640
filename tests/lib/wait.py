"""Waiting for conditions, and ports that nobody else has."""

import os
import random
import socket
import time


def wait_for(condition, deadline=15.0, what="the condition", ignore=(), every=0.02):
    """Calls condition() until it returns something true, and returns that. After `deadline` seconds
    fails with `what` and the last value or exception. Exceptions in `ignore` count as "not yet",
    any other ends the wait at once. `what` may be a callable, asked only on failure."""
    end = time.monotonic() + deadline
    while True:
        try:
            last = condition()
            if last:
                return last
        except ignore as e:
            last = e
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise AssertionError(f"waited {deadline:g} s for {text}; last seen: {last!r}")
        time.sleep(every)


_held = []  # a port is ours as long as its abstract socket is open: until this process ends


def free_port(count=1):
    """The first of `count` successive free TCP ports of 127.0.0.1. No other process that asks here
    gets one of them while we live, so that servers may be stopped and started on the same port.
    They come from ROWCAST_TEST_PORTS ("20000-29999"), below the kernel's own choices."""
    low, high = map(int, os.environ.get("ROWCAST_TEST_PORTS", "20000-29999").split("-"))
    first = random.randrange(low, high + 1)
    for offset in range(high - low + 1):
        start = low + (first - low + offset) % (high - low + 1)
        if start + count - 1 > high:
            continue
        claims = [_claim(p) for p in range(start, start + count)]
        if all(claims):
            _held.extend(claims)
            return start
        for claim in filter(None, claims):
            claim.close()
    raise AssertionError(f"no free port in {low}-{high}")


def _claim(port):
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0rowcast-test-port-{port}")
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
        return claim
    except OSError:
        claim.close()
        return None
