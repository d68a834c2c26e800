"""CPython's own pure-Python unpickler with everything that could act replaced by stubs.

The memo, the stack, the marks and the decoding of strings are CPython's, so that every trick
with them resolves as it would for real. Globals become `Name`s, objects `Instance`s, large
blobs are skipped. What a real unpickler would only know by running something (a computed
name, a call of a made object's result) is not guessed: it is an error or a finding.

C and Python differ in one point that matters: frames. The C unpickler ignores where they end,
the Python one raises when something crosses their end, so reading without frames sees
whatever either would see.
"""

from __future__ import annotations

import _compat_pickle
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any

from ml_deploy.models.findings import Unreadable
from ml_deploy.models.making import Making
from ml_deploy.models.source import Source, truncated
from ml_deploy.models.states import tells
from ml_deploy.models.stubs import Blob, Instance, Name, SmallList, TextBlob
from ml_deploy.models.uses import COUNTED

_KEPT_BYTES = 256  # what is longer is skipped; no name ever comes from bytes
_KEPT_TEXT = 1024  # the longest a module or name may be
_FLOATS = re.compile(rb"(?:G.{8})*", re.DOTALL)
_OCTAL = re.compile(rb"\s*[+-]?0[0-7]+")
_MEMO_AHEAD = 1 << 20  # places; picklers number them one by one
_LONGEST_INTEGER = 1 << 12  # bytes; conversions of larger ones cost too much time
_COMPUTED = Instance(None)
_DICT_LIMIT = 4096  # entries kept of a dictionary: its state is wanted, not its data

_Unpickler: Any = pickle._Unpickler  # typeshed knows only half of it


class Stopped(Exception):
    """The STOP opcode, with the object on top of the stack."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def _counting(method: Callable[[Any], None]) -> Callable[[Any], None]:
    def push(reader: Any) -> None:
        method(reader)
        top = reader.stack[-1]
        if isinstance(top, Name) and top.key in COUNTED:
            reader.uses[top.key].mentions += 1

    return push


class InertUnpickler(Making, _Unpickler):  # type: ignore[misc]
    """Walks one pickle after the other in `source`, collecting `uses` and `oddities`."""

    _opcodes: list[Callable[[Any], None]]

    def __init__(self, source: Source) -> None:
        Making.__init__(self, source)
        _Unpickler.__init__(self, source)
        self.protocol = 0
        self.persistent = 0

    def load(self) -> Any:
        """The stubs of one pickle. Raises Unreadable where no unpickler could go on."""
        self.read, self.readline = self.source.read, self.source.readline
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0
        read, table = self.source.read, self._table().copy()
        self.table = table
        try:
            while key := read(1):
                table[key[0]](self)
        except Stopped as stop:
            return stop.value
        except Unreadable:
            raise
        except MemoryError:
            raise Unreadable("it needs more memory than allowed", offset=self.source.tell(), rule="budget") from None
        except (struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
                pickle.UnpicklingError, SyntaxError, RecursionError) as error:  # fmt: skip
            raise self._broken(error) from None
        raise truncated(self.source.tell())

    @classmethod
    def _table(cls) -> list[Callable[[Any], None]]:
        """CPython's dispatch table by opcode, with each method looked up by name, so that ours take over."""
        if "_opcodes" not in cls.__dict__:
            table: list[Callable[[Any], None]] = [cls._unknown] * 256
            for code, method in _Unpickler.dispatch.items():
                table[code] = getattr(cls, method.__name__)
            cls._opcodes = table
        return cls._opcodes

    def _broken(self, error: Exception) -> Unreadable:
        if self.source.at_end():
            return truncated(self.source.tell())
        what = str(error) or type(error).__name__
        return Unreadable(f"it is no valid pickle near byte {self.source.tell():,} ({what})", offset=self.source.tell())

    # Globals.

    def find_class(self, module: str, name: str) -> Name:
        """Never imports: a stub, and a note of what was asked for."""
        raw = (module, name)
        if self.proto < 3 and raw in _compat_pickle.NAME_MAPPING:
            module, name = _compat_pickle.NAME_MAPPING[raw]
        elif self.proto < 3 and module in _compat_pickle.IMPORT_MAPPING:
            module = _compat_pickle.IMPORT_MAPPING[module]
        if (module, name) in COUNTED:
            self._count_mentions((module, name))
        return self.named((module, name), raw)

    def _count_mentions(self, key: tuple[str, str]) -> None:
        """From now on, count how often it is put on the stack: it may be used at once, but not kept."""
        self.named(key, key)
        self.uses[key].mentions += 1
        for code in (pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.DUP):
            self.table[code[0]] = _counting(self._table()[code[0]])

    def load_global(self) -> None:
        """GLOBAL: as CPython, with the place of the opcode."""
        start = self.source.tell() - 1
        super().load_global()
        self._place(start)

    def load_inst(self) -> None:
        """INST: a global and a call in one."""
        start = self.source.tell() - 1
        super().load_inst()
        self._place(start)

    def _place(self, start: int) -> None:
        use = next(reversed(self.uses.values()))
        if start < use.offset < self.source.tell():
            use.offset = start

    def get_extension(self, code: int) -> None:
        """EXT: a name that only the loading process knows, so nobody can tell what it is."""
        self.odd("pickle-extension", f"extension code {code}",
                  "uses an extension code, which names something only the loading process knows")  # fmt: skip
        self.append(Instance(None))

    def persistent_load(self, pid: Any) -> Any:
        """A reference to something outside of the pickle."""
        self.persistent += 1
        return Instance(None, (pid,))

    # The memo.

    def load_put(self) -> None:
        """PUT."""
        self._remember(int(self._digits()))

    def load_long_binput(self) -> None:
        """LONG_BINPUT."""
        self._remember(self._number("<I"))

    def _remember(self, place: int) -> None:
        if not 0 <= place < len(self.memo) + _MEMO_AHEAD:  # CPython in C makes room for all places below
            raise Unreadable(
                f"it remembers something at place {place:,} of the memo", offset=self.source.tell(), rule="budget"
            )
        self.memo[place] = self.stack[-1]

    # Containers: no opcode reads from them, so they are kept small.

    def load_empty_list(self) -> None:
        """EMPTY_LIST."""
        self.append(SmallList())

    def load_list(self) -> None:
        """LIST."""
        made = SmallList()
        made.keep(self.pop_mark())
        self.append(made)

    def load_append(self) -> None:
        """APPEND."""
        value = self.stack.pop()
        self._extend([value])

    def load_appends(self) -> None:
        """APPENDS."""
        items = self.pop_mark()
        self._extend(items)

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, SmallList):
            target.keep(items)
        elif not isinstance(target, (Instance, bytearray)):
            raise TypeError(f"items appended to {type(target).__name__}")

    def load_setitem(self) -> None:
        """SETITEM."""
        value = self.stack.pop()
        key = self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        """SETITEMS."""
        items = self.pop_mark()
        self._set_items(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            self.dtypes.changed(target)
            for at in range(0, len(items) - 1, 2):
                key = items[at]
                if len(target) < _DICT_LIMIT or tells(key) or key in target:
                    target[key] = items[at + 1]
                elif isinstance(key, Instance):
                    target[_COMPUTED] = items[at + 1]  # one stands for all
        elif not isinstance(target, (Instance, SmallList, bytearray)):
            raise TypeError(f"items set in {type(target).__name__}")

    def load_additems(self) -> None:
        """ADDITEMS."""
        items = self.pop_mark()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(items[:_DICT_LIMIT])
        elif not isinstance(self.stack[-1], Instance):
            raise TypeError("items added to no set")

    # Blobs are skipped.

    def _blob(self, length: int, decode: Callable[[bytes], Any], keep: int, kind: type[Blob] = Blob) -> None:
        if length < 0:
            raise ValueError("a negative length")
        if length > keep:
            blob = kind(length, self.source.tell())
            self.source.skip(length)
            self.append(blob)
        else:
            self.append(decode(self.source.exact(length)))

    def _text(self, data: bytes) -> str:
        return str(data, "utf-8", "surrogatepass")

    def _old_text(self, data: bytes) -> Any:
        try:
            return self._decode_string(data)
        except UnicodeDecodeError:  # numpy and Python 2: loaders give another encoding
            return Blob(len(data), self.source.tell() - len(data))

    def load_frame(self) -> None:
        """FRAME: its length is read, its end is of no interest (see above)."""
        self.source.exact(8)

    def load_binstring(self) -> None:
        """BINSTRING."""
        self._blob(self._number("<i"), self._old_text, _KEPT_TEXT)

    def load_short_binstring(self) -> None:
        """SHORT_BINSTRING."""
        self._blob(self._number("<B"), self._old_text, _KEPT_TEXT)

    def load_binbytes(self) -> None:
        """BINBYTES."""
        self._blob(self._number("<I"), bytes, _KEPT_BYTES)

    def load_binbytes8(self) -> None:
        """BINBYTES8."""
        self._blob(self._number("<Q"), bytes, _KEPT_BYTES)

    def load_bytearray8(self) -> None:
        """BYTEARRAY8."""
        self._blob(self._number("<Q"), bytearray, _KEPT_BYTES)

    def load_binunicode(self) -> None:
        """BINUNICODE."""
        self._blob(self._number("<I"), self._text, _KEPT_TEXT, TextBlob)

    def load_binunicode8(self) -> None:
        """BINUNICODE8."""
        self._blob(self._number("<Q"), self._text, _KEPT_TEXT, TextBlob)

    def load_binfloat(self) -> None:
        """BINFLOAT, and all that follow it in the buffer: lists have millions, and their values matter to nobody."""
        self.source.exact(8)
        more = _FLOATS.match(self.source.peek(9))
        if more and more.end():
            self.source.read(more.end())
            self.stack.extend([0.0] * (more.end() // 9))
        self.append(0.0)

    def load_long4(self) -> None:
        """LONG4."""
        length = self._number("<i")
        if not 0 <= length <= _LONGEST_INTEGER:
            raise Unreadable(f"it has an integer of {length:,} bytes", offset=self.source.tell(), rule="budget")
        self.append(pickle.decode_long(self.source.exact(length)))

    def load_int(self) -> None:
        """INT: as CPython in C, where a leading zero makes it octal; in Python it is an error."""
        line = self._digits()
        if line in (b"00", b"01"):
            self.append(line == b"01")
        else:
            self.append(int(line, 8 if _OCTAL.fullmatch(line) else 0))

    def load_long(self) -> None:
        """LONG."""
        self.append(int(self._digits().removesuffix(b"L"), 0))

    def load_float(self) -> None:
        """FLOAT."""
        self.append(float(self._digits()))

    def load_get(self) -> None:
        """GET."""
        self.append(self.memo[int(self._digits())])

    def _digits(self) -> bytes:
        """A number's line. CPython in C reads it as a string of C's, which ends at a zero byte."""
        return self.source.readline()[:-1].partition(b"\0")[0]

    def load_string(self) -> None:
        """STRING: as CPython, for the encodings of Python 2 too."""
        try:
            super().load_string()
        except UnicodeDecodeError:
            self.append(Blob(0, self.source.tell()))

    def load_readonly_buffer(self) -> None:
        """READONLY_BUFFER: blobs have no buffer to protect."""
        if not isinstance(self.stack[-1], (Blob, bytes, bytearray)):
            raise TypeError("a read-only view of no buffer")

    def load_proto(self) -> None:
        """PROTO: as CPython, and remembered."""
        super().load_proto()
        self.protocol = max(self.protocol, self.proto)

    def load_stop(self) -> None:
        """STOP."""
        raise Stopped(self.stack.pop())

    def _unknown(self) -> None:
        raise Unreadable(f"it is no valid pickle at byte {self.source.tell() - 1:,} (there is no such opcode)",
                         offset=self.source.tell() - 1)  # fmt: skip

    def _number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.source.exact(struct.calcsize(layout)))[0])
