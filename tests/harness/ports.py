"""TCP ports for tests."""

import random
import socket

#: Below those that a system gives to connections by itself, one of which might come in between.
_PORTS = range(10_000, 32_768)
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, another one each time."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
