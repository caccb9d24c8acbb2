"""What only OpenAI's own client asks for: the responses API, embeddings, the list of models."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.clients.contract import BROKEN_AFTER, REFUSALS, ROOT, Turn, python, take_turn
from tests.clients.watcher import Watcher
from tests.house import House, charge, micros

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMBEDDED = "text-embedding-3-small"
