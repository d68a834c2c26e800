"""Files that act when they are loaded: each touches a marker file, and each is proven to before the linter sees it.

Written opcode by opcode, so that nothing here depends on what the test's Python would write.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Loaders as programs: sys.argv[1] is the file. What they raise does not matter, what they touched does.
LOADERS = {
    "pickle": "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))",
    "twice": "import pickle, sys; f = open(sys.argv[1], 'rb'); pickle.load(f); pickle.load(f)",
    "joblib": "import joblib, sys; joblib.load(sys.argv[1])",
    "torch": "import sys, torch; torch.load(sys.argv[1], weights_only=False)",
    "torch-string": "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))",
    "skops": "import skops.io, sys; skops.io.load(sys.argv[1], trusted=skops.io.get_untrusted_types(file=sys.argv[1]))",
    "tables": "import sys, tables; tables.open_file(sys.argv[1]).root._v_attrs.evil",
    "extension": "import copyreg, pickle, sys; copyreg.add_extension('os', 'system', 7); pickle.load(open(sys.argv[1], 'rb'))",
}


@dataclass(frozen=True)
class Payload:
    """A kind of attack: how the file is made from the marker's path, and by which loader it is opened."""

    name: str
    make: Callable[[str], bytes]
    loader: str = "pickle"
    module: str = ""


def value(thing: Any) -> bytes:
    """Opcodes that put a plain value on the stack, without touching the memo."""
    if isinstance(thing, tuple):
        return b"(" + b"".join(value(item) for item in thing) + b"t"
    if isinstance(thing, str):
        return b"X" + struct.pack("<I", len(thing.encode())) + thing.encode()
    if isinstance(thing, bytes):
        return b"B" + struct.pack("<I", len(thing)) + thing
    if isinstance(thing, dict):
        return b"}" + b"".join(value(k) + value(v) + b"s" for k, v in thing.items())
    if isinstance(thing, list):
        return b"]" + b"".join(value(item) + b"a" for item in thing)
    if isinstance(thing, Raw):
        return thing.data
    return pickle.dumps(thing, protocol=2)[2:-1]


@dataclass(frozen=True)
class Raw:
    """Opcodes that stand where a value stands."""

    data: bytes


def named(module: str, name: str) -> Raw:
    """A global, by STACK_GLOBAL."""
    return Raw(value(module) + value(name) + b"\x93")


def call(module: str, name: str, *args: Any) -> Raw:
    """A call of a global."""
    return Raw(named(module, name).data + value(args) + b"R")


def file(*things: Any) -> bytes:
    """A pickle of protocol 4; everything but the last thing is dropped from the stack."""
    return b"\x80\x04" + b"0".join(value(thing) for thing in things) + b"."


def _calls(module: str, name: str, *args: str | Any) -> Callable[[str], bytes]:
    def make(marker: str) -> bytes:
        return file(call(module, name, *(_fill(arg, marker) for arg in args)))

    return make


def _fill(arg: Any, marker: str) -> Any:
    if isinstance(arg, str):
        return arg.replace("MARKER", marker)
    return [_fill(item, marker) for item in arg] if isinstance(arg, list) else arg


def touch(marker: str) -> Raw:
    """A call that touches the marker."""
    return call("posix", "system", f"touch {marker}")


PYTHON = "open('MARKER', 'w')"

_CALLED: list[tuple[str, str, tuple[Any, ...]]] = [
    ("posix", "system", ("touch MARKER",)),
    ("os", "system", ("touch MARKER",)),
    ("os", "popen", ("touch MARKER; sleep 0.1",)),
    ("os", "mkdir", ("MARKER",)),
    ("posix", "mkdir", ("MARKER",)),
    ("os", "spawnlp", (0, "touch", "touch", "MARKER")),
    ("subprocess", "call", (["touch", "MARKER"],)),
    ("subprocess", "check_output", (["touch", "MARKER"],)),
    ("subprocess", "getoutput", ("touch MARKER",)),
    ("subprocess", "run", (["touch", "MARKER"],)),
    ("builtins", "eval", (PYTHON,)),
    ("builtins", "exec", (PYTHON,)),
    ("builtins", "open", ("MARKER", "w")),
    ("io", "open", ("MARKER", "w")),
    ("_io", "FileIO", ("MARKER", "w")),
    ("codecs", "open", ("MARKER", "w")),
    ("timeit", "timeit", (PYTHON, "pass", named("time", "perf_counter"), 1)),
    ("cProfile", "run", (PYTHON,)),
    ("profile", "run", (PYTHON,)),
    ("runpy", "run_path", ("SCRIPT",)),
    ("pydoc", "pipepager", ("", "touch MARKER")),
    ("pty", "spawn", (["touch", "MARKER"],)),
    ("shutil", "copyfile", ("/etc/hostname", "MARKER")),
    ("logging", "FileHandler", ("MARKER",)),
    ("sqlite3", "connect", ("MARKER",)),
    ("tempfile", "mkdtemp", ("", "MARKER", "/")),
    ("zipfile", "ZipFile", ("MARKER", "w")),
    ("tarfile", "open", ("MARKER", "w")),
    ("gzip", "open", ("MARKER", "w")),
    ("dbm.dumb", "open", ("MARKER", "n")),
    ("urllib.request", "urlretrieve", ("file:///etc/hostname", "MARKER")),
    ("distutils.file_util", "write_file", ("MARKER", ["x"])),
    ("distutils.spawn", "spawn", (["touch", "MARKER"],)),
    ("imaplib", "IMAP4_stream", ("touch MARKER",)),
    ("uuid", "_get_command_stdout", ("touch", "MARKER")),
    ("_osx_support", "_read_output", ("touch MARKER",)),
    ("multiprocessing.util", "spawnv_passfds", (b"/usr/bin/touch", ["touch", "MARKER"], [])),
    ("numpy", "memmap", ("MARKER", "uint8", "w+", 0, 8)),
    ("numpy", "save", ("MARKER", 1)),
    ("numpy.testing._private.utils", "runstring", (PYTHON, {})),
    ("numpy.f2py.crackfortran", "myeval", (PYTHON,)),
    ("joblib", "dump", (1, "MARKER")),
    ("joblib.memory", "Memory", ("MARKER",)),
    ("sklearn.datasets._base", "get_data_home", ("MARKER",)),
    ("scipy.io", "savemat", ("MARKER", {})),
]  # fmt: skip
CALLS = [
    Payload(f"{module}.{name}", _calls(module, name, *args), module=module.split(".")[0])
    for module, name, args in _CALLED
]  # fmt: skip


def protocol_0(marker: str) -> bytes:
    """Text opcodes only."""
    return b"cposix\nsystem\n(S'touch " + marker.encode() + b"'\ntR."


def inst(marker: str) -> bytes:
    """INST: import and call in one opcode."""
    return b"(S'touch " + marker.encode() + b"'\niposix\nsystem\n."


def obj(marker: str) -> bytes:
    """OBJ: the class lies below its arguments."""
    return b"(cposix\nsystem\nS'touch " + marker.encode() + b"'\no."


def python_2_names(marker: str) -> bytes:
    """Names of Python 2 that CPython maps when the protocol is below 3."""
    return b"\x80\x02c__builtin__\neval\n(X" + _sized(f"open({marker!r}, 'w')") + b"tR."


def _sized(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def memo_names(marker: str) -> bytes:
    """Module and name put into the memo first, far from where they are used, among others."""
    names = b"".join(value(name) + b"\x940" for name in ("numpy", "system", "dtype", "posix"))
    return b"\x80\x04" + names + b"h\x03h\x01\x93" + value((f"touch {marker}",)) + b"R."


def dup_and_pop(marker: str) -> bytes:
    """The name arrives by DUP, after a harmless one was dropped."""
    opcodes = value("posix") + value("system") + b"2" + b"0" + b"\x93"
    return b"\x80\x04" + value("numpy") + b"0" + opcodes + value((f"touch {marker}",)) + b"R."


def after_a_million_opcodes(marker: str) -> bytes:
    """A scanner that gives up early sees nothing."""
    return b"\x80\x04" + b"N0" * 600_000 + touch(marker).data + b"."


def after_a_blob(marker: str) -> bytes:
    """Behind a large string of bytes."""
    return b"\x80\x04" + value(b"\0" * 3_000_000) + b"0" + touch(marker).data + b"."


def in_a_frame(marker: str) -> bytes:
    """In a frame, as protocol 4 writes them."""
    inner = touch(marker).data + b"."
    return b"\x80\x04\x95" + struct.pack("<Q", len(inner)) + inner


def broken_afterwards(marker: str) -> bytes:
    """What follows the payload is no pickle (nullifAI)."""
    return b"\x80\x04" + touch(marker).data + b"\xff\xfe broken"


def cut_off(marker: str) -> bytes:
    """No STOP."""
    return b"\x80\x04" + touch(marker).data


def with_a_wrong_protocol_later(marker: str) -> bytes:
    """A second PROTO opcode in the middle."""
    return b"\x80\x04" + value(1) + b"0\x80\x02cposix\nsystem\n" + value((f"touch {marker}",)) + b"R."


def second_stream(marker: str) -> bytes:
    """A harmless pickle first; the loader loads twice."""
    return pickle.dumps({"weights": [1, 2, 3]}) + file(touch(marker))


def getattr_chain(marker: str) -> bytes:
    """`getattr(__import__('os'), 'system')` and a call of what it gives."""
    system = call("builtins", "getattr", call("builtins", "__import__", "os"), "system")
    return file(Raw(system.data + value((f"touch {marker}",)) + b"R"))


def dotted(marker: str) -> bytes:
    """Through an attribute of a module that models are allowed to name."""
    return file(call("joblib.numpy_pickle", "os.system", f"touch {marker}"))


def module_as_attribute(marker: str) -> bytes:
    """A module that another one has imported, then a function of it by `operator.attrgetter`."""
    system = Raw(call("operator", "attrgetter", "system").data + value((named("joblib.numpy_pickle", "os"),)) + b"R")
    return file(Raw(system.data + value((f"touch {marker}",)) + b"R"))


def partial(marker: str) -> bytes:
    """`functools.partial`, called."""
    made = call("functools", "partial", named("posix", "system"), f"touch {marker}")
    return file(Raw(made.data + b")R"))


def map_consumed(marker: str) -> bytes:
    """`bytes(map(...))` runs the function for its items."""
    return file(call("builtins", "bytes", call("builtins", "map", named("posix", "system"), [f"touch {marker}"])))


def starmap(marker: str) -> bytes:
    """The same through itertools and a container that is allowed."""
    mapped = call("itertools", "starmap", named("posix", "system"), [(f"touch {marker}",)])
    return file(call("collections", "deque", mapped))


def defaultdict_item(marker: str) -> bytes:
    """A factory that is called for a missing key."""
    made = call("collections", "defaultdict", call("functools", "partial", named("posix", "system"), f"touch {marker}"))
    return file(call("operator", "getitem", made, "missing"))


def generator_constructor(marker: str) -> bytes:
    """numpy's helper calls whatever it is given as a constructor."""
    return file(call("numpy.random._pickle", "__generator_ctor", f"touch {marker}", named("posix", "system")))


def ufunc_reconstruct(marker: str) -> bytes:
    """numpy's helper imports whatever it is told."""
    system = call("numpy.core", "_ufunc_reconstruct", "os", "system")
    return file(Raw(system.data + value((f"touch {marker}",)) + b"R"))


def resolve_name(marker: str) -> bytes:
    """The universal bypass of block-lists (GHSA-vvpj)."""
    system = call("pkgutil", "resolve_name", "os:system")
    return file(Raw(system.data + value((f"touch {marker}",)) + b"R"))


def import_module(marker: str) -> bytes:
    """importlib, then methodcaller."""
    caller = call("operator", "methodcaller", "system", f"touch {marker}")
    return file(Raw(caller.data + value((call("importlib", "import_module", "os"),)) + b"R"))


def setattr_on_class(marker: str) -> bytes:
    """BUILD on a class: its method is replaced, and a later object calls it."""
    change = named("collections", "UserDict").data + b"(N" + value({"__setstate__": named("posix", "system")}) + b"tb0"
    return b"\x80\x04" + change + named("collections", "UserDict").data + b")\x81" + value(f"touch {marker}") + b"b."


def scipy_distribution(marker: str) -> bytes:
    """scipy's distributions run `exec` on a string of their state."""
    made = named("scipy.stats._continuous_distns", "norm_gen").data + b")\x81"
    return b"\x80\x04" + made + value({"_parse_arg_template": f"open({marker!r}, 'w')"}) + b"b."


def nested_pickle(marker: str) -> bytes:
    """A pickle in a string of bytes."""
    return file(call("pickle", "loads", file(touch(marker))))


def code_object(marker: str) -> bytes:
    """A function from marshalled code."""
    import marshal

    code = marshal.dumps(compile(f"open({marker!r}, 'w')", "model", "exec"))
    function = call(
        "types", "FunctionType", call("marshal", "loads", code), {"__builtins__": named("builtins", "__dict__")}
    )
    return file(Raw(function.data + b")R"))


def cloudpickled(marker: str) -> bytes:
    """cloudpickle takes functions of `__main__` with their code."""
    import cloudpickle

    class Estimator:
        def __reduce__(self) -> Any:
            return (lambda: open(marker, "w").close()), ()

    data: bytes = cloudpickle.dumps(Estimator())
    return data


def extension(marker: str) -> bytes:
    """EXT1: a name that only the loading process knows."""
    return b"\x80\x02\x82\x07" + value((f"touch {marker}",)) + b"R."


TRICKS = [
    Payload("protocol 0", protocol_0), Payload("INST", inst), Payload("OBJ", obj), Payload("Python 2 names", python_2_names),
    Payload("memo", memo_names), Payload("DUP and POP", dup_and_pop), Payload("a million opcodes", after_a_million_opcodes),
    Payload("behind a blob", after_a_blob), Payload("in a frame", in_a_frame), Payload("broken afterwards", broken_afterwards),
    Payload("cut off", cut_off), Payload("two PROTO opcodes", with_a_wrong_protocol_later),
    Payload("second stream", second_stream, "twice"), Payload("getattr chain", getattr_chain), Payload("dotted name", dotted),
    Payload("module as attribute", module_as_attribute), Payload("partial", partial), Payload("map", map_consumed),
    Payload("starmap", starmap), Payload("defaultdict", defaultdict_item), Payload("generator constructor", generator_constructor),
    Payload("_ufunc_reconstruct", ufunc_reconstruct), Payload("resolve_name", resolve_name),
    Payload("import_module", import_module), Payload("method of a class replaced", setattr_on_class),
    Payload("scipy distribution", scipy_distribution), Payload("pickle in a pickle", nested_pickle),
    Payload("marshalled code", code_object), Payload("cloudpickle", cloudpickled), Payload("EXT", extension, "extension"),
]  # fmt: skip


def reduced(protocol: int) -> Payload:
    """What everybody writes: `__reduce__` and pickle itself."""

    def make(marker: str) -> bytes:
        class Estimator:
            def __reduce__(self) -> Any:
                import os

                return os.system, (f"touch {marker}",)

        stream = io.BytesIO()
        pickle.Pickler(stream, protocol).dump({"model": Estimator()})
        return stream.getvalue()

    return Payload(f"__reduce__ in protocol {protocol}", make)


ALL = [*CALLS, *TRICKS, *(reduced(protocol) for protocol in range(6))]
