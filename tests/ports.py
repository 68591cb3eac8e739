"""Ports for servers that tests and benchmarks start."""

import socket


def free_port() -> int:
    """One of loopback that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
