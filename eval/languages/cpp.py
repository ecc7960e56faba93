"""C++: g++ with -std=c++11, as published. The tests are a `main` that ends with the program's last brace.

The headers with which every program of HumanEval-X begins are compiled once (common/prepared.py) and given to the
compiler in that form, if a program includes all of them before anything else: then it means the same.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from mindgeex.common.prepared import build, prepared
from mindgeex.eval.languages.language import Language, Library, Proof, Toolchain, ask

FLAGS = ("-std=c++11", "-w")
HEADERS = ("stdlib.h", "algorithm", "math.h", "stdio.h", "vector", "string", "climits", "cstring", "iostream")
"""What HumanEval-X adds to a program that lacks it."""
DECLARED = """
extern "C" long mindgeex_write(int, const void*, unsigned long) __asm__("write");
extern "C" __attribute__((noreturn)) void mindgeex_failed(
        const char* what, const char*, unsigned, const char*) noexcept {
    if (mindgeex_write(2, "Assertion `", 11) + mindgeex_write(2, what, __builtin_strlen(what)) > 0)
        mindgeex_write(2, "' failed.\\n", 10);
    __builtin_trap();
}
#define __assert_fail mindgeex_failed
"""
"""Stands between solution and tests: a second name for write(2), since the solution may have a function called `write`,
and what glibc's `assert` calls, since the solution may have an __assert_fail that ends with 0 or returns."""
PRELUDE = "/opt/prelude/prelude.h"
BEGINNING = re.compile(r"\s*(?:#\s*include\s*<([^>\n]+)>|using\s+namespace\s+std\s*;|//[^\n]*|/\*.*?\*/)", re.DOTALL)


def locate() -> Toolchain:
    """g++, the compiled headers, and the quicker of GNU's two linkers."""
    version = ask("g++", "--version").splitlines()[0]
    prelude = "".join(f"#include<{name}>\n" for name in HEADERS)

    def make(folder: Path) -> None:
        (folder / "prelude.h").write_text(prelude, encoding="utf-8")
        build(["g++", *FLAGS, "-x", "c++-header", "prelude.h", "-o", "prelude.h.gch"], folder)

    linker = "-fuse-ld=gold" if shutil.which("ld.gold") else ""
    return Toolchain(
        version=version,
        compile=f"g++ {' '.join(FLAGS)} -pipe {linker} -o program main.cpp @options",
        run=("./program",),
        folders={str(prepared("prelude", [version, *FLAGS, prelude], make)): str(Path(PRELUDE).parent)},
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """The secret is written before the closing brace of the tests' `main`."""
    body = tests.rstrip().removesuffix("}")
    write = f'if (mindgeex_write({proof.descriptor}, "{proof.secret}", {len(proof.secret)}) < 0) __builtin_abort();'
    options = f"-include {PRELUDE}\n" if begins_with_headers(solution) else ""
    if re.search(r"include *<openssl/", solution + tests):
        options += "-lcrypto -lssl\n"
    return {"main.cpp": f"{solution}\n{DECLARED}{body}\n{write}\n}}\n", "options": options}


def begins_with_headers(program: str) -> bool:
    """Whether it includes all of HEADERS before anything that could change what they mean."""
    included, at = set(), 0
    while found := BEGINNING.match(program, at):
        included.add(found[1])
        at = found.end()
    return included >= set(HEADERS)


def includes(header: str) -> bool:
    """Whether g++ finds a header."""
    command = ["g++", "-E", "-x", "c++", "-include", header, os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


LANGUAGE = Language(
    key="cpp",
    title="C++",
    tools=(("g++", "g++"),),
    locate=locate,
    prove=prove,
    failed_test="Assertion `",
    libraries=(
        Library("Boost", r"#include *<boost/", "apt-get install libboost-dev", lambda: includes("boost/any.hpp")),
        Library("OpenSSL", r"#include *<openssl/", "apt-get install libssl-dev", lambda: includes("openssl/md5.h")),
    ),
)
