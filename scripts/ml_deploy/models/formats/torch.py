"""PyTorch: zips with a pickle that refers to storages (also TorchScript), and the legacy format of one stream."""

from __future__ import annotations

import re
from typing import Any

from ml_deploy.models import globals_
from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable, Verdict
from ml_deploy.models.formats import pickles
from ml_deploy.models.formats.zips import Archive
from ml_deploy.models.source import Member, Source
from ml_deploy.models.stubs import Instance, Name
from ml_deploy.models.unpickler import InertUnpickler

NAME = "pytorch"
#: Bytes per item of a storage, by the name of its class without `Storage`.
_ITEM = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
         "ComplexFloat": 8, "ComplexDouble": 16, "QInt8": 1, "QUInt8": 1, "QInt32": 4, "QUInt4x2": 1, "QUInt2x4": 1,
         "Untyped": 1}  # fmt: skip
#: What torch itself writes beside pickles and storages.
_PLAIN = re.compile(r"version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d+|constants/\d+|traced_inputs/\d+|"
                    r"tensors/\d+")  # fmt: skip
_LEGACY = (
    b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # the pickled magic number that every legacy file begins with
)


class TorchUnpickler(pickles.ModelUnpickler):
    """Collects the storages that persistent ids name: key -> bytes."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.storages: dict[str, int] = {}
        self.numbers: int | None = 0

    def persistent_load(self, pid: Any) -> Any:
        """A storage: `("storage", class, key, location, items)`; the legacy format has classes too, with their source."""
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], Name):
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Name):
            raise Unreadable("it refers to something that is no storage of torch", offset=self.source.tell())
        kind = pid[1].name.removesuffix("Storage")
        if (
            pid[1].module not in ("torch", "torch.storage", "torch.cuda")
            or kind not in _ITEM
            or type(pid[4]) is not int
        ):
            raise Unreadable(f"it has a storage of the unknown kind {pid[1]}", offset=self.source.tell())
        if kind == "Untyped":
            self.numbers = None  # bytes of who knows what
        elif self.numbers is not None and str(pid[2]) not in self.storages:
            self.numbers += pid[4]
        self.storages[str(pid[2])] = pid[4] * _ITEM[kind]
        return Instance(pid[1], pid[1:])


def recognise(names: set[str]) -> bool:
    """One folder with `data.pkl` in it (a TorchScript has `constants.pkl` and `code/` too)."""
    return any(name.count("/") == 1 and name.endswith(("/data.pkl", "/constants.pkl")) for name in names)


def inspect_archive(archive: Archive, context: Context) -> Anatomy:
    """The pickle, the storages that it names, and whatever else is in the archive."""
    top = next(name for name in archive.members if name.endswith(("/data.pkl", "/constants.pkl"))).split("/")[0] + "/"
    strange = [name for name in archive.members if not name.startswith(top)]
    if strange:
        raise Unreadable(f"it has {strange[0]!r} beside the model's folder", rule="zip-mismatch")
    inner = {name.removeprefix(top): member for name, member in archive.members.items()}
    script = any(name.startswith("code/") for name in inner)
    readers = {name: _pickle(member, context.inside(top + name), script)
               for name, member in inner.items() if name.endswith(".pkl") and "/" not in name}  # fmt: skip
    for name, member in inner.items():
        if name not in readers and not _PLAIN.fullmatch(name) and not (script and name.startswith("code/")):
            context.inner(member, context.inside(top + name))
    if script:
        _script(inner, context)
    _storages(readers, inner)
    return _anatomy(readers, script)


def _pickle(member: Member, context: Context, script: bool) -> TorchUnpickler:
    with member.open() as source:
        reader = TorchUnpickler(source)
        error = pickles.walk(reader, source)
    uses = [use for use in reader.uses.values() if not (script and use.name.module.startswith("__torch__"))]
    globals_.judge(uses, reader.oddities.values(), context)
    pickles.nested(reader, member, context)
    if error is not None:
        context.log.unreadable(error, NAME)
    return reader


def _script(inner: dict[str, Member], context: Context) -> None:
    lines = sum(1 for name in inner if name.startswith("code/") and name.endswith(".py"))
    context.log.add(
        Verdict.REVIEW, "torchscript-code", f"{lines} source files",
        "The file is a TorchScript: it brings code of its own, which torch compiles and runs when the model is used.",
        "Save a state dict (better: as safetensors) and keep the code in your repository, or export the model to ONNX.",
    )  # fmt: skip


def _storages(readers: dict[str, TorchUnpickler], inner: dict[str, Member]) -> None:
    for name, reader in readers.items():
        folder = {"data.pkl": "data/", "constants.pkl": "constants/"}.get(name, "data/")
        for key, size in reader.storages.items():
            member = inner.get(folder + key) or inner.get("data/" + key)
            if member is None or (member.size is not None and member.size < size):
                raise Unreadable(f"the storage {key!r} is missing or too short", rule="truncated")


def _anatomy(readers: dict[str, TorchUnpickler], script: bool) -> Anatomy:
    main = readers.get("data.pkl") or next(iter(readers.values()))
    known = pickles.anatomy(main)
    return Anatomy(
        format="torchscript" if script else NAME, framework="torch", libraries=tuple({**dict.fromkeys(known.libraries), "torch": 0}),
        top=known.top, protocol=known.protocol, parameters=main.numbers or None, tensors=known.tensors,
    )  # fmt: skip


def sniff(head: bytes) -> bool:
    """The legacy format's pickled magic number, in protocol 2 or a later one."""
    return len(head) > 14 and head[0] == 0x80 and head[2:14] == _LEGACY


def inspect(member: Member, context: Context) -> Anatomy:
    """Legacy: magic number, protocol, system, the object, the keys of the storages; then their raw bytes."""
    with member.open() as source:
        reader = TorchUnpickler(source)
        error = pickles.walk(reader, source, 4)
        keys = InertUnpickler(source)
        try:
            if error is None:
                _raw(keys.load(), reader, source)
        except Unreadable as broken:
            error = broken
    globals_.judge(
        [*reader.uses.values(), *keys.uses.values()], [*reader.oddities.values(), *keys.oddities.values()], context
    )
    pickles.nested(reader, member, context)
    if error is not None:
        context.log.unreadable(error, NAME)
    reader.tops = reader.tops[3:]  # before the object: magic number, protocol, system
    return _anatomy({"data.pkl": reader}, False)


def _raw(keys: Any, reader: TorchUnpickler, source: Source) -> None:
    """The storages: eight bytes of length in items, then the items, in the order of the keys."""
    if (
        not isinstance(keys, list)
        or getattr(keys, "total", 0) != len(keys)
        or {str(key) for key in keys} != set(reader.storages)
    ):
        raise Unreadable("its list of storages is not that of its pickle", offset=source.tell())
    for key in keys:
        count = int.from_bytes(source.exact(8), "little")
        size = reader.storages[str(key)]
        item = size // count if count else 1
        if count * item != size:
            raise Unreadable(f"the storage {key!r} has another size than its pickle says", offset=source.tell())
        source.skip(size)
    if not source.at_end():
        raise Unreadable("something follows the last storage", offset=source.tell(), rule="trailing-data")
