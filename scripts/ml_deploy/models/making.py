"""How the inert unpickler makes objects: calls and states are noted, and judged where their arguments matter."""

from __future__ import annotations

from typing import Any

from ml_deploy.models import kdtrees, states
from ml_deploy.models.dtypes import Dtypes
from ml_deploy.models.source import Source
from ml_deploy.models.stubs import Blob, Instance, Name, TextBlob
from ml_deploy.models.uses import ARGUMENTS, CALLERS, GETATTR, MAKERS, READERS, Oddity, Use

_WITH_STATE = ("torch._utils", "_rebuild_parameter_with_state")
_LOAD_FROM_BYTES = ("torch.storage", "_load_from_bytes")
_ENCODE = ("_codecs", "encode")
_SPECIAL = {GETATTR, *MAKERS, *CALLERS, _WITH_STATE, _LOAD_FROM_BYTES}  # calls that do more than give an object


class Making:
    """The half of the unpickler that is about globals, calls and states; the opcodes are in `unpickler`."""

    stack: list[Any]
    append: Any

    def __init__(self, source: Source) -> None:
        self.source = source
        self.uses: dict[tuple[str, str], Use] = {}
        self.oddities: dict[tuple[str, str], Oddity] = {}
        self.dtypes = Dtypes()
        self.nested: list[Blob | bytes] = []
        self.trees: list[kdtrees.Nodes] = []

    def named(self, key: tuple[str, str], raw: tuple[str, str]) -> Name:
        """The stub of a global, noted when it is new."""
        use = self.uses.get(key)
        if use is None:
            use = self.uses[key] = Use(Name(*key), raw, self.source.tell() - 1)
        return use.name

    def odd(self, rule: str, construct: str, message: str) -> None:
        """Note what no ordinary pickler writes."""
        self.oddities.setdefault((rule, construct), Oddity(rule, construct, message, self.source.tell() - 1))

    def load_reduce(self) -> None:
        """REDUCE: a call."""
        args = self.stack.pop()
        if not isinstance(args, tuple):
            raise TypeError("arguments that are no tuple")
        self.stack[-1] = self._call(self.stack[-1], args)

    def _instantiate(self, klass: Any, args: list[Any]) -> None:
        self.append(self._call(klass, tuple(args)))

    def _call(self, function: Any, args: tuple[Any, ...]) -> Any:
        if not isinstance(function, Name):
            return self._call_object(function, args)
        key = function.key
        if key not in _SPECIAL and function.name != "newObj":
            self._note(function, "called", args)
            return self._made(Instance(function, args))
        if key == GETATTR and len(args) == 2:
            return self._attribute(function, *args)
        if (key in MAKERS or function.name == "newObj") and args:
            self._note(function, "called", args)
            self._base(function, args)
            return self.make(args[0], _arguments(function, args))
        self._note(function, "called", args)
        if key in CALLERS:
            return self._through(function, args)
        if key == _WITH_STATE and len(args) > 3:
            self._set_state(Instance(function, args), args[3])
        if key == _LOAD_FROM_BYTES:
            self._inner_file(function, args)
        return self._made(Instance(function, args))

    def _inner_file(self, function: Name, args: tuple[Any, ...]) -> None:
        """`torch.load` of bytes: they are kept to be judged as a file of torch's. Bytes of another making cannot be."""
        data = _bytes_of(args[0]) if len(args) == 1 else None
        if data is None:
            self.odd("pickle-arguments", str(function), "loads a second file, from bytes that cannot be told before")
        else:
            self.nested.append(data)

    def _call_object(self, function: Any, args: tuple[Any, ...]) -> Instance:
        if not isinstance(function, Instance):
            raise TypeError(f"a call of {type(function).__name__}")
        self.odd(
            "pickle-call-of-object", str(function.of or "an object"), "calls an object that was made while loading"
        )
        return Instance(None, args)

    def _attribute(self, getattr_: Name, thing: Any, name: Any) -> Any:
        """`getattr` is a name with a dot in it (as STACK_GLOBAL writes it): exact ones are known, the rest is denied."""
        of = thing.of if isinstance(thing, Instance) else thing
        if not isinstance(of, Name) or not isinstance(name, str):
            self._note(getattr_, "called", (thing, name))
            return Instance(None, (thing, name))
        key = (of.module, f"{of.name}.{name}")
        self.uses[GETATTR].mentions -= 1
        return self.named(key, key)

    def _through(self, function: Name, args: tuple[Any, ...]) -> Any:
        """A function that calls one of its arguments, and gives the result a state."""
        at = CALLERS[function.key]
        if len(args) <= max(at.function, at.arguments) or not isinstance(args[at.arguments], tuple):
            raise TypeError("a call of a function without arguments")
        made = self._call(args[at.function], args[at.arguments])
        for state in args[at.state : at.state + 2]:  # dill has two, a state and attributes
            if isinstance(made, Instance) and state is not None:
                self._set_state(made, state)
        return made

    def _base(self, maker: Name, args: tuple[Any, ...]) -> None:
        """`_reconstructor(cls, base, state)` runs the base's `__init__` with the state, unless it is object's."""
        if maker.name == "_reconstructor" and len(args) > 1:
            if not isinstance(args[1], Name):
                raise TypeError("a base that is no class")
            if args[1].key != ("builtins", "object"):
                self._note(args[1], "called", args[2:])

    def load_newobj(self) -> None:
        """NEWOBJ: an object made by `__new__`, without its `__init__`."""
        args = self.stack.pop()
        self.append(self.make(self.stack.pop(), tuple(args)))

    def load_newobj_ex(self) -> None:
        """NEWOBJ_EX: the same with keyword arguments."""
        keywords = self.stack.pop()
        args = self.stack.pop()
        self.append(self.make(self.stack.pop(), (*args, *dict(keywords).values())))

    def make(self, cls: Any, args: tuple[Any, ...]) -> Instance:
        """What `cls.__new__(cls, *args)` would give."""
        if not isinstance(cls, Name):
            if not isinstance(cls, Instance):
                raise TypeError(f"an object of {type(cls).__name__}")
            self.odd(
                "pickle-call-of-object", str(cls.of or "an object"), "makes an object of a class made while loading"
            )
            return Instance(None, args)
        self._note(cls, "made", args)
        if cls.key in READERS:
            self.uses[cls.key].mentions -= 1
        return self._made(Instance(cls, args))

    def _made(self, instance: Instance) -> Instance:
        self.dtypes.made(instance)
        return instance

    def _note(self, name: Name, how: str, args: tuple[Any, ...]) -> None:
        use = self.uses[name.key]
        if getattr(use, how) < 0:
            setattr(use, how, self.source.tell() - 1)
        rule, judge = ARGUMENTS.get(name.key, ("", None))
        problem = judge(args) if judge else ""
        if problem:
            self.odd(rule, str(name), problem)

    def load_build(self) -> None:
        """BUILD: state for an object."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Name):
            self.uses[target.key].assigned = self.source.tell() - 1
            return
        if not isinstance(target, Instance):
            raise TypeError(f"state for {type(target).__name__}")
        self._set_state(target, state)
        self.stated(target)

    def stated(self, target: Instance) -> None:
        """Called whenever an object got state; for subclasses."""

    def _set_state(self, target: Instance, state: Any) -> None:
        target.built += 1
        parts = states.parts(state)
        kept = dict(target.state) if isinstance(target.state, dict) else {}
        for part in parts:
            if isinstance(part, dict):
                kept.update(part)
        target.state = kept if any(isinstance(part, dict) for part in parts) else state
        nodes = kdtrees.nodes_of(target, state)
        if nodes is not None:
            self.trees.append(nodes)
        for rule, construct, message in (*states.problems(target, state), *self.dtypes.built(target, state)):
            self.odd(rule, construct, message)


def _bytes_of(thing: Any) -> Blob | bytes | None:
    """Bytes as picklers write them: as they are or, before protocol 3, as a text to be encoded; None for all others.

    A bytearray is not among them: later opcodes could change it.
    """
    if isinstance(thing, bytes) or (isinstance(thing, Blob) and not isinstance(thing, TextBlob)):
        return thing
    if not isinstance(thing, Instance) or thing.of is None or thing.of.key != _ENCODE or len(thing.args) != 2:
        return None
    text, codec = thing.args
    if isinstance(text, str) and codec == "latin1":
        return text.encode("latin1")
    return text if isinstance(text, TextBlob) and codec == "latin1" else None


def _arguments(maker: Name, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the maker hands to `__new__`."""
    if maker.name != "__newobj_ex__":
        return args[1:]
    if len(args) != 3 or not isinstance(args[1], tuple) or not isinstance(args[2], dict):
        raise TypeError("arguments that are no tuple")
    return (*args[1], *args[2].values())
