"""Tasks on a Ray cluster: one that runs already, or one of this machine alone.

Covers: workers and nodes that die. Does not cover: nodes that do not share the folder of the corpus and the sources, or
have another version of the project.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.versions import installed_version

ENVIRONMENT = {
    # google.protobuf's C++ implementation, if loaded before mindspore, makes `import mindspore` abort.
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
    "GLOG_v": "3",
}
"""What every worker needs."""

ANSWER_TIMEOUT_S = 10.0
"""How long a cluster's head node may take to accept a connection."""


@contextlib.contextmanager
def ray_pool(workers: int, address: str | None) -> Iterator["RayPool"]:
    """Connects to a cluster, or starts one of `workers` CPUs here, and leaves it at the end of the block.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """
    for name, value in {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray: Ray is not installed: pip install 'mindgeex[ray]'") from None
    if address not in (None, "auto"):
        _must_answer(str(address))
    settings: dict[str, Any] = {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
    if address:  # what is started here has this process's environment
        settings = {"runtime_env": {"env_vars": ENVIRONMENT}}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--address {address}: no Ray cluster there ({reason}): start one with `ray start`") from None
    if threading.current_thread() is threading.main_thread():  # Ray's own prints a stack and leaves no time to close
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        width = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield RayPool(ray, width)
    finally:
        ray.shutdown()


def _must_answer(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster there ({error}): give HOST:PORT of its head node, or `auto`"
        ) from None


def ray_version() -> str:
    """The installed Ray.

    Raises:
        UserError: there is none.
    """
    if (version := installed_version("ray")) is None:
        raise UserError("not installed: pip install 'mindgeex[ray]'")
    return version


class RayPool:
    """One Ray task a task; Ray chooses the node. Made by `ray_pool`."""

    def __init__(self, ray: Any, width: int):
        self.width = width
        self._ray = ray
        self._run = ray.remote(max_retries=0, num_cpus=1)(_call)

    def submit(self, function: Callable[[Any], Any], task: Any) -> "Future[Any]":
        """Starts a Ray task; see engines.Pool."""
        future: Future[Any] = self._run.remote(function, task).future()
        return future

    def settle(self, future: "Future[Any]") -> bool:
        """Whether the worker or its node died; see engines.Pool."""
        error = future.exception()
        if isinstance(error, self._ray.exceptions.RayTaskError):  # what the function itself raised
            raise error.cause
        return error is not None


def _call(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)
