"""A model behind an OpenAI-compatible server (vLLM, MindIE, llama.cpp, a hosted one) as what continues prompts.

Covers: the completions API, which continues a prompt as a base model does, and the chat API, where the prompt is put
into a request and post-processing finds the function in the answer; servers that give one sample a request; back-off
where a server is busy or away; several problems at once (from threads).
Does not cover: streaming; asking the server to stop (answers are cut here, so tokens behind the function are paid for);
top-k and repetition penalty, which the API does not have. Whether a server keeps to the seed is its own affair.
"""

import email.message
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, Any, Literal

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.settings import Sampling
from mindgeex.model_zoo.decoding.stops import Stop, end_of

Api = Literal["completions", "chat"]
PATHS: dict[Api, str] = {"completions": "completions", "chat": "chat/completions"}
CHAT_PROMPT = "Continue the code below. Answer with the completed code alone, in one fenced block.\n\n{prompt}"
CHAT_PROMPT_VERSION = "chat-v1"
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""What a server answers when it is worth asking again."""
REFUSES_SEVERAL = frozenset({400, 422})
"""What a server answers that gives one sample a request, for instance where nothing is random."""
MAX_ATTEMPTS = 7
MAX_WAIT_S = 60.0
SEEDS = 2**31


class EndpointCompleter:
    """Asks a server. May be used from several threads."""

    def __init__(
        self,
        url: str,
        model: str,
        sampling: Sampling,
        *,
        api: Api = "completions",
        key: str | None = None,
        timeout_s: float = 600.0,
        first_wait_s: float = 1.0,
    ):
        """Asks nothing yet.

        Args:
            url: base of the API, such as http://127.0.0.1:8000/v1.
            model: its name there.
            sampling: how tokens are chosen.
            api: which of the two.
            key: what the server knows us by; it is never written anywhere.
            timeout_s: for one answer.
            first_wait_s: before a request is repeated; each further wait is twice as long.

        Raises:
            UserError: the address is none, or holds a password, or the settings are not the API's.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--endpoint {url}: not an address: give the base of the API, as http://127.0.0.1:8000/v1")
        if "@" in parts.netloc or parts.query:
            raise UserError("--endpoint: the address is kept in the report, so it may not hold a key or password")
        defaults = Sampling()
        for name in ("top_k", "repetition_penalty"):
            if getattr(sampling, name) != getattr(defaults, name):
                option = name.replace("_", "-")
                raise UserError(
                    f"--{option} {getattr(sampling, name)}: the OpenAI API has no such setting: leave it out"
                )
        self.address = f"{url.rstrip('/')}/{PATHS[api]}"
        self.model, self.sampling, self.api, self._key = model, sampling, api, key
        self.timeout_s, self.first_wait_s = timeout_s, first_wait_s
        self._gives_several = True
        self._open = urllib.request.build_opener(_NoRedirect).open
        self.description: dict[str, object] = {
            "endpoint": self.address,
            "model": model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_new_tokens": sampling.max_new_tokens,
            **({"chat_prompt": CHAT_PROMPT_VERSION} if api == "chat" else {}),
        }

    def complete(self, prompt: str, *, num_samples: int, seed: int, stop: Stop) -> list[str]:
        """`num_samples` continuations of a prompt; the chat API's answers are whole.

        Raises:
            UserError: the server refuses, stays away, or answers something else.
        """
        texts: list[str] = []
        while len(texts) < num_samples:
            wanted = num_samples - len(texts) if self._gives_several else 1
            body = {"model": self.model, "n": wanted, "seed": (seed + len(texts)) % SEEDS, **self._asked(prompt)}
            answer = self._ask(body)
            if answer is None:
                self._gives_several = False
                continue
            texts += self._texts(answer)[:wanted]
        return texts if self.api == "chat" else [text[: end_of(stop, text)] for text in texts]

    def _asked(self, prompt: str) -> dict[str, Any]:
        settings = {
            "max_tokens": self.sampling.max_new_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
        }
        if self.api == "chat":
            return {"messages": [{"role": "user", "content": CHAT_PROMPT.format(prompt=prompt)}], **settings}
        return {"prompt": prompt, **settings}

    def _ask(self, body: dict[str, Any]) -> Any:
        """The server's answer; None if it is to be asked for one sample at a time."""
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.address, json.dumps(body).encode(), headers)
        wait_s = self.first_wait_s
        for attempt in range(1, MAX_ATTEMPTS + 1):
            asked_to_wait_s = 0.0
            try:
                with self._open(request, timeout=self.timeout_s) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                with error:
                    said = f"{error.code} {_message(error)}"
                if error.code in REFUSES_SEVERAL and body["n"] > 1:
                    return None
                if error.code not in PASSING:
                    raise UserError(f"{self.address} refuses: {said}: {self._remedy(error.code)}") from None
                asked_to_wait_s = _seconds(error.headers)
            except (OSError, http.client.HTTPException) as error:  # includes URLError and timeouts
                said = str(getattr(error, "reason", error)) or type(error).__name__
            except ValueError as error:
                raise UserError(f"{self.address}: its answer is not JSON ({error}): is it an OpenAI API?") from None
            if attempt < MAX_ATTEMPTS:
                time.sleep(min(MAX_WAIT_S, max(wait_s, asked_to_wait_s)))
                wait_s *= 2
        raise UserError(
            f"{self.address}: no answer after {MAX_ATTEMPTS} attempts ({said}): is the server there? The same command "
            "goes on from here"
        )

    def _texts(self, answer: Any) -> list[str]:
        try:
            choices = answer["choices"]
            is_chat = self.api == "chat"
            texts = [(choice["message"]["content"] or "") if is_chat else choice["text"] for choice in choices]
        except (KeyError, TypeError):
            texts = []
        if not texts or not all(isinstance(text, str) for text in texts):
            shown = json.dumps(answer, ensure_ascii=False)[:200]
            raise UserError(f"{self.address}: its answer has no choices with text: {shown}: choose the other --api?")
        return texts

    def _remedy(self, code: int) -> str:
        if code in (401, 403):
            return "put the key into the environment variable that --key-variable names"
        if code == 404:
            return f"is --endpoint the base of the API (it often ends in /v1), and --model {self.model} served there?"
        return "see what it says"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is for this server and no other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def _message(error: urllib.error.HTTPError) -> str:
    """What the server says, in one line."""
    content = error.read(10_000).decode("utf-8", "replace")
    try:
        found = json.loads(content)
        content = found["error"]["message"] if isinstance(found.get("error"), dict) else found["message"]
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    return " ".join(f"{content or error.reason}".split())[:300]


def _seconds(headers: email.message.Message) -> float:
    """What the server asks to wait; a date counts as nothing."""
    value = headers.get("Retry-After") or ""
    return float(value) if value.isdecimal() else 0.0
