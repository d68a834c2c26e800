"""What the inert unpickler puts where a real one would put classes, functions, objects and large blobs.

Nothing here does anything: a stub only remembers what the file said of it.
"""

from __future__ import annotations

from typing import Any


class Name:
    """A global that the file asks for: a class, a function, anything importable."""

    __slots__ = ("key", "module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name
        self.key = (module, name)

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


class Instance:
    """What a call, or the making of an object, would have given."""

    __slots__ = ("args", "built", "of", "state")

    def __init__(self, of: Name | None, args: tuple[Any, ...] = ()) -> None:
        self.of = of
        self.args = args
        self.state: Any = None
        self.built = 0

    def attribute(self, name: str) -> Any:
        """An attribute that the file's state gives the object; None where it does not."""
        return self.state.get(name) if isinstance(self.state, dict) else None


class Blob:
    """A long string of bytes or text that was skipped."""

    __slots__ = ("length", "offset")

    def __init__(self, length: int, offset: int) -> None:
        self.length = length
        self.offset = offset


class TextBlob(Blob):
    """Of them a text in UTF-8."""

    __slots__ = ()


class SmallList(list[Any]):
    """A list that keeps only its first items: no opcode ever reads from a list."""

    limit = 4096
    total = 0

    def keep(self, items: list[Any]) -> None:
        """Append items as far as there is room, and count them all."""
        self.total += len(items)
        room = self.limit - len(self)
        if room > 0:
            self.extend(items[:room])
