"""Licences: what a file says of itself, what a repository's licence file is, and which of them may be trained on.

Names are SPDX identifiers and expressions. A file's own SPDX header wins over its repository's licence.

Covers: SPDX headers, licence texts (askalono), the licence named in package metadata.
Does not cover: several licences in one text, exceptions stated in prose, files that quote another licence's text.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tomllib

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.data.document import Document
from mindgeex.data.filters import Filter

MIN_SCORE = 0.9
"""Likeness to a licence's text, 0 to 1, from which on a text is taken for it."""

HEADER_LINES = 30
LICENCE_BYTES = 1 << 18
"""A longer file is not read as a licence."""

COMMON = (
    "0BSD", "AFL-3.0", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause",
    "BSD-3-Clause", "BSD-4-Clause", "BSL-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "CECILL-2.1", "ECL-2.0",
    "EPL-1.0", "EPL-2.0", "EUPL-1.2", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "ISC",
    "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MIT", "MIT-0", "MPL-2.0", "MS-PL",
    "MulanPSL-2.0", "NCSA", "OFL-1.1", "PostgreSQL", "PSF-2.0", "Python-2.0", "Unlicense", "UPL-1.0", "Vim", "WTFPL",
    "X11", "Zlib", "ZPL-2.1",
)  # fmt: skip
"""What a mistyped name is compared with."""


@dataclass(frozen=True)
class LicenceRules:
    """Which licences are kept."""

    allow: tuple[str, ...] | None = None
    """SPDX identifiers; of `A OR B` one has to be among them, of `A AND B` both. None keeps everything."""

    allow_unknown: bool = True
    """Keep files whose licence is not known."""

    def __post_init__(self) -> None:
        for name in self.allow or ():
            found = canonical_licence(name)
            if found is None or " " in found.replace(" WITH ", "-WITH-"):
                raise UserError(f"licences.allow: {name!r} is no SPDX identifier{did_you_mean(name, COMMON)}")
        if self.allow is not None and not self.allow and not self.allow_unknown:
            raise UserError("licences.allow is empty and licences.allow_unknown false: nothing would be kept")

    def filters(self) -> list[Filter]:
        """The rule as a filter, giving `licence` or `no_licence`; none where everything is kept."""
        if self.allow is None and self.allow_unknown:
            return []
        allow = None if self.allow is None else frozenset(canonical_licence(name) or name for name in self.allow)

        def check(document: Document) -> str | None:
            licence = effective_licence(document)
            if licence is None:
                return None if self.allow_unknown else "no_licence"
            return None if allow is None or _allowed(licence, allow) else "licence"

        return [check]


def effective_licence(document: Document) -> str | None:
    """The licence of the file's own SPDX header, else its repository's; None if neither is known."""
    return spdx_header(document.text) or document.licence


_MARK = "SPDX-License-Identifier:"
_HEADER = re.compile(_MARK + r"[ \t]*([^\r\n]*)")
_EXPRESSION = re.compile(r"\(*[A-Za-z0-9][\w.+-]*\)*(?:\s+(?:AND|OR|WITH|and|or|with)\s+\(*[A-Za-z0-9][\w.+-]*\)*)*")


def spdx_header(text: str) -> str | None:
    """The SPDX expression in the first 30 lines, such as `GPL-2.0-only WITH Linux-syscall-note`; None without one.

    An expression SPDX does not know is given as it stands: the file has said something.
    """
    if _MARK not in text:
        return None
    found = _HEADER.search("\n".join(text.split("\n", HEADER_LINES)[:HEADER_LINES]))
    expression = _EXPRESSION.match(found[1]) if found else None
    return (canonical_licence(expression[0]) or expression[0][:100]) if expression else None


def licence_of(text: str) -> str | None:
    """The licence whose text this is, as an SPDX identifier; None for a score below MIN_SCORE."""
    return _identify(_OWNER.sub("", text))


_OWNER = re.compile(r"^[^\w\n]*(?:copyright|\(c\)|©)[^\n]*\d{4}[^\n]*$", re.IGNORECASE | re.MULTILINE)
"""Whose licence it is: left out, so that the texts of thousands of repositories are looked at once."""


_DERIVED = {"Pixar": ("Pixar", "Apache-2.0"), "AGPL-1.0-only": ("Affero", "GPL-2.0-only")}
"""Licences that change a few words of another, for which askalono takes that one where its appendix is missing: a word
that only they have, and the other."""


@functools.lru_cache(maxsize=256)
def _identify(text: str) -> str | None:
    import askalono  # takes 0.14 s a text, and opens its collection of texts anew each time

    if not text.strip():
        return None
    found = askalono.identify(text)
    if found is None or found.score < MIN_SCORE:
        return None
    word, instead = _DERIVED.get(found.name, ("", ""))
    return str(found.name) if word in text else instead


@functools.lru_cache(maxsize=4096)
def canonical_licence(name: str) -> str | None:
    """A name or expression as SPDX writes it: `apache-2.0` -> `Apache-2.0`, `MIT/ISC` -> `MIT OR ISC`.

    The versions of GNU's licences without `only` or `or-later` mean `only`, as SPDX has it.

    Returns:
        None if SPDX knows no such licence.
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    name = _ALIASES.get(" ".join(name.replace(",", " ").split()).lower(), name)
    try:
        found = str(canonicalize_license_expression(name.replace("/", " OR ")))
    except InvalidLicenseExpression:
        return None
    return _GNU.sub(lambda match: match[1] + ("-or-later" if match[2] else "-only"), found)


_GNU = re.compile(r"\b((?:AGPL|LGPL|GPL|GFDL)-\d\.\d)(\+)?(?![\w.+-])")
_ALIASES = {
    alias: name
    for name, aliases in {
        "Apache-2.0": ("apache 2.0", "apache 2", "apache license 2.0", "apache license version 2.0", "apache2",
                       "apache software license 2.0", "asl 2.0", "apache software license", "apache-2",
                       "the apache license version 2.0"),
        "MIT": ("mit license", "the mit license", "mit licence", "expat", "mit license (mit)"),
        "BSD-3-Clause": ("new bsd", "bsd 3-clause", "3-clause bsd", "bsd 3-clause license", "3-clause bsd license",
                         "modified bsd", "new bsd license", "bsd-3"),
        "BSD-2-Clause": ("simplified bsd", "bsd 2-clause", "2-clause bsd", "bsd 2-clause license", "bsd-2"),
        "GPL-2.0-only": ("gplv2", "gpl v2", "gpl-2"),
        "GPL-3.0-only": ("gplv3", "gpl v3", "gpl-3", "gnu general public license v3 (gplv3)"),
        "GPL-2.0-or-later": ("gplv2+", "gpl-2+", "gnu general public license v2 or later (gplv2+)"),
        "GPL-3.0-or-later": ("gplv3+", "gpl-3+", "gnu general public license v3 or later (gplv3+)"),
        "LGPL-3.0-only": ("lgplv3", "gnu lesser general public license v3 (lgplv3)"),
        "MPL-2.0": ("mpl 2.0", "mozilla public license 2.0", "mozilla public license 2.0 (mpl 2.0)"),
        "ISC": ("isc license", "isc license (iscl)"),
        "PSF-2.0": ("psf", "python software foundation license"),
        "Unlicense": ("the unlicense", "the unlicense (unlicense)", "public domain (unlicense)"),
        "Zlib": ("zlib license", "zlib/libpng license"),
    }.items()
    for alias in aliases
}  # fmt: skip


def _allowed(licence: str, allow: frozenset[str]) -> bool:
    """Whether an expression is fulfilled; a `WITH` exception only gives more, so its licence is enough."""
    tokens = re.findall(r"[()]|[^\s()]+", licence)[::-1]

    def either() -> bool:
        result = both()
        while tokens and tokens[-1].upper() == "OR":
            tokens.pop()
            result |= both()
        return result

    def both() -> bool:
        result = one()
        while tokens and tokens[-1].upper() == "AND":
            tokens.pop()
            result &= one()
        return result

    def one() -> bool:
        token = tokens.pop()
        if token == "(":
            result = either()
            return tokens.pop() == ")" and result
        result = token in allow
        if len(tokens) > 1 and tokens[-1].upper() == "WITH":
            tokens.pop()
            result |= f"{token} WITH {tokens.pop()}" in allow
        return result

    try:
        return either() and not tokens
    except IndexError:  # it ends where something has to follow
        return False


_LICENCE_NAME = re.compile(r"(?:un)?licen[cs]e(?:[-._].*)?|copying(?:[-._].*)?", re.IGNORECASE)
_NOT_TEXT = (".py", ".js", ".ts", ".go", ".c", ".h", ".java", ".rs", ".json", ".html", ".xml", ".toml", ".yml", ".yaml")


def is_licence_file(path: str) -> bool:
    """True for the file names in which a repository states its licence: its text, or package metadata."""
    name = path.rpartition("/")[2]
    return name in _DECLARED or bool(_LICENCE_NAME.fullmatch(name) and not name.lower().endswith(_NOT_TEXT))


def repository_licence(files: Mapping[str, str]) -> str | None:
    """The licence of a repository by the files at its top.

    The text of a licence decides. Where there is none, or several that differ, what the package's metadata declares;
    where that is missing too, all of the texts have to be fulfilled.

    Args:
        files: name -> content, of names for which `is_licence_file` is true.
    """
    names = sorted(files)
    found = sorted({licence for name in names if name not in _DECLARED and (licence := licence_of(files[name]))})
    if len(found) == 1:
        return found[0]
    declared = (_declared(name, files[name]) for name in names if name in _DECLARED)
    return next((licence for licence in declared if licence), " AND ".join(found) or None)


def _declared(name: str, text: str) -> str | None:
    try:
        value = _DECLARED[name](text)
    except (ValueError, AttributeError, TypeError, RecursionError):  # not what a file of this name looks like
        return None
    return canonical_licence(value) if isinstance(value, str) and len(value) < 200 else None


def _of_json(text: str) -> Any:
    value = json.loads(text).get("license")
    return value.get("type") if isinstance(value, dict) else value


def _of_pyproject(text: str) -> Any:
    tree = tomllib.loads(text)
    value = tree.get("project", {}).get("license") or tree.get("tool", {}).get("poetry", {}).get("license")
    return value.get("text") if isinstance(value, dict) else value


def _of_cargo(text: str) -> Any:
    return tomllib.loads(text).get("package", {}).get("license")


_FIELD = re.compile(r"^(License-Expression|License|Classifier):[ \t]*([^\r\n]*)", re.MULTILINE)


def _of_metadata(text: str) -> Any:
    """A Python package's metadata: its expression, its licence field, or the one licence among its classifiers."""
    fields = _FIELD.findall(text.partition("\n\n")[0])
    for wanted in ("License-Expression", "License"):
        value = next((value for field, value in fields if field == wanted), None)
        if value and canonical_licence(value):
            return value
    mark = "License :: OSI Approved :: "
    approved = [value.removeprefix(mark) for field, value in fields if field == "Classifier" and mark in value]
    return approved[0] if len(approved) == 1 else None


_DECLARED: dict[str, Callable[[str], Any]] = {
    "package.json": _of_json,
    "composer.json": _of_json,
    "pyproject.toml": _of_pyproject,
    "Cargo.toml": _of_cargo,
    "PKG-INFO": _of_metadata,
    "METADATA": _of_metadata,
}
"""File of package metadata -> what reads its licence."""
