"""Engines as actors on a real Ray cluster of two nodes: nothing is lost with an actor, or with a node."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from automerge.config import EngineConfig
from automerge.errors import EngineError
from automerge.study.events import Block, Event
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.records import study_rows
from automerge.study.session import run_search
from automerge.study.store import open_study
from tests.ray_cluster import actors
from tests.study.worlds import plan_of

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
# Ray leaves sockets and files to the end of the process.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@dataclass
class Nodes:
    """A cluster on loopback: a head without cores, and nodes with one core each, started by Ray's own command."""

    address: str
    running: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def add(self) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", f"--address={self.address}", "--num-cpus=1"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        self.running.append(subprocess.Popen([*command, "--block"], **quiet))  # type: ignore[call-overload]

    def remove(self) -> None:
        """At once, with all that runs on it."""
        node = self.running.pop()
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    head = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = Nodes(head.address)
    try:
        ray.init(address=head.address, log_to_driver=False)
        for count in (1, 2):  # one after the other: two that start at once may take each other's ports
            nodes.add()
            deadline = time.monotonic() + 120
            while ray.cluster_resources().get("CPU", 0) < count:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield nodes
    finally:
        ray.shutdown()
        while nodes.running:
            nodes.remove()
        head.shutdown()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()  # what Ray leaves open is found here, and not in the tests that follow


def search(world: Path, out: Path, cluster: Nodes, listen: Any) -> list[Any]:
    skill = world.parent / "skill.yaml"
    skill.write_text(skill.read_text() + "sampling: {max_tokens: 4}\n")
    folder = StudyFolder(out)
    run_search(plan_of(world), folder, Budget(trials=12), listen, workers=2, ray=cluster.address)
    return study_rows(open_study("world", folder.storage))


@pytest.mark.full  # a cluster of three raylets misses heartbeats on two busy cores
def test_an_actor_that_is_killed_is_made_again(world: Path, tmp_path: Path, cluster: Nodes) -> None:
    killed = threading.Event()

    def listen(event: Event) -> None:
        if isinstance(event, Block) and not killed.is_set() and (found := actors()):
            killed.set()
            os.kill(found[0], signal.SIGKILL)

    rows = search(world, tmp_path / "out", cluster, listen)
    assert killed.is_set()
    assert [row.state for row in rows] == ["complete"] * 12
    deadline = time.monotonic() + 60  # Ray kills in its own time
    while left := actors():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.full  # a cluster of three raylets misses heartbeats on two busy cores
def test_a_node_leaves_and_comes_back(world: Path, tmp_path: Path, cluster: Nodes) -> None:
    blocks = 0

    def listen(event: Event) -> None:
        nonlocal blocks
        blocks += isinstance(event, Block)
        if isinstance(event, Block) and blocks == 10:
            cluster.remove()
            threading.Timer(3, cluster.add).start()

    rows = search(world, tmp_path / "out", cluster, listen)
    assert blocks > 10
    assert [row.state for row in rows] == ["complete"] * 12


@pytest.mark.full  # a cluster of three raylets misses heartbeats on two busy cores
def test_what_the_cluster_has_no_room_for_is_refused(cluster: Nodes) -> None:
    from automerge.engine.ray_actor import join

    with pytest.raises(EngineError, match="3 workers with"):
        join(cluster.address, EngineConfig(), 3)


def test_a_cluster_that_is_not_there_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no Ray cluster"):
        run_search(plan_of(world), StudyFolder(tmp_path / "o"), Budget(trials=9), lambda e: None, ray="127.0.0.1:1")
