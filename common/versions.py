"""What was installed when something was made: recorded in every manifest."""

import platform
from collections.abc import Iterable
from importlib import metadata

RECORDED = (
    "mindgeex", "mindspore", "mindformers", "numpy", "tokenizers", "tiktoken", "sentencepiece", "safetensors",
    "zstandard", "rensa", "pyaskalono", "tree-sitter",
)  # fmt: skip


def installed_version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Python, the machine's architecture, and the packages that can change a result; `more` are a room's own."""
    found = {name: version for name in (*RECORDED, *more) if (version := installed_version(name))}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}
