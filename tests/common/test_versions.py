"""Versions for the manifests."""

import platform
from importlib import metadata

from mindgeex.common.versions import installed_version, versions


def test_what_is_installed_is_recorded_and_what_is_not_is_left_out() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["machine"] == platform.machine()
    assert found["mindspore"] == metadata.version("mindspore")
    assert installed_version("no-such-package-here") is None
    assert None not in found.values()
