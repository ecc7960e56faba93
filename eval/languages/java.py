"""Java: javac, then java with the small and quick of its compilers and collectors; any JDK from 11 on.

javac stays in its sandbox and compiles one program after the other (java_service/Service.java): it executes nothing of
what it compiles, and a cold one takes twenty times as long. Each program then runs in a sandbox of its own.

The tests are a class `Main`; a second class calls its `main` and then writes the secret.
"""

import os
import shutil
from pathlib import Path

from mindgeex.common.prepared import build, prepared
from mindgeex.eval.languages.language import Language, Proof, Toolchain, ask, place

SERVICE = Path(__file__).parent / "java_service" / "Service.java"
INSIDE = "/opt/java-service"
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto", "-Xmx512m")
"""Options of the virtual machine that make short programs short."""


def locate() -> Toolchain:
    """The JDK; Debian keeps its settings below /etc."""
    javac, folders = place("javac", "/opt/java")
    home = Path(os.path.realpath(shutil.which("javac") or "javac")).parents[1]
    settings = Path(os.path.realpath(home / "lib" / "jvm.cfg")).parent
    if settings.is_relative_to("/etc"):
        folders[str(settings)] = str(settings)
    version = ask("javac", "-version")

    def make(folder: Path) -> None:
        build([str(home / "bin" / "javac"), "-nowarn", "-d", ".", str(SERVICE)], folder)

    folders[str(prepared("java-service", [home, version, SERVICE.read_text(encoding="utf-8")], make))] = INSIDE
    java = (str(Path(javac).with_name("java")), *QUICK)
    return Toolchain(
        version=version,
        service=(*java, "-XX:+ExitOnOutOfMemoryError", "-cp", INSIDE, "Service"),
        # A program that ends at once is not worth compiling; one that goes on is compiled a few milliseconds later.
        run=(*java, "-XX:CompileThresholdScaling=5", "-cp", "program", "Proof"),
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
