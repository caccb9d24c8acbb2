"""A page whose blocks are run: shell blocks in one shell, Python blocks in one Python that has the shell's exports."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DONE = "the block is done, with"


@dataclass(frozen=True, slots=True)
class Block:
    """`line` is that of its first line; `kind` what stands behind the fence."""

    kind: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(page):
        yield Block(found[1], found[2], page.count("\n", 0, found.start(2)) + 1)


class Terminal:
    """One bash, so that what a block sets is there in the next. Leaving the context ends it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc"], env=dict(environment), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.run("set -uo pipefail; trap 'failed=1' ERR; set -E")

    def run(self, commands: str) -> str:
        """What they print. AssertionError when one of them fails."""
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(f"failed=0\n{commands}\necho; echo {_DONE} $failed\n")
        self._bash.stdin.flush()
        said = ""
        for line in self._bash.stdout:
            if line.startswith(_DONE):
                assert line.split()[-1] == "0", f"{commands}\n{said}"
                return said.removesuffix("\n")
            said += line
        raise AssertionError(f"the shell ended in\n{commands}\n{said}")

    def exported(self) -> dict[str, str]:
        pairs = self.run("env -0 | tr '\\n\\0' ' \\n'").splitlines()
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        self._bash.kill()
        self._bash.communicate()


@dataclass
class Reader:
    """Somebody who does what the page says. `placeholders` are what the page leaves to be filled in."""

    page: Path
    terminal: Terminal
    placeholders: Mapping[str, str]
    printed: str = ""
    _names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})

    def follow(self, block: Block) -> None:
        match block.kind:
            case "sh":
                self.printed = self.terminal.run(self._filled_in(block.text))
            case "python":
                self.printed = self._python(block)
            case "text":
                assert re.fullmatch(_pattern(block.text), self.printed), (
                    f"{self.page.name}:{block.line} says\n{block.text}and this was printed:\n{self.printed}"
                )
            case _:
                raise AssertionError(f"{self.page.name}:{block.line}: a block of the kind {block.kind!r} is not run")

    def _filled_in(self, text: str) -> str:
        for hole, filling in self.placeholders.items():
            text = text.replace(hole, filling)
        return text

    def _python(self, block: Block) -> str:
        os.environ.update(
            {
                name: text
                for name, text in self.terminal.exported().items()
                if name.startswith(("TOLLHOUSE_", "OPENAI_", "ANTHROPIC_"))
            }
        )
        code = compile("\n" * (block.line - 1) + self._filled_in(block.text), str(self.page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self._names)  # noqa: S102  # the page's own code
        return printed.getvalue()

    def close(self) -> None:
        """Ends the clients that a page leaves open, as the end of its Python would."""
        for one in self._names.values():
            if not isinstance(one, type) and callable(getattr(one, "close", None)):
                one.close()


def _pattern(text: str) -> str:
    """`...` stands for whatever is printed there, within its line."""
    return ".*".join(map(re.escape, text.split("...")))
