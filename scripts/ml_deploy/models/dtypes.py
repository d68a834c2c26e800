"""numpy's dtypes: a state that lies about objects, offsets or sizes turns raw bytes of the file into addresses.

numpy believes `dtype.__setstate__`. So the state must be what numpy itself writes, must come right
after the dtype was made (before any array uses it), and nothing of it may change afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_deploy.models import arrays
from ml_deploy.models.states import Problem
from ml_deploy.models.stubs import Instance

_DTYPE = ("numpy", "dtype")
_TEXTS = ("_codecs", "encode")  # between a dtype and its state, in old protocols


class Dtypes:
    """Watches over the dtypes of one pickle."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Instance, int]] = {}
        self._sealed: dict[int, object] = {}
        self._others = 0
        self._tampered = False

    def made(self, instance: Instance) -> None:
        """An object was made: a dtype, or something that may use one."""
        if instance.of is not None and instance.of.key == _DTYPE:
            self._made[id(instance)] = (instance, self._others)
        elif instance.of is None or instance.of.key != _TEXTS:
            self._others += 1

    def changed(self, thing: dict[Any, Any]) -> None:
        """Something was put into a dictionary."""
        if self._sealed and id(thing) in self._sealed:
            self._tampered = True

    def built(self, target: Instance, state: Any) -> Iterator[Problem]:
        """A state was set: what is wrong with it if it is a dtype's, or only looks like one."""
        known = self._made.get(id(target))
        if self._tampered:
            yield "pickle-dtype", "numpy:dtype", "changes a dtype that is in use"
        if known is None:
            self._others += 1
            if target.of is None or _looks_like_one(state):
                yield "pickle-dtype", str(target.of), "sets the state of a dtype that is made in an unusual way"
            return
        late = known[1] != self._others or id(target) in self._sealed or target.built > 1
        problem = "comes after its use" if late else self._problem(target)
        if problem:
            yield "pickle-dtype", "numpy:dtype", f"sets a state of a dtype that numpy does not write: {problem}"

    def _problem(self, dtype: Instance) -> str:
        try:
            arrays.item_size(dtype)
        except arrays.Unsure as error:
            return str(error)
        fields = dtype.state[4]
        if isinstance(fields, dict):
            self._sealed[id(fields)] = fields
        for inner in arrays.inner_dtypes(dtype.state):
            self._sealed[id(inner)] = inner
        return ""


def _looks_like_one(state: Any) -> bool:
    return (
        isinstance(state, tuple)
        and len(state) in (7, 8, 9)
        and isinstance(state[0], int)
        and state[1] in ("<", ">", "|", "=")
    )
