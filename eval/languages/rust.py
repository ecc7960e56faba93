"""Rust: rustc, with the standard library and the crates of crates.py.

The tests are functions marked `#[test]` in a module `tests`. They are made callable and called by `main`, which then
writes the secret; and they assert with the standard library's macros, whatever the solution defines under those names.
A problem of which not every test can be called is never passed.
Does not cover: other crates.
"""

import re
import shutil

from mindgeex.eval.languages.crates import CRATES, compiled, usable
from mindgeex.eval.languages.language import Language, Library, Proof, Toolchain, ask, place

MAIN = """
fn main() {{
    {calls}
    use std::{{io::Write as _, os::fd::FromRawFd as _}};
    let mut proof = unsafe {{ std::fs::File::from_raw_fd({descriptor}) }};
    proof.write_all(b"{secret}").unwrap();
}}
"""
INSIDE = "/opt/crates"
TEST = re.compile(r"#\[test\]\s*(?://[^\n]*\s*)*(?:pub )?fn (\w+)\(\)")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
ASSERT = re.compile(r"(?<![:\w])(?=(?:debug_)?assert(?:_eq|_ne)?!)")


def locate() -> Toolchain:
    """rustc, the crates, and the linker it needs; rustup's rustc is only a door to the real one."""
    root, version = ask("rustc", "--print", "sysroot"), ask("rustc", "--version")
    rustc, folders = place(f"{root}/bin/rustc", "/opt/rust")
    libraries = ask("rustc", "--print", "target-libdir").replace(root, rustc.removesuffix("/bin/rustc"))
    crates = compiled(f"{root}/bin/rustc", version)
    given = " ".join(f"--extern {crate.name}" for crate in usable())
    linker = "-C link-arg=-fno-use-linker-plugin " + ("-C link-arg=-fuse-ld=gold " if shutil.which("ld.gold") else "")
    return Toolchain(
        version=version,
        compile=(
            f"{rustc} --edition 2021 --cap-lints allow -C debuginfo=0 -C codegen-units=1 -C prefer-dynamic {linker}"
            f"-L {INSIDE} {given} -o program main.rs"
        ),
        run=("./program",),
        folders={**folders, str(crates): INSIDE},
        environment={"LD_LIBRARY_PATH": f"{libraries}:{INSIDE}"},
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """The program without the test harness's marks, and a `main` that calls the tests."""
    if not COMMENT.sub("", tests).strip():
        # Rust/32 of HumanEval-X: its test is commented out, and `cargo test` passes.
        return {"main.rs": f"{solution}\n{MAIN.format(calls='', **vars(proof))}"}
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
    libraries=tuple(
        Library(
            f"the crate {crate.name}",
            rf"\b(?:use|extern crate) {crate.name}\b|\b{crate.name}::",
            f"apt-get install {crate.package}",
            lambda crate=crate: crate in usable(),  # type: ignore[misc]
        )
        for crate in CRATES
    ),
)
