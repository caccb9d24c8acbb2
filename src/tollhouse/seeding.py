"""Seeding a database from the command line, and keeping the keys that seeding shows only once."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from tollhouse import data_directory
from tollhouse.config import Config
from tollhouse.flows.connection import Policy
from tollhouse.flows.seed import SeedInput, VendorConnectionInput, seed

KEYS = "keys.json"


@dataclass(frozen=True, slots=True)
class Keys:
    """What a person needs for a first call; None where it is not known (any more)."""

    operator: str | None = None
    demo: str | None = None


def seed_and_keep(config: Config, url: str, now: datetime) -> Keys:
    """Seeds the database, as often as one likes, and gives its keys: new ones, or in test mode those of an earlier run.

    In test mode they are kept in the data directory, readable by this user only; in live mode nowhere."""
    if config.mode == "test":
        data_directory.prepare(config.data_dir)  # first: keys that can't be kept should not be made
    given = config.operator_key.get_secret_value() if config.operator_key else None
    vendors = tuple(
        VendorConnectionInput(one.provider_id, one.base_url, one.key.get_secret_value() if one.key else None)
        for one in config.vendor_connections(os.environ)
    )
    policy = Policy(config.keyring(), config.mode, config.allow_private_providers)
    wanted = SeedInput(policy, given, vendors)
    seeded = asyncio.run(seed(url, wanted, now))
    new = Keys(seeded.operator_key, seeded.demo_key)
    if config.mode == "live":
        return new
    path, database = config.data_dir / KEYS, _name(config)
    kept = _read(path)
    old = kept.get(database, Keys())
    keys = Keys(given or new.operator or old.operator, new.demo or old.demo)
    if keys != old:
        kept[database] = keys
        data_directory.write_private(
            path, json.dumps({name: asdict(one) for name, one in kept.items()}, indent=2) + "\n"
        )
    return keys


def _name(config: Config) -> str:
    """The database the keys belong to, in words without its password."""
    if config.database_url is None:
        return "embedded"
    parts = conninfo_to_dict(config.database_url)
    return f"{parts.get('host', '')}:{parts.get('port', '')}/{parts.get('dbname', '')}"


def _read(path: Path) -> dict[str, Keys]:
    with suppress(FileNotFoundError, ValueError, TypeError, AttributeError):
        return {name: Keys(**one) for name, one in json.loads(path.read_text()).items()}
    return {}
