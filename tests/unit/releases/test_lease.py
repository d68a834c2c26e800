"""Who holds the lock: what can be said without a server."""

from __future__ import annotations

import os
import subprocess

from ml_deploy.releases import lease


def test_an_identity_is_unique_and_tells_people_the_run() -> None:
    one, other = lease.identity("https://ci/runs/1"), lease.identity("https://ci/runs/1")
    assert one != other and lease.words(one) == "https://ci/runs/1"
    assert lease.words(lease.identity()) == os.uname().nodename


def test_a_process_of_this_machine_that_ended_is_surely_dead() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    ours = lease.identity()
    assert not lease.surely_dead(ours)
    dead = ours.replace(f"/{os.getpid()}/", f"/{gone.pid}/")
    assert dead != ours and lease.surely_dead(dead)


def test_of_processes_elsewhere_nothing_is_known() -> None:
    for holder in ("https://ci/1 other-host/boot-1/999999/abcd", "somebody", "", "a b/c"):
        assert not lease.surely_dead(holder)
