"""From a record to prompts and answers; a template has a name and a version, which a run's fingerprint holds.

| template | prompt | answer |
| --- | --- | --- |
| `plain` | every message so far, a line end behind each; a completion's prompt, exactly | the message, exactly |
| `codegeex_translation` | `code translation`, source language and program, target language | the program |
| `codefuse` | every message so far behind its role's marker, then the bot's | the message and a line end |

CodeFuse's markers are `<s>system`, `<s>human` and `<s>bot`, a line each.

A conversation gives one sample for each assistant's message, with all that came before as its prompt. So every answer
is learnt once and ends with EOD, and it sees what came before even where attention is cut at an EOD. MFTCoder puts EOD
into the middle of one sequence instead.

Sources: CodeGeeX codegeex/benchmark/utils.py (the translation prompt, as evaluated; its training prompts were not
published); codefuse-ai/MFTCoder mftcoder_accelerate/src/data/preprocess_data.py (markers and line ends).
Covers: text. Does not cover: markers as special tokens: they are ordinary text unless the tokenizer knows them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.data.instructions.records import BadRecord, Completion, Content, Conversation, Message, Translation


@dataclass(frozen=True)
class Sample:
    """What is learnt at once: to give the answer, and then to end."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Template:
    """How a record is put into words."""

    name: str
    version: int
    """Counted up whenever the words change."""
    samples: Callable[[Content], Iterator[Sample]]
    """Raises BadRecord for a record of a form that the template has no words for."""


LANGUAGE_NAMES = {
    "c": "C", "c++": "C++", "cpp": "C++", "c#": "C#", "csharp": "C#", "go": "Go", "java": "Java",
    "javascript": "JavaScript", "js": "JavaScript", "php": "PHP", "python": "Python", "rust": "Rust",
    "typescript": "TypeScript",
}  # fmt: skip
"""In lower case -> as the translation prompt says it (`C++` and `JavaScript`, else capitalised, as published)."""


def translation_prompt(source_language: str, target_language: str, source: str) -> str:
    """CodeGeeX's prompt for a translation, up to where the target begins."""
    return f"code translation\n{_language(source_language)}:\n{source.rstrip()}\n{_language(target_language)}:\n"


def template_named(name: str) -> Template:
    """The template that a user typed.

    Raises:
        UserError: there is none of that name.
    """
    if name not in TEMPLATES:
        raise UserError(f"template is {name!r}{did_you_mean(name, TEMPLATES)}")
    return TEMPLATES[name]


def _plain(content: Content) -> Iterator[Sample]:
    if isinstance(content, Translation):
        raise BadRecord("is a pair of programs: set template to codegeex_translation")
    if isinstance(content, Completion):
        yield Sample(content.prompt, content.completion)
        return
    yield from _answers(content, lambda message: f"{message.content}\n", "", "")


def _codegeex_translation(content: Content) -> Iterator[Sample]:
    if not isinstance(content, Translation):
        raise BadRecord("is no pair of programs: set template to plain or codefuse")
    yield Sample(translation_prompt(content.source_language, content.target_language, content.source), content.target)


def _codefuse(content: Content) -> Iterator[Sample]:
    if isinstance(content, Translation):
        raise BadRecord("is a pair of programs: set template to codegeex_translation")
    if isinstance(content, Completion):
        content = Conversation((Message("user", content.prompt), Message("assistant", content.completion)))
    markers = {"system": "<s>system\n", "user": "<s>human\n", "assistant": "<s>bot\n"}
    yield from _answers(content, lambda message: f"{markers[message.role]}{message.content}\n", "<s>bot\n", "\n")


def _answers(content: Conversation, told: Callable[[Message], str], begin: str, end: str) -> Iterator[Sample]:
    before = ""
    for message in content.messages:
        if message.role == "assistant":
            yield Sample(before + begin, message.content + end if message.content else "")
        before += told(message)


def _language(name: str) -> str:
    return LANGUAGE_NAMES.get(name.lower(), name.capitalize())


TEMPLATES = {
    template.name: template
    for template in (
        Template("plain", 1, _plain),
        Template("codegeex_translation", 1, _codegeex_translation),
        Template("codefuse", 1, _codefuse),
    )
}
