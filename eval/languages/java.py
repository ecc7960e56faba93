"""Java: javac, then java with the small and quick of its compilers and collectors; any JDK from 11 on.

The tests are a class `Main`; a second class calls its `main` and then writes the secret.
"""

import os
import shutil
from pathlib import Path

from mindgeex.eval.languages.language import Language, Proof, Toolchain, ask, place

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData -Xshare:auto"
"""Options of the virtual machine that make short programs short."""


def locate() -> Toolchain:
    """The JDK; Debian keeps its settings below /etc."""
    javac, folders = place("javac", "/opt/java")
    home = Path(os.path.realpath(shutil.which("javac") or "javac")).parents[1]
    settings = Path(os.path.realpath(home / "lib" / "jvm.cfg")).parent
    if settings.is_relative_to("/etc"):
        folders[str(settings)] = str(settings)
    flags = " ".join(f"-J{option}" for option in QUICK.split())
    java = str(Path(javac).with_name("java"))
    return Toolchain(
        version=ask("javac", "-version"),
        compile=(
            f"mkdir classes && {javac} {flags} -J-Xmx512m -proc:none -nowarn -encoding UTF-8 -d classes Main.java && "
            "tar -c -f program -C classes ."
        ),
        run=(
            "sh",
            "-c",
            f"mkdir c && tar -x -f program -C c && exec {java} {QUICK} -Xmx512m -cp c Proof",
        ),
        folders=folders,
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """One file; a descriptor can only be opened by its path."""
    proven = (
        "class Proof { public static void main(String[] arguments) throws Throwable { Main.main(arguments); "
        f'try (java.io.OutputStream end = new java.io.FileOutputStream("/dev/fd/{proof.descriptor}")) '
        f'{{ end.write("{proof.secret}".getBytes()); }} }} }}'
    )
    return {"Main.java": f"{solution}\n{tests}\n{proven}\n"}


LANGUAGE = Language(
    key="java",
    title="Java",
    tools=(("javac", "default-jdk-headless"), ("java", "default-jre-headless")),
    locate=locate,
    prove=prove,
    failed_test="java.lang.AssertionError",
)
