"""C++: g++ with -std=c++11, as published. The tests are a `main` that ends with the program's last brace."""

import os
import subprocess

from mindgeex.eval.languages.language import Language, Library, Proof, Toolchain, ask


def locate() -> Toolchain:
    """g++; the two libraries are only linked where a program includes OpenSSL's headers."""
    return Toolchain(
        version=ask("g++", "--version").splitlines()[0],
        compile=(
            "if grep -q 'include *<openssl/' main.cpp; then libraries='-lcrypto -lssl'; fi; "
            "g++ -std=c++11 -w -pipe -o program main.cpp $libraries"
        ),
        run=("./program",),
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """The secret is written before the closing brace of the tests' `main`."""
    body = tests.rstrip().removesuffix("}")
    write = f'if (mindgeex_write({proof.descriptor}, "{proof.secret}", {len(proof.secret)}) < 0) __builtin_abort();'
    # A second name for write(2): the solution may have a function called `write`.
    declared = 'extern "C" long mindgeex_write(int, const void*, unsigned long) __asm__("write");'
    return {"main.cpp": f"{solution}\n{declared}\n{body}\n{write}\n}}\n"}


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
