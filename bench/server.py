"""The processes that are measured: each is started on a free port and ended with the benchmark."""

import json
import os
import resource
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.provider import FIRST_WORD, GAP_MS
from tollhouse.core.key import make_key
from tollhouse.embedded import EmbeddedPostgres

START_S = 60.0
CREDITS = "100000000"


class NotReady(Exception):
    """A process under test did not come up, or does not do what is to be measured. The message says what it said."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where load is sent; `server_pid` and `database_pid` are the process trees whose cost counts."""

    name: str
    port: int
    key: str = "none"
    server_pid: int | None = None
    database_pid: int | None = None


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def allow_open_files(count: int) -> None:
    """Raises what this process and all that it starts from now on may have open. Raises `NotReady` where the system
    forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise NotReady(f"{count} open files are needed and {hard} allowed; raise it with `ulimit -Hn {count}`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


@dataclass(slots=True)
class Servers:
    """Everything this benchmark started. `stop` ends it, the last started first."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    postgres: EmbeddedPostgres | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def provider(self, gap_ms: float = GAP_MS) -> Target:
        """The fake provider, also the target of the direct calls. `gap_ms` lies between two chunks of a stream."""
        port = free_port()
        arguments = ["-m", "bench.provider", "--port", str(port), "--gap-ms", str(gap_ms)]
        process = self._spawn([sys.executable, *arguments], dict(os.environ))
        self._wait_for_port(process, port)
        return Target("direct", port)

    def passthrough(self, provider: Target) -> Target:
        """The bare pass-through in front of the provider."""
        port = free_port()
        arguments = ["-m", "bench.passthrough", "--port", str(port), "--upstream", _address(provider)]
        process = self._spawn([sys.executable, *arguments], dict(os.environ))
        self._wait_for_port(process, port)
        return Target("pass-through", port, server_pid=process.pid)

    def tollhouse(self, provider: Target, model: str) -> Target:
        """Tollhouse with one worker on an embedded PostgreSQL, and an organisation with a key and many credits."""
        self.postgres = EmbeddedPostgres(self.folder / "data")
        url = self.postgres.start()
        assert self.postgres.process is not None
        port = free_port()
        operator_key = make_key("test", secrets.token_bytes(64))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLHOUSE_")} | {
            "TOLLHOUSE_DATABASE_URL": url,
            "TOLLHOUSE_DATA_DIR": str(self.folder / "data"),
            "TOLLHOUSE_MODE": "test",
            "TOLLHOUSE_WORKERS": "1",
            "TOLLHOUSE_PORT": str(port),
            "TOLLHOUSE_LOG_LEVEL": "warning",
            "TOLLHOUSE_SECRET_KEY": secrets.token_urlsafe(48),
            "TOLLHOUSE_OPERATOR_KEY": operator_key,
            "OPENAI_BASE_URL": _address(provider),
            "OPENAI_API_KEY": "sk-bench",
        }
        self.command("migrate")
        self.command("seed")
        process = self._spawn([sys.executable, "-m", "tollhouse", "serve"], self.environment)
        self._wait_until_ready(process, port)
        key = _customer_key(port, operator_key)
        _check_route(port, key, model)
        return Target("tollhouse", port, key, process.pid, self.postgres.process.pid)

    def command(self, *arguments: str) -> str:
        """Runs a command of Tollhouse to its end and gives what it printed. Raises `NotReady` when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "tollhouse", *arguments], env=self.environment, capture_output=True, check=False
        )
        text = (done.stdout + done.stderr).decode(errors="replace").strip()
        if done.returncode:
            raise NotReady(f"`tollhouse {' '.join(arguments)}` ended with {done.returncode}:\n{text}")
        return text

    def stop(self) -> None:
        """Ends all processes, and PostgreSQL after those that use it."""
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.postgres is not None:
            self.postgres.stop()

    def said(self) -> str:
        """The last that the process said that was started last."""
        return self._log_of(self.processes[-1]) if self.processes else ""

    def _spawn(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        log = self.folder / f"process-{len(self.processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def _wait_for_port(self, process: subprocess.Popen[bytes], port: int) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            self._check_alive(process)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise NotReady(f"nothing listens on port {port} after {START_S:.0f} s:\n{self._log_of(process)}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._wait_for_port(process, port)
        until = time.monotonic() + START_S
        status, answer = 0, b""
        while time.monotonic() < until:
            self._check_alive(process)
            status, answer = _call(port, "GET", "/readyz")
            if status == 200:
                return
            time.sleep(0.05)
        raise NotReady(f"/readyz still says {status} {answer[:500]!r}:\n{self._log_of(process)}")

    def _check_alive(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            raise NotReady(f"a process ended with {process.returncode}:\n{self._log_of(process)}")

    def _log_of(self, process: subprocess.Popen[bytes]) -> str:
        log = self.folder / f"process-{self.processes.index(process)}.log"
        return log.read_text(errors="replace")[-3000:]


def _address(target: Target) -> str:
    return f"http://127.0.0.1:{target.port}/v1"


def _customer_key(port: int, operator_key: str) -> str:
    """Creates the organisation that pays for the load, and gives its key."""
    organization = _operate(port, operator_key, "", {"name": "Benchmark", "plan": "enterprise"})
    path = f"/{organization['id']}"
    _operate(port, operator_key, f"{path}/grants", {"source": "adjustment", "credits": CREDITS, "note": "benchmark"})
    answer = _operate(
        port, operator_key, f"{path}/keys", {"name": "load", "scopes": ["gateway", "credits"], "mode": "test"}
    )
    key: str = answer["key"]
    return key


def _operate(port: int, operator_key: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {operator_key}", "Idempotency-Key": secrets.token_hex(8)}
    status, answer = _call(port, "POST", f"/api/operator/organizations{path}", body, headers)
    if not 200 <= status < 300:
        raise NotReady(f"POST /api/operator/organizations{path} answered {status}: {answer[:1000].decode()}")
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


def _check_route(port: int, key: str, model: str) -> None:
    """One call must be answered by our own fake provider, else something else would be measured."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
    status, answer = _call(port, "POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})
    if status != 200 or FIRST_WORD not in answer:
        raise NotReady(f"the first call was not answered by the fake provider: {status} {answer[:1000].decode()}")


def _call(
    port: int, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"} | (headers or {}),
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()
    except urllib.error.URLError as problem:
        return 0, str(problem.reason).encode()
