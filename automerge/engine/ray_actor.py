"""Engines as actors on a Ray cluster, wherever it has room: see RemoteEngine.

An actor has the GPUs that its engine spans, all of one node, or a share of the cores where the cluster has no GPU. What
it opens lies at the same path on every node, or on the hub; a merge refuses files of other content. An actor ends with
the driver that made it.
"""

import contextlib
import logging
import socket
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from automerge.config import EngineConfig
from automerge.engine.child import SLOW, packed, unpacked
from automerge.engine.remote_host import Host
from automerge.errors import ClusterError, EngineLost

Needs = Mapping[str, float]  # resource → how much, of one actor


class _Hosting:
    """What runs on the node."""

    def __init__(self) -> None:
        self._methods = Host().methods()

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        return packed(self._methods[name], arguments)


class Actor:
    """One engine's process: see remote.Process."""

    def __init__(self, needs: Needs) -> None:
        threads = str(int(needs["CPU"]))
        environment = {"env_vars": {"NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}}
        made = ray.remote(_Hosting).options(
            num_cpus=needs["CPU"], num_gpus=needs["GPU"], max_restarts=0, runtime_env=environment
        )
        self._actor = made.remote()

    def call(self, name: str, *arguments: Any, seconds: float) -> Any:
        """See child.Child.call."""
        try:
            answer: tuple[Any, ...] = ray.get(self._actor.call.remote(name, *arguments), timeout=seconds)
        except GetTimeoutError as error:
            self.close()
            message = f"the engine has not answered for {seconds:g} s, or found no room on the cluster"
            raise EngineLost(message, where="ray", hint=SLOW) from error
        except RayActorError as error:
            raise EngineLost(f"the engine's actor died: {str(error).strip().splitlines()[0]}", where="ray") from error
        except RayError as error:
            self.close()
            raise EngineLost(str(error).strip().splitlines()[0], where="ray") from error
        except BaseException:  # Ctrl-C
            self.close()
            raise
        return unpacked(answer, "ray")

    def close(self) -> None:
        """Kills the actor, and with it what it started. May be called twice."""
        with contextlib.suppress(RayError, ValueError):
            ray.kill(self._actor)


def join(address: str, config: EngineConfig, workers: int) -> Needs:
    """Joins a running cluster (`auto`, or HOST:PORT); what each of so many engines gets of it. Raises ClusterError
    where it cannot be reached, or is too small."""
    if not ray.is_initialized():
        try:
            _reach(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            hint = "Is `ray start --head` running there, with the same versions of Ray and Python?"
            raise ClusterError(f"no Ray cluster: {reason}", where=address, hint=hint) from error
    held = ray.cluster_resources()
    ranks = int(config.arguments.get("tensor_parallel_size", 1))
    gpus, cores = held.get("GPU", 0.0), held.get("CPU", 0.0)
    needs = {"GPU": float(ranks) if gpus else 0.0, "CPU": max(cores // workers, 1.0)}
    if needs["GPU"] * workers > gpus or needs["CPU"] * workers > cores:
        raise ClusterError(
            f"{workers} workers with {needs['GPU']:g} GPUs and {needs['CPU']:g} cores each, but the cluster has "
            f"{gpus:g} and {cores:g}",
            where="--workers",
            hint="Ask for fewer workers, add nodes, or lower tensor_parallel_size.",
        )
    return needs


def _reach(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT, which Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()
