"""Rust: rustc, standard library only.

The tests are functions marked `#[test]` in a module `tests`. They are made callable and called by `main`, which then
writes the secret; and they assert with the standard library's macros, whatever the solution defines under those names.
A problem of which not every test can be called is never passed.
Does not cover: crates. A program that uses `rand`, `regex` or `md5` (all of HumanEval-X) does not compile.
"""

import re

from mindgeex.eval.languages.language import Language, Proof, Toolchain, ask, place

MAIN = """
fn main() {{
    {calls}
    use std::{{io::Write as _, os::fd::FromRawFd as _}};
    let mut proof = unsafe {{ std::fs::File::from_raw_fd({descriptor}) }};
    proof.write_all(b"{secret}").unwrap();
}}
"""
TEST = re.compile(r"#\[test\]\s*(?:pub )?fn (\w+)\(\)")
ASSERT = re.compile(r"(?<![:\w])(?=(?:debug_)?assert(?:_eq|_ne)?!)")


def locate() -> Toolchain:
    """rustc, and the linker it needs; rustup's rustc is only a door to the real one."""
    root = ask("rustc", "--print", "sysroot")
    rustc, folders = place(f"{root}/bin/rustc", "/opt/rust")
    libraries = ask("rustc", "--print", "target-libdir").replace(root, rustc.removesuffix("/bin/rustc"))
    return Toolchain(
        version=ask("rustc", "--version"),
        compile=(
            f"{rustc} --edition 2021 --cap-lints allow -C debuginfo=0 -C prefer-dynamic -C strip=symbols "
            "-o program main.rs"
        ),
        run=("./program",),
        folders=folders,
        environment={"LD_LIBRARY_PATH": libraries},
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """The program without the test harness's marks, and a `main` that calls the tests."""
    names = TEST.findall(tests)
    calls = " ".join(f"tests::{name}();" for name in names)
    if not names or len(names) != tests.count("#[test]"):
        calls = 'panic!("not every test of the problem can be called");'
    tests = TEST.sub(r"pub fn \1()", tests).replace("#[cfg(test)]", "")
    tests = ASSERT.sub("::std::", tests)
    return {"main.rs": f"{solution}\n{tests}\n{MAIN.format(calls=calls, **vars(proof))}"}


LANGUAGE = Language(
    key="rust",
    title="Rust",
    tools=(("rustc", "rustc"), ("cc", "gcc")),
    locate=locate,
    prove=prove,
    failed_test="assertion",
)
