"""Several processes: results in order, and a killed worker said in one line."""

import os

import pytest

from mindgeex.common.errors import UserError
from mindgeex.data.workers import ordered_map


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers):
    assert list(ordered_map(abs, range(-20, 0), workers)) == list(range(20, 0, -1))
    assert list(ordered_map(abs, [], workers)) == []
    with pytest.raises(TypeError):
        list(ordered_map(abs, ["no number"], workers))


def test_a_killed_worker_is_one_line():
    with pytest.raises(UserError, match=r"one of 2 worker processes was killed .*: use fewer --workers"):
        list(ordered_map(os._exit, [9], 2))
