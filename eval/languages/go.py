"""Go: compiler and linker called directly, on the standard library as `go list -export` gives it (from Go 1.18 on).

The tests are functions of package testing and use testify's `assert`; a small package of the same import path and the
same rule of equality stands in for it (go_assert/assert.go), so that nothing is downloaded. Each test function is
called by a `main` of ours, which writes the secret if none of them failed (and never if there is none).
Does not cover: packages outside the standard library, cgo.
"""

import re
import tempfile
from pathlib import Path

from mindgeex.common.prepared import build
from mindgeex.eval.languages.language import Language, Proof, Toolchain, ask

ASSERT_PATH = "github.com/stretchr/testify/assert"
ASSERT_SOURCE = Path(__file__).parent / "go_assert" / "assert.go"

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
    """Compiler, linker, where each package of the standard library lies compiled, and the compiled assert package."""
    root, tools, cache = (ask("go", "env", name) for name in ("GOROOT", "GOTOOLDIR", "GOCACHE"))
    packages = ask("go", "list", "-export", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", "std")
    table = [f"packagefile {line}" for line in packages.splitlines()]
    folders = {}
    if not root.startswith("/usr/"):
        folders[root] = "/opt/go"
    if f"={cache}/" in packages:  # from Go 1.20 on, the standard library is compiled into the cache
        folders[cache] = "/opt/go-cache"

    def seen(text: str) -> str:
        for outside, shown in folders.items():
            text = text.replace(outside, shown)
        return text

    config = seen("\n".join([*table, f"packagefile {ASSERT_PATH}=assert.a", ""]))
    return Toolchain(
        version=ask("go", "version"),
        compile=(
            f"{seen(tools)}/compile -p main -complete -importcfg packages -o main.a main.go proof.go && "
            f"{seen(tools)}/link -s -w -importcfg packages -o program main.a"
        ),
        run=("./program",),
        folders=folders,
        files={"assert.a": _compiled_assert(tools, table), "packages": config.encode()},
        environment={"GOROOT": seen(root)},
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """The program, and beside it a `main` that calls its tests."""
    calls = "; ".join(f"{name}(t)" for name in re.findall(r"^func (Test\w*)\(", tests, re.MULTILINE))
    calls = calls or 'panic("the problem has no test function")'
    return {"main.go": f"{solution}\n{tests}\n", "proof.go": MAIN.format(calls=calls, **vars(proof))}


def _compiled_assert(tools: str, table: list[str]) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "packages").write_text("\n".join(table) + "\n")
        command = [f"{tools}/compile", "-p", ASSERT_PATH, "-importcfg", "packages", "-o", "assert.a"]
        build([*command, str(ASSERT_SOURCE)], folder)
        return (folder / "assert.a").read_bytes()


LANGUAGE = Language(
    key="go",
    title="Go",
    tools=(("go", "golang-go"),),
    locate=locate,
    prove=prove,
    failed_test="assertion failed: ",
)
