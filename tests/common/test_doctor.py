"""The doctor tells broken from absent from slow, and names the fix."""

import os
import platform
import sys
from pathlib import Path

import pytest

from mindgeex.common import doctor
from mindgeex.common.doctor import Finding, Tool, ascend_versions, elf_processor, examine, unmet_requirements
from mindgeex.common.errors import UserError


def absent() -> str:
    raise UserError("Go needs 'go', which is not installed: apt-get install golang-go")


def test_everything_is_looked_at_and_a_missing_tool_keeps_its_remedy(tmp_path: Path) -> None:
    tools = [Tool("evaluate Go", "go", absent), Tool("evaluate C", "cc", lambda: "cc 12", required=True)]
    findings = {finding.what: finding for finding in examine(tmp_path, os.environ, tools)}
    missing = "Go needs 'go', which is not installed"
    assert findings["go"] == Finding("evaluate Go", "go", False, missing, "apt-get install golang-go")
    assert findings["cc"] == Finding("evaluate C", "cc", True, "cc 12", required=True)
    for what in ("mindspore's binary", "Python", "lzma", "packages"):
        assert findings[what].ok and not findings[what].fix
    assert findings["free disk"].found.endswith(f"GB in {tmp_path}")


def test_the_processor_is_read_from_the_elf_header(tmp_path: Path) -> None:
    assert elf_processor(Path(sys.executable).resolve()) == platform.machine()
    for content, processor in [
        (b"\x7fELF\x02\x01".ljust(18, b"\0") + b"\xb7\x00", "aarch64"),
        (b"\x7fELF\x02\x02".ljust(18, b"\0") + b"\x00\xb7", "aarch64"),
        (b"\x7fELF\x02\x01".ljust(18, b"\0") + b"\x16\x00", "ELF machine 22"),
        (b"\xcf\xfa\xed\xfe" * 8, "a system other than Linux"),
        (b"\x7fELF", "a system other than Linux"),
    ]:
        (tmp_path / "library.so").write_bytes(content)
        assert elf_processor(tmp_path / "library.so") == processor


def install(folder: Path, name: str, *requires: str) -> None:
    """What pip leaves behind of a package without modules."""
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {line}" for line in requires)]
    metadata.write_text("\n".join(lines) + "\n")


def test_unmet_requirements_are_found_at_any_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "outer-demo", "inner-demo>=1", "numpy>=1", 'absent-extra>=1; extra == "more"')
    install(
        tmp_path, "inner-demo", "outer-demo", "absent-demo>=2", "packaging<1", 'absent-mac; sys_platform == "darwin"'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    missing, outdated = unmet_requirements("outer-demo")
    assert missing == "absent-demo is missing, for inner-demo"
    assert outdated.startswith("packaging ") and outdated.endswith("is installed, inner-demo needs <1")


def test_a_child_that_crashes_fails_or_hangs_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(code: str) -> tuple[bool | None, str]:
        return doctor._run_python(code, os.environ)

    assert run("print('1.0')") == (True, "")
    assert run("import os; os.abort()") == (False, "ended by signal 6")
    assert run("import no_such_module") == (False, "exit code 1: ModuleNotFoundError: No module named 'no_such_module'")
    monkeypatch.setattr(doctor, "CHILD_TIMEOUT_S", 0.5)
    assert run("import time; time.sleep(60)")[0] is None


def test_ascend_is_found_where_its_installers_put_it_and_its_version_judged(tmp_path: Path) -> None:
    wanted = ascend_versions()
    assert wanted.keys() == {"CANN", "driver"}
    assert doctor._driver(tmp_path).found == doctor._cann({}, tmp_path).found == "not found"

    (tmp_path / "driver").mkdir()
    (tmp_path / "driver/version.info").write_text(f"Version={wanted['driver']}\nascendhal_version=7\n")
    assert doctor._driver(tmp_path).ok and doctor._driver(tmp_path).found == wanted["driver"]

    (tmp_path / "driver/version.info").unlink()
    (tmp_path / "driver/version.info").mkdir()  # for root, as good as one that may not be read
    assert doctor._driver(tmp_path).ok is None and "version.info: Is a directory" in doctor._driver(tmp_path).found

    toolkit = tmp_path / "elsewhere/x86_64-linux"
    toolkit.mkdir(parents=True)
    (toolkit / "ascend_toolkit_install.info").write_text("package_name=Ascend-cann-toolkit\nversion=7.0.0\n")
    cann = doctor._cann({"ASCEND_HOME_PATH": str(toolkit.parent)}, tmp_path)
    assert (cann.ok, cann.found, cann.fix) == (False, "7.0.0", f"install CANN {wanted['CANN']}")
