"""Nothing listens beyond this machine by default, and nothing in docker-compose.yml runs as root.

Decisions: in the whole form the scheduler, Prefect's server and its UI are started as a user starts them, and every
socket that any process of that tree listens on is looked up in /proc; a listener must be found, else nothing is proved.
The compose file is read: ports it publishes beyond loopback, services that share the host's network, services whose
user is root (of an image built here, by its Dockerfile). Containers listen on their own network's addresses, as they
must.
"""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from benchmarks.faults.commands import Shell
from benchmarks.record import ROOT, Figures
from tests.conftest import Site

SECONDS = 180
_LISTENS = "0A"


def tree(root: int) -> Iterator[int]:
    """A process and all that it started, by number."""
    yield root
    for path in Path(f"/proc/{root}/task").glob("*/children"):
        with suppress(OSError):  # it ended meanwhile
            for child in path.read_text().split():
                yield from tree(int(child))


def sockets(process: int) -> set[str]:
    """The sockets that a process has open, by inode."""
    found = set()
    with suppress(OSError):
        for path in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                found |= set(re.findall(r"socket:\[(\d+)\]", str(path.readlink())))
    return found


def listening() -> Iterator[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    """Inode and address of every socket that listens on this machine."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENS:
                words = bytes.fromhex(local.partition(":")[0])
                packed = b"".join(
                    struct.pack(">I", *struct.unpack("<I", words[at : at + 4])) for at in range(0, len(words), 4)
                )
                yield inode, ipaddress.ip_address(packed)


def listeners(root: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Where a process and all that it started listen."""
    own = set().union(*map(sockets, tree(root)))
    return [address for inode, address in listening() if inode in own]


def beyond(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether others than this machine reach it."""
    mapped = getattr(address, "ipv4_mapped", None)
    return not (mapped or address).is_loopback


def deployed(shell: Shell) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Where `python -m flows.deploy` listens once its UI answers and a few seconds have passed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows.deploy", "--config", str(shell.settings), "--port", str(port)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/api/ready")
        time.sleep(5)
        return listeners(process.pid)
    finally:
        started = list(tree(process.pid))
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        for number in started:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def _wait(url: str) -> None:
    """Wait until something answers."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - on this machine
            return
        time.sleep(0.5)
    raise TimeoutError(f"{url} does not answer within {SECONDS} s")


def exposed(compose: dict[str, Any]) -> list[str]:
    """Services of a compose file that others than this machine reach."""
    return [
        name
        for name, service in compose["services"].items()
        if service.get("network_mode") == "host"
        or any(not str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    ]


def root_services(compose: dict[str, Any], dockerfile: str) -> list[str]:
    """Services of a compose file that run as root."""
    stages = re.split(r"^FROM .* AS (\w+)$", dockerfile, flags=re.MULTILINE)
    users = {
        stage: (re.findall(r"^USER (\w+)", text, flags=re.MULTILINE) or ["root"])[-1]
        for stage, text in zip(stages[1::2], stages[2::2], strict=True)
    }
    user = {
        name: service.get("user") or users.get(service.get("build", {}).get("target", ""), "root")
        for name, service in compose["services"].items()
    }
    return [name for name, who in user.items() if str(who).partition(":")[0] in ("root", "0")]


def figure(seed: int, short: bool, figures: Figures) -> None:
    """The compose file; in the whole form, the processes too."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    rooted = root_services(compose, (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    services = len(compose["services"])
    figures.add(
        f"18. services of the compose file that run as root, of {services}",
        len(rooted),
        "services",
        "= 0",
        holds=not rooted,
    )
    figures.add(
        f"18. services of the compose file reached from elsewhere, of {services}",
        len(exposed(compose)),
        "services",
        "= 0",
        holds=not exposed(compose),
    )
    if short:
        return
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        site.simulate(1)
        found = deployed(Shell(site))
    away = [str(address) for address in found if beyond(address)]
    print(f"  listeners: {sorted(map(str, found))}")
    figures.add(
        f"18. listeners of saec deploy beyond loopback, of {len(found)}",
        len(away),
        "listeners",
        "= 0, of one at least",
        holds=bool(found) and not away,
    )
