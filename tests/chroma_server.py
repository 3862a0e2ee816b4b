"""Runs a real Chroma server for tests."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_chroma(folder: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Run a server on a free port of the loopback interface; give its port and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    chroma = Path(sys.executable).with_name("chroma")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [chroma, "run", "--path", folder / "data", "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"ANONYMIZED_TELEMETRY": "False"},
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/v2/heartbeat", server, folder / "log")
        yield port, server
    finally:
        server.kill()
        server.wait(10)


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the Chroma server did not start:\n{log.read_text()}")
