"""JavaScript: Node. A failed `console.assert` throws, as the tests mean it; merely writing something is no failure.

The tests see a console of their own, made after the solution has run, so a solution that replaces `console.assert` (or
freezes it) gains nothing. The file is deleted once it is read, since it holds the secret.
"""

import os
import shutil
from pathlib import Path

from mindgeex.eval.languages.language import Language, Library, Proof, Toolchain, ask, place

TESTS = """
;((console) => {{
{tests}
}})({{
  __proto__: console,
  assert(holds, message) {{ if (!holds) throw new Error("console.assert failed" + (message ? ": " + message : "")) }},
}});
require("fs").writeSync({descriptor}, "{secret}");
"""
HIDE = """
const { rmSync } = require("fs"), { prototype } = require("module"), compile = prototype._compile;
prototype._compile = function (...given) {
  prototype._compile = compile;
  rmSync(given[1], { force: true });
  return compile.apply(this, given);
};
"""
"""Loaded before the program: deletes its file between reading and running it."""
PACKAGE = "js-md5"
"""The one package that a problem of HumanEval-X requires (JavaScript/162)."""
MODULES = "/opt/node_modules"


def package() -> Path | None:
    """Where `npm install --global` has put the package; Debian's node looks elsewhere for its own packages."""
    node = Path(os.path.realpath(shutil.which("node") or "node"))
    roots = (node.parents[1] / "lib/node_modules", Path("/usr/local/lib/node_modules"), Path("/usr/share/nodejs"))
    return next((root / PACKAGE for root in roots if (root / PACKAGE).is_dir()), None)


def locate() -> Toolchain:
    """Node; its heap is kept below the sandbox's memory limit."""
    node, folders = place("node", "/opt/node")
    if found := package():
        folders |= {str(found): f"{MODULES}/{PACKAGE}"}
    return Toolchain(
        version=f"node {ask('node', '--version')}",
        run=(node, "--max-old-space-size=512", "--require", "./hide.js", "main.js"),
        folders=folders,
        files={"hide.js": HIDE.encode()},
        environment={"NODE_PATH": MODULES},
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """One file: solution, tests in a scope of their own, secret."""
    return {"main.js": solution + TESTS.format(tests=tests, **vars(proof))}


LANGUAGE = Language(
    key="javascript",
    title="JavaScript",
    tools=(("node", "nodejs"),),
    locate=locate,
    prove=prove,
    failed_test="console.assert failed",
    libraries=(
        Library(
            PACKAGE,
            rf"""require\(["']{PACKAGE}["']\)""",
            f"npm install --global {PACKAGE}",
            lambda: package() is not None,
        ),
    ),
)
