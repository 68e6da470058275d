"""Measures the cost of HTTP requests: requests per CPU second, before and now, compared with a plain server.

    python -m benchmarks.http_path                     # before is the commit that the HTTP path was first measured at
    python -m benchmarks.http_path --before main~5 --rounds 3

Decisions: the figure is the server's CPU time, which the kernel counts in nanoseconds for all threads of all its
processes. Callers and other processes of the machine are therefore not counted, except through the caches that they
share. Servers take turns, one round each, and the median of the rounds counts. Callers take requests from one list, so
a caller that waits for a busy worker leaves the next request to another. Workers on cores of their own are as quick as
the busiest of them. The gain of two cores is therefore one worker's CPU time for a round over that of the busier of two
workers, whatever else these cores do; the rate by the clock is given beside it. Requests are pages of
`benchmarks.serving`: one user with some candidates. The earlier server runs from a worktree of that commit, with a
kernel built there.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from benchmarks.record import ROOT, Figures
from benchmarks.serving.traffic import Request, requests
from benchmarks.serving.world import write
from saec.store.model_store import open_store

BEFORE = "f390b35"
FEATURES = 1_000_000
ARROW = "application/vnd.apache.arrow.stream"
NOW, ONE, TWO = "now, compiled", "now, compiled, eight callers", "now, compiled, eight callers, two workers"
CALLERS = 8
BEFORE_NUMPY = "before, numpy"


class Server:
    """A server's processes, and the connection on which it is asked."""

    def __init__(
        self, command: list[str], where: Path, engine: str = "", *, arrow: bool = False, callers: int = 1
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        known = {name: value for name, value in os.environ.items() if not name.startswith("SAEC_")}
        engines = {"SAEC_ENGINE": engine} if engine else {}
        self._process = subprocess.Popen(
            [sys.executable, *(word.replace("PORT", str(self._port)) for word in command)],
            cwd=where,
            env=known | threads | engines | {"PYTHONPATH": str(where)},
            stderr=subprocess.DEVNULL,
        )
        self._kind = ARROW if arrow else "application/json"
        self.spent: list[float] = []
        """CPU seconds a request, of each round."""
        self.busiest: list[float] = []
        """CPU seconds of the busiest process over all requests of the round."""
        self.taken: list[float] = []
        """Seconds a request as its caller saw them."""
        self.rates: list[float] = []
        """Requests a second, of each round."""
        self._callers = [http.client.HTTPConnection("127.0.0.1", self._port, timeout=30) for _ in range(callers)]

    def wait(self, body: bytes) -> None:
        """Wait until it answers."""
        until = time.monotonic() + 60
        while True:
            try:
                for caller in self._callers:
                    self._ask(caller, body)
            except (OSError, http.client.HTTPException, RuntimeError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return

    def round(self, bodies: list[bytes], count: int) -> None:
        """Send so many requests, shared among the callers."""
        for caller in self._callers:  # which the server may have closed while others had their turn
            caller.close()
        cpu, began = self._cpu(), time.monotonic()
        numbers = iter(range(count))
        with ThreadPoolExecutor(len(self._callers)) as pool:
            taken = pool.map(
                lambda caller: [self._ask(caller, bodies[number % len(bodies)]) for number in numbers], self._callers
            )
            self.taken += [seconds for of_caller in taken for seconds in of_caller]
        self.rates.append(count / (time.monotonic() - began))
        spent = [(now - cpu.get(pid, 0.0)) / count for pid, now in self._cpu().items()]
        self.spent.append(sum(spent))
        self.busiest.append(max(spent))

    def memory(self) -> float:
        """Bytes of all processes, shared pages counted once among them."""
        lines = [
            line
            for pid in self._pids()
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            if line.startswith("Pss:")
        ]
        return 1024.0 * sum(int(line.split()[1]) for line in lines)

    def end(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(timeout=30)

    def _ask(self, caller: http.client.HTTPConnection, body: bytes) -> float:
        began = time.perf_counter()
        try:
            caller.request("POST", "/v1/score", body, {"content-type": self._kind, "accept": self._kind})
            answer = caller.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            caller.close()
            raise
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {said[:200]!r}")
        return time.perf_counter() - began

    def _pids(self) -> list[int]:
        """The process and its children."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return [pid, *map(int, children)]

    def _cpu(self) -> dict[int, float]:
        """CPU seconds that all threads of each process have run."""
        return {
            pid: sum(
                int(path.read_text(encoding="ascii").split()[0]) / 1e9
                for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
            )
            for pid in self._pids()
        }


def in_json(request: Request) -> bytes:
    """A page as JSON."""
    user, candidates = request
    return json.dumps({"user": user, "candidates": candidates}).encode()


def in_arrow(request: Request) -> bytes:
    """A page as two Arrow streams."""
    user, candidates = request
    sink = pa.BufferOutputStream()
    for table in (pa.Table.from_pylist([user]), pa.Table.from_pylist(candidates)):
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return bytes(sink.getvalue())


def earlier(commit: str, folder: Path) -> Path:
    """A worktree of a commit, with its kernel."""
    if not folder.exists():
        subprocess.run(
            ["git", "worktree", "add", "--detach", str(folder), commit],  # noqa: S607
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    subprocess.run(
        [sys.executable, "-m", "saec.build_kernel", "--if-possible"],
        cwd=folder,
        check=True,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=subprocess.DEVNULL,
    )
    return folder


def measure(figures: Figures, work: Path, options: argparse.Namespace) -> None:
    """All servers, round by round."""
    world = (work / "world").resolve()
    write(world, FEATURES)
    store = open_store(world / "store")
    store.publish(store.versions()[0], actor="run", reason="passed", fence=1)
    before = earlier(options.before, (work / "before").resolve())
    ours = ["-m", "saec.server", "--store", str(world / "store"), "--port", "PORT"]
    servers = {
        BEFORE_NUMPY: Server(ours, before, "numpy"),
        "before, compiled": Server(ours, before, "compiled"),
        "now, numpy": Server(ours, ROOT, "numpy"),
        NOW: Server(ours, ROOT, "compiled"),
        ONE: Server(ours, ROOT, "compiled", callers=CALLERS),
        TWO: Server([*ours, "--workers", "2"], ROOT, "compiled", callers=CALLERS),
        "now, compiled, Arrow": Server(ours, ROOT, "compiled", arrow=True),
        "onnxruntime and starlette": Server(["-m", "benchmarks.onnx_server", str(world), "PORT"], ROOT),
    }
    asked = requests(FEATURES, 50, options.candidates, seed=1)
    bodies = {name: [*map(in_arrow if "Arrow" in name else in_json, asked)] for name in servers}
    try:
        for name, server in servers.items():
            server.wait(bodies[name][0])
            server.round(bodies[name], 100)
            server.spent, server.busiest, server.taken, server.rates = [], [], [], []
        for _ in range(options.rounds):
            for name, server in servers.items():
                server.round(bodies[name], options.requests)
        report(figures, servers, options.candidates)
    finally:
        for server in servers.values():
            server.end()
        subprocess.run(
            ["git", "worktree", "remove", "--force", str(before)],  # noqa: S607
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        shutil.rmtree(world)


def report(figures: Figures, servers: dict[str, Server], candidates: int) -> None:
    """Each server's figures, then what there is to compare."""
    rates = {name: 1 / statistics.median(server.spent) for name, server in servers.items()}
    for name, server in servers.items():
        percent = statistics.quantiles(server.taken, n=100, method="inclusive")
        title = f"{candidates} candidates: {name}"
        figures.add(f"{title}, requests a CPU second", rates[name], "requests/s")
        figures.add(f"{title}, CPU a request", 1000 / rates[name], "ms")
        figures.add(f"{title}, p50 as seen by the caller", 1000 * percent[49], "ms")
        figures.add(f"{title}, p99 as seen by the caller", 1000 * percent[98], "ms")
        figures.add(f"{title}, memory", server.memory(), "bytes")
    for name, rate in rates.items():
        if name not in (NOW, ONE, TWO):
            ratio, wanted = rates[NOW] / rate, name == BEFORE_NUMPY
            figures.add(
                f"requests a CPU second, {NOW} over {name}",
                ratio,
                "x",
                ">= 2" if wanted else None,
                ratio >= 2 if wanted else None,
            )
    figures.add("requests a CPU second, two workers over one", rates[TWO] / rates[ONE], "x")
    times = statistics.median(servers[ONE].spent) / statistics.median(servers[TWO].busiest)
    figures.add(
        "two workers on cores of their own over one, by the CPU of the busier", times, "x", ">= 1.7", times >= 1.7
    )
    wall = {name: statistics.median(servers[name].rates) for name in (ONE, TWO)}
    figures.add("requests a second, callers on the same cores: two workers over one", wall[TWO] / wall[ONE], "x")


def main() -> None:
    """Measure, and keep the record."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.http_path", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", default=BEFORE)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--work", type=Path, default=Path("workspace/http"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    figures = Figures("http_path")
    measure(figures, options.work, options)
    figures.finish()


if __name__ == "__main__":
    main()
