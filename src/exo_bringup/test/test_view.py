"""The web view: served on this machine only, complete in itself, fed by the graph."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.request

import numpy as np
from exo_bringup.nodes.view import PLOT_S, History

DOMAIN = 75
PATIENCE_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "exo_bringup.nodes.view", "--ros-args", "-p", f"port:={port}"]
    environment = dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN))
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_page_is_local_and_complete() -> None:
    port = free_port()
    process = start(port)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as answer:
            page = answer.read().decode()
        assert answer.status == 200 and "<html" in page
        # Nothing is loaded from elsewhere: every src and href is on this server or in the page.
        assert not re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//[^>]+>""", page)
        listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout
        local = [line.split()[1] for line in listening.splitlines()[1:] if line.split()[3] == "0A"]  # in state LISTEN
        bound = [address for address in local if address.endswith(f":{port:04X}")]
        assert bound and all(address.startswith("0100007F") for address in bound), "only the loopback address"
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_history_keeps_the_newest_seconds() -> None:
    history = History()
    assert [column.shape for column in history.columns()] == [(1,), (1,), (1,)]
    for i in range(2000):
        history.add(0.01 * i, float(i), -float(i))
    seconds, left, right = history.columns()
    assert seconds[-1] == 0.0 and -PLOT_S <= seconds[0] < -PLOT_S + 0.02
    assert left[-1] == 1999.0
    np.testing.assert_array_equal(right, -left)
