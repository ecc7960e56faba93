"""Tokens a step into micro batches, accumulation and workers; contradictions are told with numbers that fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.train.batch import BatchConfig, BatchPlan, plan_batch


@pytest.mark.parametrize(
    ("config", "workers", "plan"),
    [
        (BatchConfig(1024), 1, (4, 1)),
        (BatchConfig(1024), 2, (2, 1)),
        (BatchConfig(1024, micro_rows=1), 2, (1, 2)),
        (BatchConfig(1024, accumulate=4), 1, (1, 4)),
        (BatchConfig(1024, micro_rows=2, accumulate=2), 1, (2, 2)),
    ],
)
def test_what_is_left_out_follows(config, workers, plan):
    assert plan_batch(config, 256, workers) == BatchPlan(*plan, workers, 256)


def test_the_published_step():
    plan = plan_batch(BatchConfig(6_291_456, micro_rows=16), 2048, 192)
    assert (plan.rows, plan.worker_rows, plan.accumulate, plan.tokens) == (3072, 16, 1, 6_291_456)


@pytest.mark.parametrize(
    ("config", "workers", "message"),
    [
        (BatchConfig(1000), 1, "no multiple of the rows' seq_length=256: set batch.tokens_per_step=1024"),
        (BatchConfig(100), 1, "set batch.tokens_per_step=256"),
        (BatchConfig(1024), 3, "4 rows, which 3 workers cannot share equally: set batch.tokens_per_step=768"),
        (BatchConfig(256), 4, "1 rows, which 4 workers cannot share equally: set batch.tokens_per_step=1024"),
        (BatchConfig(1024, 2, 1), 1, "micro_rows 2 x accumulate 1 x workers 1 = 2: set batch.accumulate=2"),
        (BatchConfig(1024, 3), 1, "micro_rows 3 x accumulate 1 x workers 1 = 3: set batch.tokens_per_step=768"),
    ],
)
def test_contradictions_are_told_with_numbers_that_fit(config, workers, message):
    with pytest.raises(UserError, match=message):
        plan_batch(config, 256, workers)


@given(st.integers(1, 50), st.integers(1, 9), st.none() | st.integers(1, 9), st.none() | st.integers(1, 9))
def test_a_plan_takes_exactly_the_tokens_it_was_asked_for_or_is_refused(rows, workers, micro, accumulate):
    config = BatchConfig(rows * 8, micro, accumulate)
    try:
        plan = plan_batch(config, 8, workers)
    except UserError:
        assert rows % workers or micro or accumulate
        return
    assert plan.tokens == rows * 8
    assert micro in (None, plan.micro_rows) and accumulate in (None, plan.accumulate)
