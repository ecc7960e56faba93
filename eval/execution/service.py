"""Compilers that stay in a sandbox of their own and compile one program after the other.

A service executes nothing of what it compiles; each program then runs in a sandbox of its own. It reads requests from
its standard input (a 4-byte length, and a source) and writes answers to the descriptor it is given as last argument:
one byte (0: compiled), 4 bytes with the milliseconds of CPU time it took, the compiler's words and the program, each
with a 4-byte length. There is one for each request that is under way at once; a service that has nothing to do for a
few seconds, or has done enough, ends, and one that passes a limit is killed (watch.py).
Does not cover: a program that takes over the compiler through an error in it could judge what is compiled after it.
"""

import contextlib
import struct
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mindgeex.eval.execution.job import Channel, Job, Result, pipe
from mindgeex.eval.execution.watch import Watch
from mindgeex.eval.languages.language import COMPILE_LIMITS, Toolchain

if TYPE_CHECKING:
    from mindgeex.eval.execution.sandbox import Sandbox

MOST_REQUESTS = 500
"""After which a service makes room for a fresh one."""
LIFETIME_CPU_S = 3600
"""The kernel's own limit on a service; what one request may use is watched."""


class Services:
    """The services of a sandbox; used from many threads."""

    def __init__(self, sandbox: "Sandbox") -> None:
        """None is started yet."""
        self._sandbox = sandbox
        self._lock = threading.Lock()
        self._resting: dict[tuple[str, ...], list[_Service]] = {}

    def compile(self, toolchain: Toolchain, source: bytes) -> Result:
        """Has a program compiled: the result's output is what the compiler said, its channel the program.

        Raises:
            UserError: the sandbox could not be set up.
        """
        assert toolchain.service is not None
        while True:
            with self._lock:
                resting = self._resting.setdefault(toolchain.service, [])
                service = resting.pop() if resting else None
            service = service or _Service(self._sandbox, toolchain)
            if result := service.compile(source):
                with self._lock:
                    if service.requests < MOST_REQUESTS:
                        resting.append(service)
                    else:
                        service.end()
                return result
            ended = service.ended()
            if service.requests == 1 or ended.stopped_by not in (None, "rest"):
                return ended
            # It was about to end, or has ended without a word after others: a fresh one is asked the same.

    def end(self) -> None:
        """Tells those that rest that there are no more requests."""
        with self._lock:
            for resting in self._resting.values():
                while resting:
                    resting.pop().end()


class _Service:
    """One of them."""

    def __init__(self, sandbox: "Sandbox", toolchain: Toolchain) -> None:
        assert toolchain.service is not None
        given, self._requests = pipe()
        self._channel = Channel(COMPILE_LIMITS.files_bytes, self._arrived)
        self._answer: Result | None = None
        self._told = threading.Event()
        self._watch: Watch | None = None
        self._error: Exception | None = None
        self.requests = 0
        command = (*toolchain.service, str(self._channel.number))
        limits = replace(COMPILE_LIMITS, cpu_s=LIFETIME_CPU_S)
        job = Job(command, {}, toolchain.folders, toolchain.environment, limits)

        def follow() -> None:
            try:
                with sandbox.started(job, self._channel, given) as watch:
                    watch.limits = COMPILE_LIMITS
                    self._watch = watch
                    watch.follow()
            except Exception as error:
                self._error = error
            finally:
                self._told.set()

        self._thread = threading.Thread(target=follow, daemon=True)
        self._thread.start()

    def compile(self, source: bytes) -> Result | None:
        """The answer, or None if the service has ended instead."""
        self._answer = None
        self.requests += 1
        if self._thread.is_alive():
            self._told.clear()
        if self._watch and self.requests > 1:
            self._watch.begin()
        started = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            request = memoryview(struct.pack(">i", len(source)) + source)
            while request:
                request = request[self._requests.write(request) or 0 :]
        while not self._told.wait(1.0) and self._thread.is_alive():
            pass
        if self._answer is None:
            return None
        assert self._watch is not None  # whoever answers has been started
        self._watch.rest()
        return replace(self._answer, wall_s=round(time.monotonic() - started, 3))

    def ended(self) -> Result:
        """What became of a service that gave no answer."""
        self._thread.join()
        self.end()
        if self._error is not None or self._watch is None:
            raise self._error or RuntimeError("a service was never started")
        return self._watch.result()

    def end(self) -> None:
        """Tells it that there are no more requests."""
        self._requests.close()

    def _arrived(self, answer: bytearray) -> None:
        """Takes an answer as soon as it is whole."""
        if len(answer) < 9:
            return
        failed, millis, words = struct.unpack(">?ii", answer[:9])
        if len(answer) < 13 + words:
            return
        (size,) = struct.unpack(">i", answer[9 + words : 13 + words])
        if len(answer) < 13 + words + size:
            return
        said, program = answer[9 : 9 + words].decode("utf-8", "replace"), bytes(answer[13 + words :])
        answer.clear()
        self._answer = Result(int(failed), None, None, millis / 1000, 0.0, said, program)
        self._told.set()
