"""`tollhouse up`: the database, the web processes and the job worker, from one command to the last Ctrl-C."""

from __future__ import annotations

import http.client
import os
import select
import signal
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType
from urllib.parse import urlsplit

from tollhouse import __version__, children, data_directory, migrations, seeding
from tollhouse.children import BACKOFF_SECONDS, Child, describe, say
from tollhouse.config import Config
from tollhouse.embedded import EmbeddedError, EmbeddedPostgres
from tollhouse.listener import address_of, listen
from tollhouse.seeding import Keys
from tollhouse.trouble import Trouble

READY_SECONDS = 60.0
DRAIN_SECONDS = 35.0
HURRY_AFTER_SECONDS = 1.0  # `make` and `timeout` may pass one wish on twice, within milliseconds


class Stopped(BaseException):
    """The wish to stop came while starting."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP as a wish to stop, and SIGCHLD as a reason to wake up.

    While `starting`, the wish interrupts what runs with Stopped; afterwards it is a flag. A second wish is `hurry`."""

    def __init__(self) -> None:
        self.starting = True
        self.stopping = False
        self.wish = ""
        self.hurry = False
        self._first = 0.0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means what it says
                signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            self.hurry = self.hurry or time.monotonic() - self._first >= HURRY_AFTER_SECONDS
            return
        self.stopping, self.wish, self._first = True, signal.Signals(number).name, time.monotonic()
        if self.starting:
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Returns after that time, or at once when a signal came."""
        select.select([self._read], [], [], max(seconds, 0.0))
        with suppress(BlockingIOError):
            os.read(self._read, 4096)


class Stack:
    """Everything that runs under one `tollhouse up`."""

    def __init__(self, config: Config, listener: socket.socket, signals: Signals) -> None:
        self.config = config
        self.listener = listener
        self.signals = signals
        self.address = address_of(listener)
        self.postgres = EmbeddedPostgres(config.data_dir) if config.database_url is None else None
        self.children: list[Child] = []
        self._postgres_start_at = 0.0
        self._postgres_failures = 0

    def start(self) -> None:
        """Database, migrations, seed, processes; returns when the server says it is ready."""
        children.end_orphans(self.config.data_dir, 0.0 if self.postgres else DRAIN_SECONDS)
        url = self.config.database_url
        if self.postgres is not None:
            url = self.postgres.start()
            data_directory.write_url(self.config.data_dir, url)
        assert url is not None
        migrations.upgrade(url)
        keys = seeding.seed_and_keep(self.config, url, datetime.now(UTC))
        self._start_children(url)
        self._wait_until_ready()
        say(_welcome(self.config, self.address, keys))

    def _start_children(self, url: str) -> None:
        environment = {
            **os.environ,
            "TOLLHOUSE_DATABASE_URL": url,
            "TOLLHOUSE_DATA_DIR": str(self.config.data_dir),
            "TOLLHOUSE_SECRET_KEY": self.config.secret_key.get_secret_value(),
        }
        fd = self.listener.fileno()
        for number in range(1, self.config.workers + 1):
            name = "server" if self.config.workers == 1 else f"server {number}"
            self.children.append(Child(name, ["serve", "--fd", str(fd)], environment, (fd,)))
        self.children.append(Child("job worker", ["worker"], environment))
        for one in self.children:
            one.start()
        children.note(self.config.data_dir, self.children)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            status, answer = _readiness(self.address)
            if status == 200:
                return
            for one in self.children:
                ended = one.ended()
                if ended is not None:
                    raise Trouble(
                        f"The {one.name} ended before it was ready ({describe(ended)}); the lines above say why. "
                        "`tollhouse doctor` checks the surroundings."
                    )
            if time.monotonic() > deadline:
                raise Trouble(f"The server was not ready after {READY_SECONDS:g} s: {answer}")
            self.signals.wait(0.05)

    def run(self) -> None:
        """Keeps everything alive until the wish to stop."""
        while not self.signals.stopping:
            now = time.monotonic()
            running = [one.process for one in self.children]
            wishes = [self._tend_postgres(now), *(one.tend(now) for one in self.children)]
            if running != [one.process for one in self.children]:
                children.note(self.config.data_dir, self.children)
            due = min((at for at in wishes if at is not None), default=now + 3600.0)
            self.signals.wait(due - time.monotonic())

    def _tend_postgres(self, now: float) -> float | None:
        if self.postgres is None or (self.postgres.process is not None and self.postgres.process.poll() is None):
            return None
        if now < self._postgres_start_at:
            return self._postgres_start_at
        try:
            self.signals.starting = True  # recovery may be long, and the wish to stop must not wait for it
            if self.signals.stopping:
                return None
            say("PostgreSQL ended; starting it again.")
            self.postgres.start()
            self._postgres_failures = 0
        except EmbeddedError as error:
            pause = BACKOFF_SECONDS[min(self._postgres_failures, len(BACKOFF_SECONDS) - 1)]
            self._postgres_failures += 1
            self._postgres_start_at = now + pause
            say(f"{error} Trying again in {pause:g} s.")
            return self._postgres_start_at
        except Stopped:
            pass
        finally:
            self.signals.starting = False
        return None

    def stop(self) -> None:
        """Servers and worker first, which finish what they have begun; the database last."""
        self.signals.starting = False
        self.listener.close()
        running = [one.process for one in self.children if one.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + DRAIN_SECONDS
        while any(process.poll() is None for process in running):
            if self.signals.hurry or time.monotonic() > deadline:
                for process in running:
                    process.kill()
            self.signals.wait(0.5)
        if self.postgres is not None:
            self.postgres.stop()
            data_directory.forget_url(self.config.data_dir)
        children.forget(self.config.data_dir)


def up(config: Config) -> None:
    """Runs Tollhouse until SIGINT or SIGTERM. Raises Trouble when it can't start; whatever had started is stopped."""
    signals = Signals()
    stack = None
    try:
        with data_directory.locked(config.data_dir), listen(config.host, config.port) as listener:
            stack = Stack(config, listener, signals)
            try:
                stack.start()
                signals.starting = False
                stack.run()
                say(f"Stopping ({signals.wish}): calls under way may finish. Press Ctrl-C again to stop at once.")
            finally:
                stack.stop()
    except Stopped:
        say("Stopped before it was ready.")


def _readiness(address: str) -> tuple[int, str]:
    """The status and body of /readyz; 0 when nobody answers."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read(4096).decode(errors="replace")
    except OSError as error:
        return 0, str(error) or type(error).__name__
    except http.client.HTTPException as error:
        return 0, type(error).__name__
    finally:
        connection.close()


def _welcome(config: Config, address: str, keys: Keys) -> str:
    lines = [f"Tollhouse {__version__} is ready in {config.mode} mode: {address}", ""]
    if keys.operator is not None:
        lines.append(f"  operator key  {keys.operator}")
    if keys.demo is not None:
        body = '{"model": "sandbox", "messages": [{"role": "user", "content": "Hello"}]}'
        lines += [
            f"  demo key      {keys.demo}  (the organisation Demo, with credits)",
            "",
            "Try it:",
            "",
            f'curl {address}/v1/chat/completions -H "Authorization: Bearer {keys.demo}" '
            f"-H \"Content-Type: application/json\" -d '{body}'",
        ]
    lines += [
        "",
        f"In a browser: {address}/sign-up. A superadmin's account: tollhouse superadmin add <e-mail>.",
    ]
    if keys.operator is None and keys.demo is None:
        lines.append("  The keys were shown when the database was first used. A new one: tollhouse key create --help")
    return "\n".join([*lines, "", "Ctrl-C stops it."])
