"""`tollhouse up` as a person runs it: one command until it is ready, one signal until nothing of it is left."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

import tollhouse
from tests.conftest import Cluster

SOURCE = Path(tollhouse.__file__).parents[1]
LAST_LINE = "Ctrl-C stops it."


class Run:
    """A `tollhouse up` that says it is ready."""

    def __init__(self, process: subprocess.Popen[str], said: str) -> None:
        self.process = process
        self.said = said
        self.family = psutil.Process(process.pid).children(recursive=True)

    @property
    def address(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.said)
        assert found is not None, self.said
        return found[0]

    def member(self, *words: str) -> psutil.Process:
        """The process of the family that was started with these arguments."""
        return next(one for one in self.family if one.is_running() and set(words) <= set(one.cmdline()))

    def status(self, path: str) -> int:
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def end(self, number: int, seconds: float = 60.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def left_over(self, seconds: float) -> list[psutil.Process]:
        """Who of the family still lives after at most that time."""
        deadline = time.monotonic() + seconds
        while alive := [one for one in self.family if _lives(one)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return alive


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOLLHOUSE_", "OPENAI_"))}
    return {
        **kept,
        "PYTHONPATH": str(SOURCE),
        "TOLLHOUSE_DATA_DIR": str(data_dir),
        "TOLLHOUSE_PORT": "0",
        **{f"TOLLHOUSE_{name}": value for name, value in settings.items()},
    }


@contextmanager
def up(data_dir: Path, **settings: str) -> Iterator[Run]:
    program = [sys.executable, "-m", "tollhouse", "up"]
    with subprocess.Popen(
        program, env=environment(data_dir, **settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if LAST_LINE in line:
                break
        try:
            assert LAST_LINE in said, said
            run = Run(process, said)
            yield run
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)


def command(data_dir: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "tollhouse", *arguments]
    return subprocess.run(
        program, env=environment(data_dir, **settings), capture_output=True, text=True, timeout=60, check=False
    )


def test_the_printed_line_can_be_pasted_and_is_answered(data_dir: Path) -> None:
    with up(data_dir) as run:
        line = next(line for line in run.said.splitlines() if line.startswith("curl "))
        answer = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=60, check=True).stdout
        assert json.loads(answer)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_one_signal_stops_everything(data_dir: Path, number: signal.Signals) -> None:
    with up(data_dir) as run:
        assert run.status("/readyz") == 200
        assert len(run.family) >= 3
        assert run.end(number) == 0
        assert run.left_over(0) == []
        assert run.status("/readyz") == 0


def test_the_same_wish_passed_on_twice_is_one_wish(data_dir: Path) -> None:
    with up(data_dir) as run:
        server = run.member("serve")
        server.suspend()
        run.process.send_signal(signal.SIGTERM)
        run.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(1.5)
        server.resume()
        assert run.process.wait(60) == 0


def test_a_second_interrupt_does_not_wait_for_calls_under_way(data_dir: Path) -> None:
    with up(data_dir) as run:
        run.member("serve").suspend()
        run.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(1.5)
        started = time.monotonic()
        assert run.end(signal.SIGINT) == 0
        assert time.monotonic() - started < 5
        assert run.left_over(0) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_killing_the_supervisor_leaves_no_process_and_the_next_start_has_the_same_keys(data_dir: Path) -> None:
    with up(data_dir) as run:
        assert run.end(signal.SIGKILL) == -signal.SIGKILL
        assert run.left_over(15) == []
    with up(data_dir) as again:
        assert again.status("/readyz") == 200
        assert _keys(again.said) == _keys(run.said)


def test_processes_that_outlived_a_killed_supervisor_are_ended_by_the_next_start(data_dir: Path) -> None:
    with up(data_dir) as run:
        server, worker = run.member("serve"), run.member("worker")
        server.suspend()
        worker.suspend()
        run.end(signal.SIGKILL)
        assert len(run.left_over(1)) >= 2
        with up(data_dir) as again:
            assert again.status("/readyz") == 200
            assert run.left_over(0) == []


def test_a_server_or_a_database_that_dies_is_started_again(data_dir: Path) -> None:
    with up(data_dir) as run:
        for word in ("serve", "-D"):
            victim = run.member(word)
            victim.kill()
            deadline = time.monotonic() + 20
            while victim.is_running() and victim.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
            while run.status("/readyz") != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        run.family = psutil.Process(run.process.pid).children(recursive=True)
        assert run.end(signal.SIGINT) == 0
        assert run.left_over(0) == []


def test_a_second_start_takes_seconds_and_makes_nothing_anew(data_dir: Path) -> None:
    first, *later = [_start(data_dir) for _ in range(3)]
    assert min(ready for ready, _ in later) < first[0]
    assert max(cpu for _, cpu in later) < min(first[1], 10)


def _start(data_dir: Path) -> tuple[float, float]:
    """How many seconds it takes until it is ready, which depends on who else is busy here; and what the whole run takes
    of the processor, in seconds."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with up(data_dir):
        ready = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ready, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_second_up_on_the_same_data_is_refused_and_names_the_first(data_dir: Path) -> None:
    with up(data_dir) as run:
        refused = command(data_dir, "up")
        assert refused.returncode == 1
        assert f"already running on the data directory {data_dir} (pid {run.process.pid})" in refused.stderr
        assert run.status("/readyz") == 200


def test_a_port_that_is_taken_is_named_with_its_holder_and_a_way_out(data_dir: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        refused = command(data_dir, "up", PORT=str(port))
    assert refused.returncode == 1
    assert f"Port {port} is taken by" in refused.stderr
    assert f"(pid {os.getpid()})" in refused.stderr
    assert "TOLLHOUSE_PORT=" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_configuration_error_ends_with_status_2_before_anything_starts(data_dir: Path) -> None:
    refused = command(data_dir, "up", MODE="life")
    assert refused.returncode == 2
    assert "TOLLHOUSE_MODE is 'life' and must be test or live." in refused.stderr
    assert not data_dir.exists()


def test_other_commands_find_the_running_database_and_say_so_when_there_is_none(data_dir: Path) -> None:
    missing = command(data_dir, "migrate")
    assert missing.returncode == 1
    assert "tollhouse up" in missing.stderr
    assert "TOLLHOUSE_DATABASE_URL" in missing.stderr
    with up(data_dir) as run:
        port = run.address.rsplit(":", 1)[1]
        examined = command(data_dir, "doctor", PORT=port)
        assert examined.returncode == 0, examined.stdout
        assert "PROBLEM" not in examined.stdout
        assert command(data_dir, "migrate").returncode == 0
        proven = command(data_dir, "prove-ledger", "--json")
        assert json.loads(proven.stdout) == {"ok": True, "failures": []}
    assert command(data_dir, "migrate").returncode == 1


def test_with_a_database_of_ones_own_no_other_is_started(data_dir: Path, empty_database_url: str) -> None:
    with up(data_dir, DATABASE_URL=empty_database_url) as run:
        assert run.status("/readyz") == 200
        assert not any("postgres" in one.name() for one in run.family)
        with psycopg.connect(empty_database_url) as connection:
            assert connection.execute("SELECT count(*) > 0 FROM plan").fetchone() == (True,)
        assert run.end(signal.SIGTERM) == 0
    assert not (data_dir / "database").exists()


def test_a_database_that_can_not_be_reached_is_a_sentence(data_dir: Path, cluster: Cluster) -> None:
    refused = command(data_dir, "up", DATABASE_URL=cluster.postgres.url("no_such_database"))
    assert refused.returncode == 1
    assert "The database can't be reached" in refused.stderr
    assert "no_such_database" in refused.stderr
    assert "Traceback" not in refused.stderr


def _keys(said: str) -> list[str]:
    found = re.findall(r"(?:operator|demo) key +(\S+)", said)
    assert len(found) == 2
    return found
