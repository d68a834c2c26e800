"""Pickles of all protocols, several in one file too, and joblib's, which have raw arrays between the opcodes."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

from ml_deploy.models import arrays, globals_, kdtrees
from ml_deploy.models.anatomy import DISTRIBUTIONS, Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.held import Held
from ml_deploy.models.source import Member, Source, in_memory, latin1, stretch
from ml_deploy.models.stubs import Blob, Instance, TextBlob
from ml_deploy.models.unpickler import InertUnpickler
from ml_deploy.models.uses import Oddity, Use

NAME = "pickle"
_WRAPPER = ("joblib.numpy_pickle", "NumpyArrayWrapper")
_WRAPPER_STATE = {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}
_OLD_WRAPPERS = {("joblib.numpy_pickle_compat", "NDArrayWrapper"), ("joblib.numpy_pickle_compat", "ZNDArrayWrapper"),
                 ("joblib.numpy_pickle", "NDArrayWrapper"), ("joblib.numpy_pickle", "ZNDArrayWrapper")}  # fmt: skip
#: Their pickles keep the model as bytes of its own format: the arrays beside it say nothing of its size.
_OPAQUE = {"xgboost", "lightgbm", "catboost"}
_DEEPEST = 3
_TORCH = {"pytorch", "torchscript"}
_MOST_PICKLES = 10_000
_OPCODES = frozenset(pickle._Unpickler.dispatch)


def sniff(head: bytes) -> bool:
    """Protocol 2 and newer begin with PROTO; older ones with any opcode at all (see `might_be`)."""
    return len(head) > 1 and head[0] == 0x80 and head[1] <= pickle.HIGHEST_PROTOCOL


def might_be(member: Member) -> bool:
    """Whether this could be a pickle without a PROTO opcode: if it asks for a global, or ends as one."""
    head = member.head(1)
    if not head or head[0] not in _OPCODES:
        return False
    with member.open() as source:
        reader = InertUnpickler(source)
        try:
            reader.load()
        except Unreadable as error:
            return error.rule == "budget" or any(globals_.importable(*key) for key in reader.uses)
        return source.tell() > 2


class _Plain(InertUnpickler):
    """As `pickle.load`, which knows no persistent references, and no limits: where it goes on, this must."""

    def load_long4(self) -> None:
        """LONG4: however long it is."""
        self.source.skip(int.from_bytes(self.source.exact(4), "little"))
        self.append(0)

    def _remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def persistent_load(self, pid: Any) -> Any:
        """What follows is never reached."""
        raise Unreadable("it refers to something outside of it", offset=self.source.tell())


class ModelUnpickler(InertUnpickler):
    """Adds joblib's arrays, and what the anatomy wants to know."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.arrays = 0
        self.held = Held()
        self.sklearn: dict[str, None] = {}
        self.classes: dict[str, None] = {}
        self.features: Instance | None = None
        self.tops: list[Any] = []

    def load_build(self) -> None:
        """BUILD: after a wrapper's state, joblib reads raw array data from the stream; so do we, skipping."""
        super().load_build()
        top = self.stack[-1]
        if isinstance(top, Instance) and top.of is not None and top.of.key in _OLD_WRAPPERS:
            raise Unreadable("it was saved by joblib before 0.10, with arrays in other files; save it again",
                             offset=self.source.tell(), rule="joblib-old")  # fmt: skip
        if isinstance(top, Instance) and top.of is not None and top.of.key == _WRAPPER:
            self.stack[-1] = self._array(top)

    def _array(self, wrapper: Instance) -> Instance:
        self.arrays += 1
        # Any other attribute could take the place of a method of the wrapper's, and read less, or more, than an array.
        state = wrapper.state if isinstance(wrapper.state, dict) else {"": None}
        if not set(state) <= _WRAPPER_STATE or (wrapper.args and not arrays.is_plain(wrapper.args)):
            raise Unreadable(
                "joblib's array wrapper is made in an unusual way", offset=self.source.tell(), rule="joblib-array"
            )
        try:
            size, objects = arrays.item_size(wrapper.attribute("dtype"))
            count = arrays.item_count(wrapper.attribute("shape"))
        except arrays.Unsure as error:
            raise Unreadable(f"the size of an array cannot be told ({error})", offset=self.source.tell(),
                             rule="joblib-array") from None  # fmt: skip
        array = Instance(wrapper.of)
        self.held.array(array, wrapper.attribute("dtype"), wrapper.attribute("shape"))
        if objects:
            array.state = (self._objects(),)
        else:
            self._padding(wrapper.attribute("numpy_array_alignment_bytes"))
            array.state = (Blob(size * count, self.source.tell()),)
            self.source.skip(size * count)
        return array

    def _objects(self) -> Any:
        inner = InertUnpickler(self.source)
        inner.uses, inner.oddities = self.uses, self.oddities
        inner.nested, inner.trees = self.nested, self.trees
        return inner.load()

    def _padding(self, alignment: Any) -> None:
        if alignment is None:
            return
        length = self.source.exact(1)[0]
        if not 0 < length <= 16 or alignment != 16 or self.source.exact(length).strip(b"\xff"):
            raise Unreadable(
                "the padding before an array is not joblib's", offset=self.source.tell(), rule="joblib-array"
            )

    def _made(self, instance: Instance) -> Instance:
        self.held.called(instance)
        return super()._made(instance)

    def _set_items(self, items: list[Any]) -> None:
        super()._set_items(items)
        self.held.named(zip(items[::2], items[1::2], strict=False))

    def stated(self, target: Instance) -> None:
        """Collect versions, classes, features and arrays from objects' states."""
        self.held.stated(target)
        version = target.attribute("_sklearn_version")
        if isinstance(version, str):
            self.sklearn[version] = None
            if len(self.classes) < 100:
                self.classes[arrays.class_name(target)] = None
        if self.features is None and isinstance(target.attribute("n_features_in_"), int):
            self.features = target


def inspect(member: Member, context: Context) -> Anatomy:
    """Walk every pickle of the member and judge what it asks for."""
    with member.open() as source:
        reader = ModelUnpickler(source)
        error = walk(reader, source)
    uses, oddities = reader.uses, reader.oddities
    globals_.judge(uses.values(), oddities.values(), context)
    if error is not None:
        context.log.unreadable(error, "joblib" if reader.arrays else "pickle")
    if reader.arrays:
        _as_plain_pickle(member, reader, context)
    nested(reader, member, context)
    if reader.persistent:
        globals_.persistent(reader.persistent, context)
    return anatomy(reader)


def walk(reader: ModelUnpickler, source: Source, most: int = 0) -> Unreadable | None:
    """Read pickles to the end of the source, or the first `most`; what went wrong, or None."""
    start = 0
    try:
        while not reader.tops or (not source.at_end() if not most else len(reader.tops) < most):
            start = source.tell()
            if len(reader.tops) >= _MOST_PICKLES:
                raise Unreadable(f"it has more than {_MOST_PICKLES:,} pickles one after the other", rule="budget")
            reader.tops.append(reader.load())
            reader.memo.clear()
    except Unreadable as error:
        if reader.tops and not most and error.rule != "budget":
            what = f"what follows the pickle at byte {start:,} is not another one ({error.message})"
            return Unreadable(what, offset=start, rule="trailing-data")
        return error
    return None


def nested(reader: InertUnpickler, member: Member, context: Context) -> None:
    """What is read a second time: files of torch inside of strings, as plain pickles have tensors, and nodes of trees."""
    if reader.nested and member.depth >= _DEEPEST:
        raise Unreadable(f"it has models in models more than {_DEEPEST} deep", rule="budget")
    for blob in reader.nested:
        _tensor(blob, member, context)
    kdtrees.judge(reader.trees, member, context)


def _tensor(blob: Blob | bytes, member: Member, context: Context) -> None:
    """`torch.load` is what reads it, so it must be a file of torch's, and not something else to whoever goes by content."""
    if isinstance(blob, bytes):
        inner = in_memory(blob, "tensor", member.depth + 1)
    else:
        inner = stretch(member, blob.offset, blob.length, f"tensor at byte {blob.offset}")
    inside = context.inside(inner.name)
    found = context.inner(latin1(inner) if isinstance(blob, TextBlob) else inner, inside)
    if found.format not in _TORCH:
        inside.log.deny(
            "pickle-arguments", "torch.storage:_load_from_bytes",
            f"Loading this file loads a second one as torch's, and that one is not ({found.format}).",
            "Save the model again with `torch.save`.",
        )  # fmt: skip


def hidden(member: Member, head: bytes, context: Context) -> None:
    """Judge what `pickle.load`, and every loader that goes by a name, would import from a file of another format."""
    if not head or head[0] not in _OPCODES:
        return
    reader = _plain(member)
    if any(globals_.importable(*key) for key in reader.uses):
        globals_.judge(reader.uses.values(), reader.oddities.values(), context)
        context.log.deny("pickle-hidden", "a pickle", "The file is of one format by its content, and a pickle to loaders that try to unpickle it.",
                         "Do not load this file. No ordinary model is two things at once.", 0)  # fmt: skip


def _plain(member: Member) -> InertUnpickler:
    """The first pickle that `pickle.load` would see, as far as it gets."""
    with member.open() as source:
        reader = _Plain(source)
        try:
            reader.load()
        except Unreadable as error:
            if error.rule == "budget":  # of memory: nobody knows what follows
                raise
    return reader


def _as_plain_pickle(member: Member, seen: ModelUnpickler, context: Context) -> None:
    """What `pickle.load` instead of `joblib.load` would see: array data as opcodes. Judge what it would import."""
    reader = _plain(member)
    extra: Iterable[Use] = [
        use for key, use in reader.uses.items() if key not in seen.uses or _more(use, seen.uses[key])
    ]
    odd: Iterable[Oddity] = [odd for key, odd in reader.oddities.items() if key not in seen.oddities]
    globals_.judge(extra, odd, context)
    nested(reader, member, context)


def _more(use: Use, than: Use) -> bool:
    """Whether a global is used in a way that it was not used in before."""
    return any(getattr(use, how) >= 0 > getattr(than, how) for how in ("called", "made", "assigned"))


def anatomy(reader: ModelUnpickler) -> Anatomy:
    """What was learnt on the way."""
    tops = reader.tops
    versions = {"scikit-learn": next(iter(reader.sklearn))} if reader.sklearn else {}
    modules = [module for module, _ in reader.uses]
    libraries = dict.fromkeys(
        DISTRIBUTIONS[root] for root in (m.split(".")[0] for m in modules) if root in DISTRIBUTIONS
    )
    if reader.arrays:
        libraries["joblib"] = None
    features = reader.features
    opaque = bool(_OPAQUE & libraries.keys())
    return Anatomy(
        format="joblib" if reader.arrays else "pickle",
        framework=_framework(tops, libraries, versions),
        versions=versions,
        at_least={"numpy": "2"} if any(m == "numpy._core" or m.startswith("numpy._core.") for m in modules) else {},
        libraries=tuple(libraries),
        top=_top(tops),
        classes=tuple(reader.classes),
        n_features_in=features.attribute("n_features_in_") if features else None,
        feature_names=arrays.texts(features.attribute("feature_names_in_")) if features else (),
        protocol=reader.protocol,
        parameters=None if opaque else reader.held.numbers or None,
        tensors=() if opaque else reader.held.tensors(),
    )


def _framework(tops: list[Any], libraries: Iterable[str], versions: dict[str, str]) -> str:
    root = _top(tops).split(".")[0]
    if root in DISTRIBUTIONS:
        return DISTRIBUTIONS[root]
    return "scikit-learn" if versions else next(iter(libraries), "")


def _top(tops: list[Any]) -> str:
    """The class of the outermost object; of several pickles' the first one's."""
    if not tops:
        return ""
    return arrays.class_name(tops[0]) or ("list" if isinstance(tops[0], list) else type(tops[0]).__name__)
