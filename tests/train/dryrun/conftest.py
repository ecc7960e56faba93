"""Where a simulated cluster can be had."""

import platform
import shutil

import pytest

from mindgeex.train.dryrun.standins import MACHINES

needs_standins = pytest.mark.skipif(
    shutil.which("cc") is None or platform.machine() not in MACHINES, reason="stand-ins need a C compiler"
)
