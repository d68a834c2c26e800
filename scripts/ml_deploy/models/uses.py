"""What a pickle does with globals, as the unpickler notes it and `globals_` judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ml_deploy.models.stubs import Name

#: Functions of `copyreg` and the like that make an object of the class in their first argument, without calling it.
MAKERS = {("copyreg", "_reconstructor"), ("copyreg", "__newobj__"), ("copyreg", "__newobj_ex__")}


def _only_latin1(args: tuple[Any, ...]) -> str:
    return "" if len(args) == 2 and args[1] in ("latin1", "latin-1") else "is called with a codec other than latin1"


#: Calls that are harmless with some arguments only: a judge of the arguments says what is wrong with them.
ARGUMENTS: dict[tuple[str, str], Callable[[tuple[Any, ...]], str]] = {
    ("_codecs", "encode"): _only_latin1,
}


@dataclass
class Use:
    """How a pickle uses one global. Offsets are of the first time; -1 is never."""

    name: Name
    raw: tuple[str, str]
    offset: int
    called: int = -1
    made: int = -1
    assigned: int = -1


@dataclass
class Oddity:
    """Something that no ordinary pickler writes."""

    rule: str
    construct: str
    message: str
    offset: int
