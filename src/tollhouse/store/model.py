"""What people are told of the models of the catalogue, to choose by."""

from typing import Any

from tollhouse.core.shelf import Metadata
from tollhouse.store.db import TenantTx


async def metadata(tx: TenantTx) -> dict[str, Metadata]:
    """By model, of those that may be chosen. What operators wrote into the catalogue is taken as far as it makes
    sense."""
    cursor = await tx.execute(
        """SELECT m.id, m.description, p.name, m.context_window, m.metadata
           FROM model m JOIN provider p ON p.id = m.provider_id WHERE m.enabled AND m.selectable"""
    )
    return {
        id_: Metadata(
            description=description,
            provider=provider,
            speed=_text(said.get("speed")),
            quality=_text(said.get("quality")),
            context_window=context_window,
            cost_per_1m_tokens=_number(said.get("cost_per_1m_tokens")),
            best_for=_texts(said.get("best_for")),
        )
        for id_, description, provider, context_window, said in await cursor.fetchall()
        if isinstance(said, dict)
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


async def context_window(tx: TenantTx, model_id: str) -> int:
    """The tokens that the model can read and write at once. Of one that is chosen later ("auto") it is the smallest of
    all that can be."""
    cursor = await tx.execute(
        """SELECT coalesce(
               (SELECT context_window FROM model WHERE id = %(id)s),
               (SELECT context_window FROM own_model WHERE 'own/' || id = %(id)s),
               (SELECT min(context_window) FROM model WHERE enabled AND selectable AND kind = 'chat'), 8192)""",
        {"id": model_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])
