"""A benchmark from the Hugging Face hub: its own client, against a server here that speaks its protocol."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eval.test_benchmarks import MBPP_ROW

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"mbpp.jsonl": json.dumps(MBPP_ROW).encode(), "unwanted.bin": b"x" * 1000}


class Hub(http.server.BaseHTTPRequestHandler):
    """One data set, `own/mbpp`."""

    asked: list[str] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.asked.append(path)
        if path.startswith("/api/datasets/own/mbpp"):
            siblings = [{"rfilename": name} for name in FILES]
            content = json.dumps({"id": "own/mbpp", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith(f"/datasets/own/mbpp/resolve/{COMMIT}/"):
            content = FILES[path.rsplit("/", 1)[1]]
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{len(content):040x}"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    pytest.importorskip("huggingface_hub")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def load(data: str, endpoint: str, cache: Path) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, since the client reads its settings when it is imported."""
    script = (
        "from mindgeex.common.errors import UserError\nfrom mindgeex.eval.benchmarks import benchmark\n"
        f"try:\n    data = benchmark('mbpp').load([], {data!r})\n    print(data.problems[0].task_id, data.source)\n"
        "except UserError as error:\n    print(error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)


def test_only_the_benchmarks_files_are_fetched_and_the_commit_is_kept(hub, tmp_path):
    done = load("hub:own/mbpp", hub, tmp_path)
    assert done.stdout == f"Mbpp/11 hub:own/mbpp@{COMMIT}\n", done.stderr
    assert not any("unwanted" in path for path in Hub.asked)


def test_a_data_set_that_is_not_there_is_named_with_the_remedy(hub, tmp_path):
    done = load("hub:own/nothing", hub, tmp_path)
    assert done.stdout.startswith("own/nothing cannot be had from the Hugging Face hub: ")
    assert done.stdout.endswith(": use --data FOLDER\n") and done.stdout.count("\n") == 1
