"""Commands killed before and after any write: something serves, and the next run converges without help.

A sample of the writes; `--every-write` takes them all, and `-rP` tells of each what served and what the next run did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from tests.cluster.canaries import Runner
from tests.cluster.conftest import connected, namespaced
from tests.cluster.drill_kinds import AT_GATEWAY, DRILLS
from tests.cluster.drills import Drill, Place

from ml_deploy.adapters.cluster import ApiServer

pytestmark = pytest.mark.real_kubernetes

_LATE = 3  # writes that some runs have and others have not: old records are removed


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A sample of the writes; `--every-write` takes them all."""
    every = metafunc.config.getoption("--every-write")
    drills = AT_GATEWAY if "gateway" in metafunc.fixturenames else DRILLS
    cases = [
        (drill, when, at)
        for drill, some in drills.items()
        for when in (("after", "before") if every else ("after",))
        for at in (range(drill.first, drill.writes + _LATE) if every else some)
    ]
    metafunc.parametrize(("drill", "when", "at"), cases, ids=lambda value: getattr(value, "__name__", None))


@dataclass
class Ground:
    """Where the drills take place, one namespace for each; one that has failed does not go on."""

    api: ApiServer
    kubeconfig: str
    image: str
    folders: pytest.TempPathFactory
    _stack: ExitStack = field(default_factory=ExitStack)
    _drill: Drill | None = None

    def run(self, kind: type[Drill], when: str, at: int, gateway: str = "") -> None:
        """One case, which tells what it has seen."""
        drill, self._drill = self._drill, None
        if type(drill) is not kind:
            drill = self._begun(kind, gateway)
        print(drill.go(when, at))
        self._drill = drill

    def _begun(self, kind: type[Drill], gateway: str) -> Drill:
        self.leave()
        cluster = connected(self.kubeconfig, self._stack.enter_context(namespaced(self.api)))
        self._stack.callback(cluster.close)
        return kind(Place(Runner(self.folders.mktemp("drill"), self.kubeconfig, cluster), self.image, gateway))

    def leave(self) -> None:
        """Remove the namespace."""
        self._stack.close()


@pytest.fixture(scope="module")
def ground(
    api: ApiServer, kubeconfig: str, busybox: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:  # fmt: skip
    found = Ground(api, kubeconfig, busybox, tmp_path_factory)
    yield found
    found.leave()


def test_killed(ground: Ground, drill: type[Drill], when: str, at: int) -> None:
    ground.run(drill, when, at)


def test_killed_at_a_gateway(ground: Ground, gateway: str, drill: type[Drill], when: str, at: int) -> None:
    ground.run(drill, when, at, gateway)
