"""Comments in JSON: examples of rank tables have them, HCCL refuses them.

Covers: `//`, `#` and `/* */` outside of texts. Does not cover: trailing commas and the like, which stay errors.
"""

import re

TEXT_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|#[^\n]*|/\*.*?\*/', re.DOTALL)


def split_comments(text: str) -> tuple[str, list[tuple[int, str]]]:
    """JSON without its comments, and those.

    Returns:
        The text with blanks in the place of comments, so that lines and columns stay; line and text of each comment.
    """
    found: list[tuple[int, str]] = []

    def blank(match: re.Match[str]) -> str:
        part = match[0]
        if part.startswith('"'):
            return part
        found.append((text.count("\n", 0, match.start()) + 1, " ".join(part.split())))
        return re.sub(r"[^\n]", " ", part)

    return TEXT_OR_COMMENT.sub(blank, text), found
