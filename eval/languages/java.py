"""Java: javac, then java with the quicker one of its compilers; any JDK from 11 on.

javac stays in its sandbox and compiles one program after the other (java_service/Service.java): it executes nothing of
what it compiles, and a cold one takes twenty times as long. The virtual machine's archive of loaded classes holds a
compiler's, too. Each program then runs in a sandbox of its own, on the virtual machine's own archive: only with the
collector it was made with (G1) does its heap, with the modules set up, spare every program the same 10 ms.

The tests are a class `Main`; a second class calls its `main` and then writes the secret.
"""

import contextlib
import os
import shutil
import struct
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.prepared import build, prepared
from mindgeex.eval.languages.language import Language, Proof, Toolchain, ask, place

SERVICE = Path(__file__).parent / "java_service" / "Service.java"
INSIDE = "/opt/java-service"
ARCHIVE = "compiler.jsa"
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto", "-Xmx512m")
"""Options of the virtual machine that make short programs short."""
COMPILER = "-XX:+UseSerialGC"
PROGRAM = ("-XX:+UseG1GC", "-XX:ParallelGCThreads=1", "-XX:ConcGCThreads=1", "-Xms8m", "-XX:CompileThresholdScaling=5")
"""One thread collects, and the heap begins small: less to set up. A program that ends at once is not worth compiling;
one that goes on is compiled a few milliseconds later."""


def locate() -> Toolchain:
    """The JDK; Debian keeps its settings below /etc."""
    javac, folders = place("javac", "/opt/java")
    home = Path(os.path.realpath(shutil.which("javac") or "javac")).parents[1]
    settings = Path(os.path.realpath(home / "lib" / "jvm.cfg")).parent
    if settings.is_relative_to("/etc"):
        folders[str(settings)] = str(settings)
    version, runtime = ask("javac", "-version"), ask("java", "-version")
    source = SERVICE.read_text(encoding="utf-8")

    def make(folder: Path) -> None:
        build([str(home / "bin" / "javac"), "-nowarn", "-d", ".", str(SERVICE)], folder)
        archive_compiler(str(home / "bin" / "java"), source, folder)

    made = prepared("java-service", [home, version, runtime, source, QUICK, COMPILER], make)
    folders[str(made)] = INSIDE
    archive = (f"-XX:SharedArchiveFile={INSIDE}/{ARCHIVE}",) if (made / ARCHIVE).exists() else ()
    java = (str(Path(javac).with_name("java")), *QUICK)
    return Toolchain(
        version=version,
        service=(*java, COMPILER, *archive, "-XX:+ExitOnOutOfMemoryError", "-cp", INSIDE, "Service"),
        run=(*java, *PROGRAM, "-cp", "program", "Proof"),
        folders=folders,
    )


def archive_compiler(java: str, source: str, folder: Path) -> None:
    """Has a service compile its own source, and puts the JDK's classes that this loads into an archive, if Java can."""
    request = source.replace("public final class Service", "class Main").encode()
    (folder / "request").write_bytes(struct.pack(">i", len(request)) + request)
    options = " ".join((java, *QUICK, COMPILER))
    steps = (
        f"{options} -XX:DumpLoadedClassList=used -cp . Service 1 <request >answer",
        # Of classes outside the JDK, the archive would remember where they lay.
        f"cat {Path(java).parents[1]}/lib/classlist used | grep -v -e source: -e ' Service' -e '^Service' >classes",
        f"{options} -Xshare:dump -XX:SharedClassListFile=classes -XX:SharedArchiveFile={ARCHIVE}",
    )
    with contextlib.suppress(UserError):
        build(["sh", "-c", " && ".join(steps)], folder)
        (folder / ARCHIVE).chmod(0o444)


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
