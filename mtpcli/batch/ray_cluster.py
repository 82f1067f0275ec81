"""Workers on a Ray cluster: one of its own on this machine, or one that runs already."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

from mtpcli.batch.crew import Hand, WorkerDied
from mtpcli.errors import MtpError, UsageError

_CONNECT_SECONDS = 5.0
# Rows and records are all that travels: the least that Ray accepts is plenty.
_OBJECT_STORE_BYTES = 80 << 20
_INSTALL = "pip install 'mtpcli[ray]'"


def threads_per_worker(machines: Sequence[int], workers: int) -> int:
    """The most threads that each of so many workers can have, 0 if there is no room for them.

    Args:
        machines: cores of each; a worker stays within one of them.
    """
    for threads in range(max(machines, default=0), 0, -1):
        if sum(cores // threads for cores in machines) >= workers:
            return threads
    return 0


def gpus_per_worker(machines: Sequence[int], workers: int) -> float:
    """GPUs for each worker: whole ones as `threads_per_worker` shares cores, else a part of one.

    A worker without a share would see none: Ray hides them.
    """
    total = sum(machines)
    if not total:
        return 0
    # Ray counts in ten thousandths.
    return threads_per_worker(machines, workers) or 10_000 // -(-workers // total) / 10_000


class RayCluster:
    """Workers as Ray actors. Closing it twice is harmless.

    Attributes:
        workers: how many to hire.
        threads: of each.
    """

    def __init__(self, address: str, workers: int | None, threads: int, cores: int) -> None:
        """Start Ray, or join it.

        Args:
            address: `local`; `auto`, the cluster that this machine belongs to; or HOST:PORT, the
                same by its head.
            workers: how many; None is one per machine.
            threads: of each worker; 0 shares the cores evenly.
            cores: that this machine has for threads.

        Raises:
            UsageError: Ray is not installed, cannot be reached, or has no room.
        """
        check_address(address)
        self._ray = _import_ray()
        self._folder: str | None = None
        self._hired: list[Any] = []
        self._quiet = ExitStack()
        # Ray prints what happens to workers on standard output, which is for answers.
        nowhere = self._quiet.enter_context(Path(os.devnull).open("w"))  # noqa: SIM115
        self._quiet.enter_context(redirect_stdout(nowhere))
        try:
            if address == "local":
                self.workers = workers or 1
                self.threads = threads or max(1, cores // self.workers)
                self._start(self.workers * self.threads)
            else:
                self._join(address)
                self.workers, self.threads = self._share(workers, threads)
        except BaseException:
            self.close()
            raise
        # One that died is replaced by the crew, which knows what rows it had.
        gpus = gpus_per_worker(self._machines("GPU"), self.workers)
        options = self._ray.remote(num_cpus=self.threads, num_gpus=gpus, max_restarts=0)
        self._actor = options(Hand)

    def _start(self, cpus: int) -> None:
        # Sockets are in it: the path must be short.
        self._folder = tempfile.mkdtemp(prefix="mtpcli-ray-")
        try:
            self._ray.init(
                address="local",
                num_cpus=cpus,
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=self._folder,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(f"Ray does not start here: {_first_line(error)}") from None

    def _join(self, address: str) -> None:
        if address != "auto":
            _connect(address)
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(
                f"cannot join the Ray cluster {address}: {_first_line(error)}; this machine must "
                "belong to it (`ray start --address=HOST:PORT`)"
            ) from None

    def _share(self, workers: int | None, threads: int) -> tuple[int, int]:
        machines = self._machines("CPU")
        workers = workers or max(1, len(machines))
        most = threads_per_worker(machines, workers)
        if most == 0 or threads > most:
            have = " + ".join(map(str, machines)) or "no"
            raise UsageError(
                f"the cluster has {have} cores: too few for {workers} workers of "
                f"{max(1, threads)} threads, choose fewer of either"
            )
        return workers, threads or most

    def _machines(self, what: str) -> list[int]:
        """Cores or GPUs of each machine that can take a worker: those with GPUs, if there are."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        best = [node for node in nodes if node.get("GPU")] or nodes
        return [count for node in best if (count := int(node.get(what, 0)))]

    def hire(self) -> Any:
        """See `Cluster`."""
        worker = self._actor.remote()
        self._hired.append(worker)
        return worker

    def call(self, worker: Any, method: str, argument: Any) -> Any:
        """See `Cluster`."""
        return getattr(worker, method).remote(argument)

    def wait(self, tickets: list[Any], seconds: float) -> list[Any]:
        """See `Cluster`."""
        done, _ = self._ray.wait(tickets, num_returns=1, timeout=seconds)
        return list(done)

    def result(self, ticket: Any) -> Any:
        """See `Cluster`."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ticket)
        except errors.RayTaskError as error:
            # What the worker raised, without Ray's report of where.
            if isinstance(error.cause, MtpError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            raise WorkerDied(_first_line(error)) from None

    def dismiss(self, worker: Any) -> None:
        """See `Cluster`."""
        self._hired.remove(worker)
        self._ray.kill(worker)

    def close(self) -> None:
        """End the workers, and Ray where it was started here."""
        if self._ray.is_initialized():
            for worker in self._hired:
                self._ray.kill(worker)
            self._ray.shutdown()
        self._hired.clear()
        self._quiet.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.close()


def check_address(address: str) -> None:
    """See that an address is one.

    Raises:
        UsageError: it is not.
    """
    host, _, port = address.rpartition(":")
    if address not in ("local", "auto") and not (host and "/" not in host and port.isdecimal()):
        raise UsageError(f"--ray {address} is neither local nor auto nor HOST:PORT")


def _connect(address: str) -> None:
    """See whether anybody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"no Ray cluster at {address}: {error}") from None


def _import_ray() -> Any:
    # Nothing about this run is reported to Ray's makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(f"--ray needs Ray, which is not installed: {_INSTALL}") from None
    return ray


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
