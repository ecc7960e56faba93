"""The language of a text without a name, told by its content alone."""


def guess_language(text: str) -> str | None:
    """The key of a language, or None for a text that could be several or none."""
    return "python" if text.startswith("#!/usr/bin/env python") else None
