"""Go: compiler and linker called directly, on the standard library as `go list -export` gives it (from Go 1.18 on).

The tests are functions of package testing and use testify's `assert`; a small package of the same import path and the
same rule of equality stands in for it (go_packages/assert.go), so that nothing is downloaded. Where tests do no more
with their `t` than hand it to `assert.New`, a small package stands in for testing, too (go_packages/testing.go). Each
test function is called by a `main` of ours, which writes the secret if none of them failed (never if there is none).
Does not cover: packages outside the standard library, cgo.
"""

import re
from pathlib import Path

from mindgeex.common.prepared import build, prepared
from mindgeex.eval.languages.language import Language, Proof, Toolchain, ask

ASSERT_PATH = "github.com/stretchr/testify/assert"
SOURCES = Path(__file__).parent / "go_packages"
INSIDE = "/opt/go-packages"

MAIN = """package main

import (
	"syscall"
	"testing"
)

func main() {{
	tests := []testing.InternalTest{{
		{{Name: "tests", F: func(t *testing.T) {{
			{calls}
			if !t.Failed() {{
				syscall.Write({descriptor}, []byte("{secret}"))
			}}
		}}}},
	}}
	testing.Main(func(string, string) (bool, error) {{ return true, nil }}, tests, nil, nil)
}}
"""


def locate() -> Toolchain:
    """Compiler, linker, where each package of the standard library lies compiled, and our two packages."""
    version = ask("go", "version")
    root, tools, cache = (ask("go", "env", name) for name in ("GOROOT", "GOTOOLDIR", "GOCACHE"))
    packages = ask("go", "list", "-export", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", "std")
    table = "".join(f"packagefile {line}\n" for line in packages.splitlines())
    folders = {}
    if not root.startswith("/usr/"):
        folders[root] = "/opt/go"
    if f"={cache}/" in packages:  # from Go 1.20 on, the standard library is compiled into the cache
        folders[cache] = "/opt/go-cache"

    def seen(text: str) -> str:
        for outside, shown in folders.items():
            text = text.replace(outside, shown)
        return text

    def make(folder: Path) -> None:
        (folder / "table").write_text(table)
        for name, path in (("assert", ASSERT_PATH), ("testing", "testing")):
            command = [
                f"{tools}/compile",
                "-p",
                path,
                "-importcfg",
                "table",
                "-trimpath",
                str(SOURCES),
                "-o",
                f"{name}.a",
            ]
            build([*command, str(SOURCES / f"{name}.go")], folder)
        whole = f"{seen(table)}packagefile {ASSERT_PATH}={INSIDE}/assert.a\n"
        (folder / "whole").write_text(whole)
        (folder / "small").write_text(
            re.sub("(?m)^packagefile testing=.*", f"packagefile testing={INSIDE}/testing.a", whole)
        )

    made_from = [
        version,
        root,
        tools,
        table,
        *(path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.go"))),
    ]
    made = prepared("go-packages", made_from, make)
    return Toolchain(
        version=version,
        # Neither lives long enough for its garbage collector to be worth its time.
        compile=(
            "export GOGC=off GOMEMLIMIT=1GiB; read -r packages <packages && "
            f"{seen(tools)}/compile -p main -complete -importcfg {INSIDE}/$packages -o main.a main.go proof.go && "
            f"{seen(tools)}/link -s -w -importcfg {INSIDE}/$packages -o program main.a"
        ),
        run=("./program",),
        folders={**folders, str(made): INSIDE},
        environment={"GOROOT": seen(root)},
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """The program, beside it a `main` that calls its tests, and which packages it is linked with."""
    calls = "; ".join(f"{name}(t)" for name in re.findall(r"^func (Test\w*)\(", tests, re.MULTILINE))
    calls = calls or 'panic("the problem has no test function")'
    return {
        "main.go": f"{solution}\n{tests}\n",
        "proof.go": MAIN.format(calls=calls, **vars(proof)),
        "packages": "whole\n" if needs_testing(solution, tests) else "small\n",
    }


def needs_testing(solution: str, tests: str) -> bool:
    """Whether a program may use more of package testing than its stand-in has."""
    code = solution + re.sub(r"\(t \*testing\.T\)|\bassert\.New\(t\)", "", tests)
    return bool(
        re.search(r"\btesting\.|\btesting/|[\w.][ \t]*\"testing\"|`testing`", code)
        or re.search(r"\bt\b", code[len(solution) :])
    )


LANGUAGE = Language(
    key="go",
    title="Go",
    tools=(("go", "golang-go"),),
    locate=locate,
    prove=prove,
    failed_test="assertion failed: ",
)
