"""Rust: rustc, with the standard library and the crates of crates.py.

The tests are functions marked `#[test]` in a module `tests`. They are made callable and called by `main`, which then
writes the secret; and they assert with the standard library's macros, whatever the solution defines under those names.
A problem of which not every test can be called is never passed.

Every program of HumanEval-X imports three crates, and few use one. The others are compiled with crates that hold just
the imported names (crates.py), in which there is less to read and to link: nothing but these names could tell them
apart. The linker that GNU's cc would call is called directly.
Does not cover: other crates.
"""

import re
import shlex

from mindgeex.common.errors import UserError
from mindgeex.eval.languages.crates import CRATES, UNUSED, compiled, usable
from mindgeex.eval.languages.gnu import called, linker
from mindgeex.eval.languages.language import Language, Library, Proof, Toolchain, ask, place

MAIN = """
fn main() {{
    {calls}
    extern "C" {{
        #[link_name = "write"]
        fn mindgeex_write(
            _: ::std::primitive::i32, _: *const ::std::primitive::u8, _: ::std::primitive::usize
        ) -> ::std::primitive::isize;
    }}
    if unsafe {{ mindgeex_write({descriptor}, "{secret}".as_ptr(), {length}) }} < 0 {{
        ::std::process::abort();
    }}
}}
"""
"""Calls write(2) itself: std's File, of which each program would get a copy, takes a fifth of the time of compiling."""
INSIDE = "/opt/crates"
TEST = re.compile(r"#\[test\]\s*(?://[^\n]*\s*)*(?:pub )?fn (\w+)\(\)")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
IMPORTS = re.compile(r"^use (?:rand::Rng|regex::Regex|md5);$", re.MULTILINE)
"""What HumanEval-X puts before every program."""
CRATE = re.compile(r"\b(?:rand|Rng|regex|regex_syntax|Regex|md5)\b")
"""Without one of these names, a program does nothing with the crates."""
ASSERT = re.compile(r"(?<![:\w])(?=(?:debug_)?assert(?:_eq|_ne)?!)")


def locate() -> Toolchain:
    """rustc, the crates, and the linker it needs; rustup's rustc is only a door to the real one."""
    root, version = ask("rustc", "--print", "sysroot"), ask("rustc", "--version")
    rustc, folders = place(f"{root}/bin/rustc", "/opt/rust")
    libraries = ask("rustc", "--print", "target-libdir").replace(root, rustc.removesuffix("/bin/rustc"))
    crates = compiled(f"{root}/bin/rustc", version)
    given = " ".join(f"--extern {crate.name}" for crate in usable())
    return Toolchain(
        version=version,
        compile=(
            f"read -r crates <crates && "
            f"{rustc} --edition 2021 --cap-lints allow -C debuginfo=0 -C codegen-units=1 -C prefer-dynamic {linking()} "
            f"-L $crates {given} -o program main.rs"
        ),
        run=("./program",),
        folders={**folders, str(crates): INSIDE},
        environment={"LD_LIBRARY_PATH": f"{libraries}:{INSIDE}"},
    )


def linking() -> str:
    """Options: the quicker linker, and what GNU's cc would give it beside the program; none for another cc."""
    try:
        _, *given = shlex.split(called("cc", "-fno-use-linker-plugin", "-nodefaultlibs", "main.o", "-o", "program"))
    except UserError:  # rustc calls cc by itself, which takes longer
        return ""
    command, *more = linker()
    more += [word for word in given if word not in ("main.o", "-o", "program")]
    return f"-C linker-flavor=ld -C linker={command} -C link-args={shlex.quote(' '.join(more))}"


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """The program without the test harness's marks, a `main` that calls the tests, and where its crates are."""
    crates = f"{INSIDE}\n" if uses_crates(solution + tests) else f"{INSIDE}/{UNUSED}\n"
    names = TEST.findall(tests)
    calls = " ".join(f"tests::{name}();" for name in names)
    if not COMMENT.sub("", tests).strip():
        tests = calls = ""  # Rust/32 of HumanEval-X: its test is commented out, and `cargo test` passes.
    elif not names or len(names) != tests.count("#[test]"):
        calls = 'panic!("not every test of the problem can be called");'
    tests = TEST.sub(r"pub fn \1()", tests).replace("#[cfg(test)]", "")
    tests = ASSERT.sub("::std::", tests)
    main = MAIN.format(calls=calls, length=len(proof.secret), **vars(proof))
    return {"main.rs": f"{solution}\n{tests}\n{main}", "crates": crates}


def uses_crates(program: str) -> bool:
    """Whether a program may do more with the crates than import them."""
    return bool(CRATE.search(IMPORTS.sub("", program)))


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
