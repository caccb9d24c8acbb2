"""The database of the tests: one embedded PostgreSQL per test process, as it runs in production except for its size
and for where its files are, and a fresh copy of a migrated and seeded database for every test that asks for one."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from tests.web.browser import chromium, chromium_address, window
from tollhouse import migrations
from tollhouse.core.vault import Keyring
from tollhouse.embedded import OWNER, SUPERUSER, EmbeddedPostgres
from tollhouse.flows.connection import Policy
from tollhouse.flows.seed import SeedInput, seed

__all__ = ["chromium", "chromium_address", "window"]  # fixtures for all tests of pages

SMALL = {"shared_buffers": "32MB", "max_connections": "60", "min_wal_size": "32MB", "max_wal_size": "128MB"}
TEMPLATE = "seeded_template"
MEMORY, MEMORY_MIN = Path("/dev/shm"), 4 << 30
TEST_SECRET = b"a secret that only the tests know"
TEST_POLICY = Policy(Keyring(TEST_SECRET), "test")

# How long an example takes depends on who else is busy here.
settings.register_profile("tollhouse", deadline=None)
settings.load_profile("tollhouse")

_numbers = itertools.count(1)


@contextmanager
def private_folder(within: Path | None = None) -> Iterator[Path]:
    """A folder that the server's user reaches, which pytest's own tmp_path is not when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="tollhouse-test-", dir=within))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory of the test's own, not made yet."""
    with private_folder() as folder:
        yield folder / "data"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The running server of this test process."""

    postgres: EmbeddedPostgres

    def superuser(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.postgres.url("postgres", SUPERUSER), autocommit=True)

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """A new database, gone afterwards whoever is still connected. Yields the owner's URL."""
        name = f"test_{next(_numbers)}"
        names = [sql.Identifier(part) for part in (name, template, OWNER)]
        with self.superuser() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*names))
        try:
            yield self.postgres.url(name)
        finally:
            with self.superuser() as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(names[0]))


def _in_memory() -> Path | None:
    """Where files are made and dropped quickest, which is what most of the time of a test with a database of its own
    goes into; None where there is no such folder, or a small one, as in containers."""
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < MEMORY_MIN:
        return None
    return MEMORY


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with private_folder(_in_memory()) as folder:
        postgres = EmbeddedPostgres(folder / "data", SMALL)
        postgres.start()
        try:
            yield Cluster(postgres)
        finally:
            postgres.stop()


@pytest.fixture
def empty_database_url(cluster: Cluster) -> Iterator[str]:
    """The owner's URL of a database with nothing in it."""
    with cluster.database() as url:
        yield url


@pytest.fixture
def make_database(cluster: Cluster) -> Iterator[Callable[[], str]]:
    """Makes further empty databases for one test."""
    open_databases = []

    def make() -> str:
        database = cluster.database()
        open_databases.append(database)
        return database.__enter__()

    yield make
    for database in open_databases:
        database.__exit__(None, None, None)


@dataclass(frozen=True, slots=True)
class SeededTemplate:
    name: str
    operator_key: str
    demo_key: str


@pytest.fixture(scope="session")
def seeded_template(cluster: Cluster) -> SeededTemplate:
    """A database migrated to the head and seeded in test mode, from which the tests' own are copied."""
    with cluster.superuser() as connection:
        names = sql.Identifier(TEMPLATE), sql.Identifier(OWNER)
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
    url = cluster.postgres.url(TEMPLATE)
    migrations.upgrade(url)
    seeded = asyncio.run(seed(url, SeedInput(TEST_POLICY, operator_key=None, vendor_connections=()), datetime.now(UTC)))
    assert seeded.operator_key is not None
    assert seeded.demo_key is not None
    return SeededTemplate(TEMPLATE, seeded.operator_key, seeded.demo_key)


@pytest.fixture
def database_url(cluster: Cluster, seeded_template: SeededTemplate) -> Iterator[str]:
    """The owner's URL of a migrated and seeded database that only this test uses."""
    with cluster.database(seeded_template.name) as url:
        yield url
