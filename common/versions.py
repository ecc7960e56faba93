"""What was installed when something was made: recorded in every manifest."""

import platform
from importlib import metadata

RECORDED = ("mindgeex", "mindspore", "mindformers", "numpy", "tokenizers", "tiktoken", "safetensors")


def installed_version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Python, the machine's architecture, and the packages that can change a result."""
    found = {name: version for name in RECORDED if (version := installed_version(name))}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}
