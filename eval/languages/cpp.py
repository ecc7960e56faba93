"""C++: g++ with -std=c++11, as published. The tests are a `main` that ends with the program's last brace.

The headers with which every program of HumanEval-X begins are compiled once (common/prepared.py) and given to the
compiler in that form, if a program includes all of them before anything else: then it means the same. What they
themselves instantiate lies in that form, too, where g++ lets a plugin do so (cpp_plugin/instantiate.cc): a third of
the compiler's time otherwise. What programs mostly instantiate of them (vectors, operations on strings) is compiled
once as well, and linked as a shared library. What g++ would call is called directly: compiler, assembler, linker.
Does not cover: a program with the headers that specializes one of these templates itself.
"""

import os
import re
import subprocess
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.prepared import build, prepared
from mindgeex.eval.languages.gnu import called, linker
from mindgeex.eval.languages.language import Language, Library, Proof, Toolchain, ask

FLAGS = ("-std=c++11", "-w")
HEADERS = ("stdlib.h", "algorithm", "math.h", "stdio.h", "vector", "string", "climits", "cstring", "iostream")
"""What HumanEval-X adds to a program that lacks it."""
ELEMENTS = (
    "int",
    "long",
    "long long",
    "float",
    "double",
    "char",
    "std::string",
    "std::vector<int>",
    "std::vector<std::string>",
)
"""Types of which vectors are compiled beforehand."""
FUNCTIONS = (
    "void std::sort(std::vector<int>::iterator, std::vector<int>::iterator)",
    "std::string::iterator std::find(std::string::iterator, std::string::iterator, const char&)",
    "std::string std::operator+(const std::string&, char)",
    "std::string std::operator+(const std::string&, const char*)",
    "std::string std::operator+(const std::string&, const std::string&)",
    "std::string std::operator+(std::string&&, std::string&&)",
    "bool std::operator==(const std::string&, const char*)",
    "bool std::operator!=(const std::string&, const std::string&)",
)
"""Function templates that are compiled beforehand for what programs mostly give them."""
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
PLUGIN = Path(__file__).parent / "cpp_plugin" / "instantiate.cc"
END = "mindgeex_end"
"""What the compiled header declares last."""
INSIDE = "/opt/prelude"
BEGINNING = re.compile(r"\s*(?:#\s*include\s*<([^>\n]+)>|using\s+namespace\s+std\s*;|//[^\n]*|/\*.*?\*/)", re.DOTALL)


def locate() -> Toolchain:
    """g++, the compiled headers and instances, and the quicker of GNU's two linkers."""
    version = ask("g++", "--version").splitlines()[0]
    includes = "".join(f"#include<{name}>\n" for name in HEADERS)
    instances = [*(f"class std::vector<{element}>" for element in ELEMENTS), *FUNCTIONS]
    sources = {
        "prelude.h": includes + "".join(f"extern template {x};\n" for x in instances) + f"extern int {END};\n",
        "instances.cpp": includes + "".join(f"template {x};\n" for x in instances),
        "plugin.cpp": PLUGIN.read_text(encoding="utf-8"),
    }

    def make(folder: Path) -> None:
        for name, text in sources.items():
            (folder / name).write_text(text, encoding="utf-8")
        header = ["g++", *FLAGS, "-x", "c++-header", "prelude.h", "-o", "prelude.h.gch"]
        try:
            build(["g++", "-shared", "-fPIC", f'-DEND="{END}"', "plugin.cpp", "-o", "plugin.so"], folder)
            build([*header, "-fplugin=./plugin.so"], folder)
        except UserError:  # another compiler: each program instantiates for itself
            build(header, folder)
        build(["g++", *FLAGS, "-shared", "-fPIC", "instances.cpp", "-o", "libinstances.so"], folder)

    steps = (
        called("g++", *FLAGS, "-S", "main.cpp", "-o", "main.s") + " @options",
        called("g++", *FLAGS, "-c", "main.s", "-o", "main.o"),
        re.sub(r"^\S+", " ".join(linker()), called("g++", *FLAGS, "-fno-use-linker-plugin", "main.o", "-o", "program"))
        + f" {INSIDE}/libinstances.so @libraries",
    )
    return Toolchain(
        version=version,
        compile=" && ".join(steps),
        run=("./program",),
        folders={str(prepared("prelude", [version, *FLAGS, *sources.values()], make)): INSIDE},
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """The secret is written before the closing brace of the tests' `main`."""
    body = tests.rstrip().removesuffix("}")
    write = f'if (mindgeex_write({proof.descriptor}, "{proof.secret}", {len(proof.secret)}) < 0) __builtin_abort();'
    return {
        "main.cpp": f"{solution}\n{DECLARED}{body}\n{write}\n}}\n",
        "options": f"-include {INSIDE}/prelude.h\n" if begins_with_headers(solution) else "",
        "libraries": "-lcrypto -lssl\n" if re.search(r"include *<openssl/", solution + tests) else "",
    }


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
