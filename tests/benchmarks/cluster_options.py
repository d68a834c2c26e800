"""The options that benchmarks on a cluster share, and the namespace that lasts as long as they do."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar


class Side(Protocol):
    """What is measured: makes and removes its namespace."""

    def namespace(self, verb: str) -> None:
        """`create` or `delete`."""


S = TypeVar("S", bound=Side)


def parser(text: str | None) -> argparse.ArgumentParser:
    """Where the cluster is, what runs in it, and with which kubectl it is compared."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--kubeconfig", required=True)
    made.add_argument("--image", required=True)
    made.add_argument("--kubectl", default="kubectl")
    made.add_argument("--namespace", default=f"bench-{os.getpid()}")
    return made


@contextmanager
def lasting(make: Callable[[argparse.Namespace, Path], S], options: argparse.Namespace) -> Iterator[S]:
    """A benchmark in its namespace, with a folder for its manifests."""
    with tempfile.TemporaryDirectory() as folder:
        side = make(options, Path(folder))
        side.namespace("create")
        try:
            yield side
        finally:
            side.namespace("delete")
