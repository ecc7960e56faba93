import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.data.engines import MAX_ATTEMPTS, EngineConfig, open_engine

ENGINES = [
    EngineConfig(),
    EngineConfig(workers=2),
    pytest.param("cluster", marks=pytest.mark.slow),
]


@dataclass(frozen=True)
class Task:
    number: int
    attempt: int = 0


def square(task: Task) -> tuple[int, int]:
    time.sleep(0.01 * (task.number % 3))
    return task.number**2, os.getpid()


def die_twice_on_five(task: Task) -> tuple[int, int]:
    if task.number == 5 and task.attempt < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number, task.attempt


def always_die(task: Task) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse_seven(task: Task) -> int:
    if task.number == 7:
        raise UserError("seven is refused")
    return task.number


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_results_come_in_the_order_of_the_tasks_and_tasks_are_taken_lazily(engine):
    taken = []

    def tasks():
        for number in range(40):
            taken.append(number)
            yield Task(number)

    with open_engine(engine) as opened:
        results = opened.map(square, tasks())
        first = next(results)
        assert len(taken) <= 9
        everything = [first, *results]
        assert [value for value, _ in everything] == [number**2 for number in range(40)]
        here = {pid for _, pid in everything} == {os.getpid()}
        assert here == (engine == EngineConfig())
        assert [n for n in opened.map(refuse_seven, map(Task, range(7)))] == list(range(7))
        with pytest.raises(UserError, match="seven is refused"):
            list(opened.map(refuse_seven, map(Task, range(9))))


@pytest.mark.slow
def test_without_an_address_ray_is_started_here():
    pytest.importorskip("ray", reason="no Ray here: make test EXTRAS=ray")
    with open_engine(EngineConfig("ray", workers=2)) as engine:
        assert [value for value, _ in engine.map(square, map(Task, range(8)))] == [n**2 for n in range(8)]


@pytest.mark.parametrize("engine", ENGINES[1:], indirect=True)
def test_a_worker_that_dies_costs_its_own_task_an_attempt_and_the_others_nothing(engine):
    with open_engine(engine) as opened:
        results = list(opened.map(die_twice_on_five, map(Task, range(12))))
    assert results == [(number, 2 if number == 5 else 0) for number in range(12)]


def test_a_task_that_kills_every_worker_ends_in_a_clear_error():
    with open_engine(EngineConfig(workers=2)) as engine, pytest.raises(UserError, match=f"{MAX_ATTEMPTS} workers died"):
        list(engine.map(always_die, [Task(1)]))


def test_a_worker_that_dies_while_it_has_nothing_to_do_is_replaced():
    with open_engine(EngineConfig(workers=2)) as engine:
        for _ in range(2):
            pids = {pid for _, pid in engine.map(square, map(Task, range(8)))}
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.3)
        assert [value for value, _ in engine.map(square, map(Task, range(8)))] == [n**2 for n in range(8)]


def test_an_interrupt_at_any_moment_is_one_line(tmp_path):
    """Also before the workers have begun."""
    script = tmp_path / "parent.py"
    script.write_text(
        "from tests.data.test_engines import Task, square\n"
        "from mindgeex.data.engines import EngineConfig, open_engine\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        with open_engine(EngineConfig(workers=4)) as engine:\n"
        "            print('open', flush=True)\n"
        "            list(engine.map(square, map(Task, range(10000))))\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for delay_s in (0.02, 0.05, 0.1, 0.2, 0.4):
        parent = subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )
        assert parent.stdout and parent.stdout.readline() == "open\n"
        time.sleep(delay_s)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.communicate(timeout=20) == ("interrupted\n", "")
        assert parent.returncode == 0


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from tests.data.test_engines import Task, sleep_long\n"
        "from mindgeex.data.engines import EngineConfig, open_engine\n"
        "if __name__ == '__main__':\n"
        "    with open_engine(EngineConfig(workers=2)) as engine:\n"
        "        list(engine.map(sleep_long, [Task(n) for n in range(4)]))\n"
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": root, "PIDS": str(tmp_path)},
    )
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def sleep_long(task: Task) -> None:
    (Path(os.environ["PIDS"]) / f"{os.getpid()}.pid").touch()
    time.sleep(60)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("options", "message"),
    [({"workers": -1}, "workers=-1"), ({"address": "auto"}, "only Ray has one: add --engine ray")],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        EngineConfig(**options)


def test_an_address_without_a_cluster_is_one_clear_line():
    pytest.importorskip("ray", reason="no Ray here: make test EXTRAS=ray")
    with (
        pytest.raises(UserError, match="--address 127.0.0.1:1: no Ray cluster there"),
        open_engine(EngineConfig("ray", address="127.0.0.1:1")),
    ):
        pass
