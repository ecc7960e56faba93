"""Records of instruction data: JSON lines in the forms that people have, told apart by their keys.

| keys of a line | what it is |
| --- | --- |
| `instruction`, `input` (may be missing or empty), `output` | a question and its answer |
| `prompt`, `completion` | a text and how it goes on, exactly |
| `messages`: `role` (system, user, assistant), `content` | a conversation |
| `chat_rounds`: `role` (system, human, bot), `content` | the same, as CodeFuse's MFTCoder has it |
| `source_language`, `target_language`, `source`, `target` | a program in two languages |

Covers: JSON lines, plain or compressed (gzip, Zstandard, bzip2, xz), a file or a folder of them; a line of another form
is an error that names it. Other keys (ids, sources) are left alone.
Does not cover: contents in several parts, tool calls, JSON in one array.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mindgeex.common.errors import UserError
from mindgeex.data.sources.rows import SUFFIXES, BadRow, read_rows
from mindgeex.data.sources.streams import Corrupt

Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "bot": "assistant",
}  # fmt: skip
"""How data sets call who speaks -> how we do."""

JSON_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix != ".parquet")


@dataclass(frozen=True)
class Message:
    """What one side says."""

    role: Role
    content: str


@dataclass(frozen=True)
class Conversation:
    """Messages: perhaps a system's, then user and assistant in turn; the last is an assistant's."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Completion:
    """A text and how it goes on; nothing is put between or around them."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Translation:
    """A program in two languages."""

    source_language: str
    target_language: str
    source: str
    target: str


Content: TypeAlias = Conversation | Completion | Translation


@dataclass(frozen=True)
class Record:
    """One entry of a data set."""

    content: Content
    key: str
    """Records of equal keys stay on one side of the held-out split."""
    where: str
    """File and line, for messages."""


class BadRecord(Exception):
    """The entry is of none of the known forms; the message names the key and the remedy."""


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file of JSON lines, or of all such files in a folder, by name.

    Raises:
        UserError: there are none, a file is damaged, or a line is of none of the known forms.
    """
    for file in _files(path):
        try:
            with file.open("rb") as stream:
                for number, row in read_rows(stream, ()):
                    if isinstance(row, BadRow):
                        raise UserError(f"{file}, line {number}: {row}: write one JSON object a line")
                    try:
                        yield Record(*content_of(row), f"{file}, line {number}")
                    except BadRecord as error:
                        raise UserError(f"{file}, line {number}: {error}") from None
        except Corrupt as error:
            raise UserError(f"{file}: damaged ({error}): copy it anew") from None
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}") from None


def content_of(row: Mapping[str, Any]) -> tuple[Content, str]:
    """Content and key of a record, from a line's object.

    Raises:
        BadRecord: it is of none of the known forms.
    """
    for keys, read in FORMS.items():
        if all(key in row for key in keys):
            return read(row)
    known = "; ".join(" + ".join(keys) for keys in FORMS)
    raise BadRecord(f"has the keys {', '.join(row) or 'none'}, which is none of the forms {known}: rename its keys")


def _instruction(row: Mapping[str, Any]) -> tuple[Content, str]:
    question = _text(row, "instruction")
    if row.get("input"):
        question = f"{question}\n{_text(row, 'input')}"
    answer = Message("assistant", _text(row, "output"))
    return Conversation((Message("user", question), answer)), question


def _completion(row: Mapping[str, Any]) -> tuple[Content, str]:
    prompt = _text(row, "prompt")
    return Completion(prompt, _text(row, "completion")), prompt


def _translation(row: Mapping[str, Any]) -> tuple[Content, str]:
    source, target = _text(row, "source"), _text(row, "target")
    languages = _text(row, "source_language"), _text(row, "target_language")
    return Translation(*languages, source, target), min(source, target)


def _messages(row: Mapping[str, Any]) -> tuple[Content, str]:
    return _conversation(row, "messages")


def _chat_rounds(row: Mapping[str, Any]) -> tuple[Content, str]:
    return _conversation(row, "chat_rounds")


def _conversation(row: Mapping[str, Any], key: str) -> tuple[Content, str]:
    entries = row[key]
    if not isinstance(entries, list) or not entries:
        raise BadRecord(f"key {key} is {_shown(entries)}: expected a list of messages with role and content")
    messages = tuple(_message(entry, f"{key}[{at}]") for at, entry in enumerate(entries))
    spoken = messages[1:] if messages[0].role == "system" else messages
    first = len(messages) - len(spoken)
    for at, message in enumerate(spoken):
        turn = ("user", "assistant")[at % 2]
        if message.role != turn:
            raise BadRecord(
                f"key {key}[{first + at}].role is {entries[first + at]['role']!r}, expected {turn}: "
                "after a system's message, if there is one, user and assistant speak in turn"
            )
    if len(spoken) % 2 or not spoken:
        raise BadRecord(f"key {key} ends without an assistant's message: there is no answer to learn; leave it out")
    return Conversation(messages), spoken[0].content


def _message(entry: object, where: str) -> Message:
    if not isinstance(entry, dict):
        raise BadRecord(f"key {where} is {_shown(entry)}: expected an object with role and content")
    role = entry.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise BadRecord(f"key {where}.role is {_shown(role)}: expected one of {', '.join(ROLES)}")
    return Message(ROLES[role], _text(entry, "content", f"{where}.content"))


def _text(row: Mapping[str, Any], key: str, where: str = "") -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise BadRecord(f"key {where or key} is {_shown(value)}: expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRecord(f"key {where or key} has half a character (place {error.start}): mend its escapes") from None
    return value


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]


FORMS: dict[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Content, str]]] = {
    ("messages",): _messages,
    ("chat_rounds",): _chat_rounds,
    ("source_language", "target_language", "source", "target"): _translation,
    ("instruction", "output"): _instruction,
    ("prompt", "completion"): _completion,
}
"""Keys that tell a form -> how it is read; the first that fits."""


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder: give JSON lines, or a folder in XLCoST's layout")
    if path.is_file():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.lower().endswith(JSON_SUFFIXES) and file.is_file())
    if not found:
        raise UserError(
            f"{path}: holds neither JSON lines (*{', *'.join(JSON_SUFFIXES[:3])}) nor folders of language pairs as "
            "XLCoST has them (C++-Java/train-C++-Java-tok.cpp)"
        )
    return found
