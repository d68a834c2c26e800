"""What a pickle does with globals, as the unpickler notes it and `globals_` judges it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ml_deploy.models import arrays
from ml_deploy.models.stubs import Instance, Name

#: Written by picklers for methods; each call of it is judged as a name with a dot in it.
GETATTR = ("builtins", "getattr")
#: Classes whose constructors read files: objects of them are made without, so they are not handed on to what might call them.
READERS = {("xgboost.core", "Booster"), ("lightgbm.basic", "Booster")}
COUNTED = {GETATTR, *READERS}
#: Functions of `copyreg` and the like that make an object of the class in their first argument, without calling it.
MAKERS = {("copyreg", "_reconstructor"), ("copyreg", "__newobj__"), ("copyreg", "__newobj_ex__")}


def _only_latin1(args: tuple[Any, ...]) -> str:
    return "" if len(args) == 2 and args[1] in ("latin1", "latin-1") else "is called with a codec other than latin1"


def _no_objects(args: tuple[Any, ...]) -> str:
    """`dict(x)` runs `x.keys`, `list(x)` and `str(x)` run methods of x; picklers write them with plain values only."""
    odd = [arg for arg in args if isinstance(arg, Instance) and (arg.of is None or arg.of.key not in _PLAIN)]
    return "is called with an object, whose methods it would run" if odd else ""


def _no_sizes(args: tuple[Any, ...]) -> str:
    """`bytearray(n)` has n bytes that no file holds; picklers write it with bytes."""
    sized = any(isinstance(arg, int) and not isinstance(arg, bool) for arg in args)
    return "is called with a size instead of bytes" if sized else _no_objects(args)


def _plain_fraction(args: tuple[Any, ...]) -> str:
    """`Fraction("1e999999999")` computes for hours."""
    usual = all(isinstance(arg, int) or (isinstance(arg, str) and _FRACTION.fullmatch(arg)) for arg in args)
    return "" if usual else "is called with something that is no plain fraction"


def _no_buffer(args: tuple[Any, ...]) -> str:
    """`ndarray(shape, dtype, buffer)` takes the bytes of a buffer for addresses of objects."""
    usual = not args or (len(args) <= 2 and isinstance(args[0], tuple))
    return "" if usual else "is made over bytes of the file, which could stand for addresses of objects"


def _no_object_scalar(args: tuple[Any, ...]) -> str:
    try:
        return "is called for a dtype of objects" if args and arrays.item_size(args[0])[1] else ""
    except arrays.Unsure as error:
        return f"is called for a strange dtype ({error})"


def _class_of(*modules: str) -> Callable[[tuple[Any, ...]], str]:
    """The first argument is a class that the function makes an object of."""

    def judge(args: tuple[Any, ...]) -> str:
        usual = args and (
            isinstance(args[0], str) or (isinstance(args[0], Name) and f"{args[0].module}.".startswith(modules))
        )
        return "" if usual else "is called with a class that is none of its library's"

    return judge


def _own_constructor(args: tuple[Any, ...]) -> str:
    """`__generator_ctor(name, constructor)` calls the constructor."""
    usual = len(args) < 2 or (
        isinstance(args[1], Name) and args[1].key == ("numpy.random._pickle", "__bit_generator_ctor")
    )
    return "" if usual else "is called with a constructor that is not numpy's own"


_FRACTION = re.compile(r"-?\d+(/\d+)?")
_PLAIN = {("_codecs", "encode"), ("builtins", "bytearray"), ("builtins", "bytes")}
_EATERS = {
    "builtins": ("bool", "complex", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"),
    "collections": ("Counter", "OrderedDict", "defaultdict", "deque"), "decimal": ("Decimal",), "types": ("SimpleNamespace",),
    "array": ("array",), "numpy": (
        "bool", "bool_", "bytes_", "complex128", "complex64", "datetime64", "float16", "float32", "float64", "int16", "int32", "int64",
        "int8", "longdouble", "object_", "str_", "timedelta64", "uint16", "uint32", "uint64", "uint8", "void", "intc", "longlong"),
}  # fmt: skip
_ARRAYS = (("numpy", "ndarray"), ("numpy", "recarray"), ("numpy.rec", "recarray"), ("numpy", "matrix"),
           ("numpy.matrixlib.defmatrix", "matrix"), ("numpy.ma", "MaskedArray"), ("numpy.ma.core", "MaskedArray"),
           ("numpy.ma", "mrecords"), ("numpy", "chararray"), ("numpy.char", "chararray"))  # fmt: skip
Judge = Callable[[tuple[Any, ...]], str]
#: Calls that are harmless with some arguments only: a rule, and a judge of the arguments that says what is wrong with them.
ARGUMENTS: dict[tuple[str, str], tuple[str, Judge]] = {
    ("_codecs", "encode"): ("pickle-arguments", _only_latin1),
    **{(module, name): ("pickle-object-argument", _no_objects) for module, names in _EATERS.items() for name in names},
    ("builtins", "bytes"): ("pickle-object-argument", _no_sizes), ("builtins", "bytearray"): ("pickle-object-argument", _no_sizes),
    ("fractions", "Fraction"): ("pickle-object-argument", _plain_fraction),
    **dict.fromkeys(_ARRAYS, ("pickle-arguments", _no_buffer)),
    **{(f"{core}.multiarray", "scalar"): ("pickle-arguments", _no_object_scalar) for core in ("numpy.core", "numpy._core")},
    **{("pandas.core.indexes." + module, name): ("pickle-arguments", _class_of("pandas.")) for module, name in (
        ("base", "_new_Index"), ("datetimes", "_new_DatetimeIndex"), ("period", "_new_PeriodIndex"),
        ("timedeltas", "_new_TimedeltaIndex"))},
    ("numpy.random._pickle", "__bit_generator_ctor"): ("pickle-arguments", _class_of("numpy.random.")),
    ("numpy.random._pickle", "__generator_ctor"): ("pickle-arguments", _own_constructor),
    ("numpy.random._pickle", "__randomstate_ctor"): ("pickle-arguments", _own_constructor),
}  # fmt: skip


@dataclass(frozen=True)
class Caller:
    """Where among its arguments a function has the function that it calls, that one's arguments, and the result's state."""

    function: int
    arguments: int
    state: int


#: Functions that call one of their arguments.
CALLERS = {
    ("dill._dill", "_create_array"): Caller(0, 1, 2),
    ("torch._tensor", "_rebuild_from_type_v2"): Caller(0, 2, 3),
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
    mentions: int = 0  # of COUNTED only: how often it was put on the stack, less what is judged otherwise


@dataclass
class Oddity:
    """Something that no ordinary pickler writes."""

    rule: str
    construct: str
    message: str
    offset: int
