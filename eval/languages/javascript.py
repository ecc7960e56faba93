"""JavaScript: Node. A failed `console.assert` throws, as the tests mean it; merely writing something is no failure.

The tests see a console of their own, made after the solution has run, so a solution that replaces `console.assert` (or
freezes it) gains nothing.
"""

from mindgeex.eval.languages.language import Language, Proof, Toolchain, ask, place

TESTS = """
;((console) => {{
{tests}
}})({{
  __proto__: console,
  assert(holds, message) {{ if (!holds) throw new Error("console.assert failed" + (message ? ": " + message : "")) }},
}});
require("fs").writeSync({descriptor}, "{secret}");
"""


def locate() -> Toolchain:
    """Node; its heap is kept below the sandbox's memory limit."""
    node, folders = place("node", "/opt/node")
    return Toolchain(
        version=f"node {ask('node', '--version')}",
        run=(node, "--max-old-space-size=512", "main.js"),
        folders=folders,
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
)
