import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.config import build_config
from mindgeex.common.errors import UserError
from mindgeex.data.document import Document
from mindgeex.data.licences import (
    LicenceRules,
    canonical_licence,
    effective_licence,
    is_licence_file,
    licence_of,
    repository_licence,
    spdx_header,
)

APACHE = (Path(__file__).parents[2] / "LICENSE").read_text()
ISC = """ISC License

Copyright (c) {year} {owner}

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
"""


def document(licence: str | None = None, text: str = "x = 1\n") -> Document:
    return Document(text, "python", "r", "a.py", licence)


def reason(rules: LicenceRules, licence: str | None, text: str = "x = 1\n") -> str | None:
    (check,) = rules.filters()
    return check(document(licence, text))


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("# SPDX-License-Identifier: MIT\nx = 1\n", "MIT"),
        ("/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */\r\n", "GPL-2.0-only WITH Linux-syscall-note"),
        ("<!-- SPDX-License-Identifier: apache-2.0 or mit -->", "Apache-2.0 OR MIT"),
        ("// SPDX-License-Identifier: (GPL-2.0+ OR BSD-3-Clause)\n", "(GPL-2.0-or-later OR BSD-3-Clause)"),
        ("\n" * 29 + "# SPDX-License-Identifier: ISC", "ISC"),
        ("\n" * 30 + "# SPDX-License-Identifier: ISC", None),
        ("# SPDX-License-Identifier: Our-Own\n", "Our-Own"),
        ("# SPDX-License-Identifier:\n# MIT\n", None),
        ("# licensed under the MIT licence\n", None),
    ],
)
def test_a_header_in_the_first_thirty_lines_counts(text, licence):
    assert spdx_header(text) == licence


def test_the_file_s_header_wins_over_the_repository():
    assert effective_licence(document("GPL-3.0-only", "# SPDX-License-Identifier: MIT\n")) == "MIT"
    assert effective_licence(document("GPL-3.0-only")) == "GPL-3.0-only"
    assert effective_licence(document()) is None


def test_licence_texts_are_known_whoever_owns_them():
    assert licence_of(APACHE) == "Apache-2.0"
    assert licence_of(APACHE[: APACHE.index("APPENDIX")]) == "Apache-2.0"  # which askalono takes for Pixar's
    assert licence_of(ISC.format(year=1999, owner="A")) == licence_of(ISC.format(year=2024, owner="B and C")) == "ISC"
    assert licence_of("All rights reserved. Ask us before you use this.") is None
    assert licence_of("") is None and licence_of("   \n") is None


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("gpl-3.0", "GPL-3.0-only"),
        ("lgpl-2.1+", "LGPL-2.1-or-later"),
        ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
        ("other", None),
        ("", None),
    ],
)
def test_names_become_those_of_spdx(name, licence):
    assert canonical_licence(name) == licence


def test_the_licence_s_text_decides_then_what_the_package_declares():
    isc = ISC.format(year=2000, owner="A")
    declared = {"package.json": json.dumps({"license": "MIT OR Apache-2.0"})}
    assert repository_licence({"LICENSE": isc, **declared}) == "ISC"
    assert repository_licence({"LICENSE": "Ask us.", **declared}) == "MIT OR Apache-2.0"
    assert repository_licence({"LICENSE-APACHE": APACHE, "LICENSE-ISC": isc, **declared}) == "MIT OR Apache-2.0"
    assert repository_licence({"LICENSE-APACHE": APACHE, "LICENSE-ISC": isc}) == "Apache-2.0 AND ISC"
    assert repository_licence({}) is None


@pytest.mark.parametrize(
    ("name", "text", "licence"),
    [
        ("package.json", '{"license": {"type": "isc"}}', "ISC"),
        ("package.json", '{"license": 7}', None),
        ("package.json", '["license"]', None),
        ("package.json", "[" * 100_000, None),
        ("composer.json", '{"license": "proprietary"}', None),
        ("pyproject.toml", '[project]\nlicense = "MIT"\n', "MIT"),
        ("pyproject.toml", '[project]\nlicense = {text = "BSD 3-Clause"}\n', "BSD-3-Clause"),
        ("pyproject.toml", '[tool.poetry]\nlicense = "MIT"\n', "MIT"),
        ("pyproject.toml", '[project]\nlicense = {file = "LICENSE"}\n', None),
        ("pyproject.toml", "not = toml = at all", None),
        ("Cargo.toml", '[package]\nlicense = "MPL-2.0"\n', "MPL-2.0"),
        ("METADATA", "License: see the file\nClassifier: License :: OSI Approved :: ISC License (ISCL)\n\n", "ISC"),
        ("METADATA", "Name: x\n\nLicense: MIT\n", None),
        ("PKG-INFO", "License-Expression: 0BSD\nLicense: MIT\n", "0BSD"),
    ],
)
def test_package_metadata_declares_a_licence(name, text, licence):
    assert is_licence_file(name)
    assert repository_licence({name: text}) == licence


def test_licence_files_are_told_by_their_names():
    names = ("LICENSE", "licence.txt", "LICENSE-MIT", "COPYING.LESSER", "UNLICENSE", "License.md", "a/b/COPYING")
    assert [name for name in names if not is_licence_file(name)] == []
    others = ("license.py", "licenses.rs", "COPYINGS", "mylicense", "license_check.js", "LICENSE/readme", "README")
    assert [name for name in others if is_licence_file(name)] == []


def test_without_rules_everything_is_kept_without_being_looked_at():
    assert LicenceRules().filters() == []


def test_a_list_of_licences_keeps_what_one_may_choose_from_it():
    rules = LicenceRules(allow=("mit", "Apache-2.0", "GPL-2.0-only"))
    kept = (
        "MIT",
        "MIT OR Proprietary",
        "MIT AND Apache-2.0",
        "(MIT AND ISC) OR Apache-2.0",
        "GPL-2.0-only WITH Linux-syscall-note",
        "MIT AND (ISC OR Apache-2.0)",
    )
    assert [name for name in kept if reason(rules, name) is not None] == []
    dropped = (
        "ISC",
        "MIT AND ISC",
        "(MIT OR Apache-2.0) AND ISC",
        "GPL-2.0-or-later",
        "MIT OR",
        "(MIT",
        "MIT ISC",
        "AND",
    )
    assert [name for name in dropped if reason(rules, name) != "licence"] == []
    assert reason(rules, None) is None
    assert reason(rules, "ISC", "# SPDX-License-Identifier: MIT\n") is None
    assert reason(rules, "MIT", "# SPDX-License-Identifier: ISC\n") == "licence"


def test_an_exception_can_be_allowed_without_its_licence():
    rules = LicenceRules(allow=("GPL-2.0-only WITH Linux-syscall-note",))
    assert reason(rules, "GPL-2.0-only WITH Linux-syscall-note") is None
    assert reason(rules, "GPL-2.0-only") == "licence"


def test_files_without_a_known_licence_can_be_dropped():
    assert reason(LicenceRules(allow_unknown=False), None) == "no_licence"
    assert reason(LicenceRules(allow_unknown=False), "ISC") is None
    assert reason(LicenceRules(allow=("MIT",), allow_unknown=False), None) == "no_licence"


@pytest.mark.parametrize("name", ["Apache-2", "MTI", "MIT OR ISC", "MIT AND ISC", ""])
def test_a_name_that_is_no_licence_is_told(name):
    if name == "Apache-2":
        assert LicenceRules(allow=(name,)).filters()  # an old name of a licence there is
        return
    with pytest.raises(UserError, match="licences.allow: .* no SPDX identifier"):
        LicenceRules(allow=(name,))


def test_a_misspelt_licence_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'BSD-3-Clause'"):
        LicenceRules(allow=("BSD-3-Clauses",))


def test_rules_are_built_from_a_recipe():
    assert build_config(LicenceRules, {"allow": ["MIT"], "allow_unknown": False}, "x.yaml") == LicenceRules(
        ("MIT",), False
    )
    with pytest.raises(UserError, match="nothing would be kept"):
        LicenceRules(allow=(), allow_unknown=False)


TOKENS = st.lists(st.sampled_from(["MIT", "ISC", "AND", "OR", "WITH", "(", ")", "x"]), max_size=12).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300), expression=TOKENS)
def test_nothing_that_a_file_says_raises(text, expression):
    rules = LicenceRules(allow=("MIT",), allow_unknown=False)
    assert reason(rules, expression or None, text) in (None, "licence", "no_licence")
    header = f"# SPDX-License-Identifier: {expression} {text}\n"
    assert reason(rules, None, header) in (None, "licence", "no_licence")
    for name in ("package.json", "pyproject.toml", "Cargo.toml", "METADATA", "composer.json"):
        assert repository_licence({name: text}) is None or text
