"""A model behind an OpenAI-compatible API.

The server is a real HTTP server, on this machine, made here; it recites the problems' own solutions, and misbehaves on
request. No model and no server of anybody else is asked.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.endpoint import CHAT_PROMPT, EndpointCompleter
from mindgeex.eval.runner import read
from mindgeex.model_zoo.decoding.settings import Sampling

PROBLEMS = HUMANEVAL_X.load(["python"]).problems
STOP = HUMANEVAL_X.stop(PROBLEMS[0])
PROMPT = HUMANEVAL_X.prompt(PROBLEMS[0])
SOLUTION = PROBLEMS[0].canonical_solution


class Server(ThreadingHTTPServer):
    """Answers as long as `script` is empty; else does what its first entry says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.script: list[Any] = []
        self.several = True
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that we drop are meant to be."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append({**body, "path": self.path})
            self.server.headers.append(dict(self.headers))
            misdeed = self.server.script.pop(0) if self.server.script else None
            self.server.busy += 1
            self.server.most_busy = max(self.server.most_busy, self.server.busy)
        time.sleep(0.05)
        with self.server.lock:
            self.server.busy -= 1
        if misdeed == "drop":
            self.connection.close()
        elif misdeed is not None:
            self.answer(*misdeed)
        elif body["n"] > 1 and not self.server.several:
            self.answer(400, {"error": {"message": "n must be 1"}})
        else:
            self.answer(200, {"choices": [self.choice(body) for _ in range(body["n"])]})

    def choice(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        [problem] = [one for one in PROBLEMS if HUMANEVAL_X.prompt(one) in asked]
        if "prompt" in body:
            return {"text": f"{problem.canonical_solution}\nprint('and so on')\n"}
        code = problem.prompt + problem.canonical_solution
        return {"message": {"role": "assistant", "content": f"Here it is:\n```python\n{code}```\n"}}

    def answer(self, code: int, value: Any, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        for name, text in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as opened:
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def completer(server: Server, **options: Any) -> EndpointCompleter:
    return EndpointCompleter(server.url, "some-model", Sampling(temperature=0.2), first_wait_s=0.01, **options)


def test_a_completion_ends_with_its_function_and_the_request_has_all_settings(server):
    texts = completer(server, key="secret").complete(PROMPT, num_samples=3, seed=7, stop=STOP)
    assert [text.rstrip() for text in texts] == [SOLUTION.rstrip()] * 3
    assert server.asked == [{
        "path": "/v1/completions", "model": "some-model", "prompt": PROMPT, "n": 3, "seed": 7, "max_tokens": 128,
        "temperature": 0.2, "top_p": 0.95,
    }]  # fmt: skip
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_a_chat_model_is_asked_in_a_message_and_answers_whole(server):
    [text] = completer(server, api="chat").complete(PROMPT, num_samples=1, seed=7, stop=STOP)
    assert text.startswith("Here it is:\n```python\n") and text.endswith("```\n")
    assert server.asked[0]["path"] == "/v1/chat/completions"
    assert server.asked[0]["messages"] == [{"role": "user", "content": CHAT_PROMPT.format(prompt=PROMPT)}]
    assert "Authorization" not in server.headers[0]


def test_a_server_that_gives_one_sample_a_request_is_asked_several_times(server):
    server.several = False
    asking = completer(server)
    assert len(asking.complete(PROMPT, num_samples=3, seed=7, stop=STOP)) == 3
    assert [(asked["n"], asked["seed"]) for asked in server.asked] == [(3, 7), (1, 7), (1, 8), (1, 9)]
    asking.complete(PROMPT, num_samples=2, seed=1, stop=STOP)
    assert [asked["n"] for asked in server.asked[4:]] == [1, 1]


def test_a_server_that_is_busy_or_away_for_a_while_is_asked_again(server):
    server.script = [(429, {"error": {"message": "slow down"}}), (503, b""), "drop", (500, b"oops")]
    assert len(completer(server).complete(PROMPT, num_samples=1, seed=7, stop=STOP)) == 1
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([(401, {"error": {"message": "bad key"}})], "refuses: 401 bad key: put the key into the environment variable"),
        ([(404, {"message": "no such model"})], "404 no such model: is --endpoint the base of the API"),
        ([(400, {"error": {"message": "too\nlong"}})], "refuses: 400 too long: see what it says"),
        ([(302, b"")], "refuses: 302 "),
        ([(200, b"<html>")], "its answer is not JSON"),
        ([(200, {"choices": []})], r"its answer has no choices with text: .*choose the other --api\?"),
        ([(200, {"choices": [{"message": {"content": "x"}}]})], "has no choices with text"),
        (["drop"] * 7, "no answer after 7 attempts .*The same command goes on from here"),
        ([(503, b"")] * 7, "no answer after 7 attempts .503 Service Unavailable.: is the server there"),
    ],
)
def test_what_a_server_refuses_or_answers_otherwise_is_one_line(server, script, words):
    server.script = script
    with pytest.raises(UserError, match=words) as error:
        EndpointCompleter(server.url, "m", Sampling(), key="secret", first_wait_s=0.001).complete(
            PROMPT, num_samples=1, seed=7, stop=STOP
        )
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "sampling", "words"),
    [
        ("127.0.0.1:8000", Sampling(), "--endpoint 127.0.0.1:8000: not an address"),
        ("http://me:secret@host/v1", Sampling(), "may not hold a key or password"),
        ("http://host/v1", Sampling(top_k=5), "--top-k 5: the OpenAI API has no such setting"),
    ],
)
def test_addresses_and_settings_that_are_none_are_refused(url, sampling, words):
    with pytest.raises(UserError, match=words):
        EndpointCompleter(url, "m", sampling)


@pytest.mark.toolchain
def test_a_server_is_scored_and_a_run_that_it_interrupts_goes_on(server, tmp_path, sandbox):
    words = ["humaneval-x", "--endpoint", server.url, "--model", "some-model", "--requests", "3", "--num-samples", "2"]
    words += ["--key-variable", "SOME_KEY", "--rules", "codegeex", "sanitize", "--out", str(tmp_path)]

    def scored(*more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "mindgeex.cli.main", "eval", "run", *words, *more]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SOME_KEY": "secret"})

    def answered() -> int:
        path = tmp_path / "samples.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    server.script = [None, None, None, (400, b"enough"), *[(400, b"enough")] * 20]
    stopped = scored()
    assert stopped.returncode == 2 and "refuses: 400 enough" in stopped.stderr and stopped.stderr.count("\n") <= 2
    done = answered()
    assert 1 <= done <= 3
    server.script, server.asked = [], []
    finished = scored()
    assert finished.returncode == 0, finished.stderr
    assert "pass@1 = 100.0" in finished.stdout
    assert len(server.asked) == len(PROBLEMS) - done and server.most_busy >= 2
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret"}
    assert read(tmp_path).settings["model"]["endpoint"] == f"{server.url}/completions"
    assert not [path for path in tmp_path.iterdir() if b"Bearer" in path.read_bytes() or b"secret" in path.read_bytes()]
    refused = scored("--canonical")
    assert refused.returncode == 2 and "give one of --checkpoint FOLDER or --endpoint URL" in refused.stderr
