"""Error codes: what is said of published ones, and that nothing is made up about others."""

import pytest

from mindgeex.common.errors import UserError
from mindgeex.hccl_configs.error_codes import MEANINGS, explain_code, find_codes


def test_published_codes_have_a_meaning_and_a_next_step() -> None:
    assert {f"EI{n:04d}" for n in range(1, 21)} | {f"EJ{n:04d}" for n in range(1, 5)} <= set(MEANINGS)
    assert "HCCL_CONNECT_TIMEOUT" in explain_code("EI0006").meaning
    assert "mindgeex hccl check" in explain_code("EI0014").next_step
    assert explain_code("EJ0001").component == "HCCP (HCCL's processes on the devices)"


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("EZ9999", "an internal error of operators in general"),
        ("E39999", "an internal error of AI CPU"),
        ("EI9999", "an internal error of HCCL"),
        ("EE8888", "the runtime was given something it refuses; no more is known here"),
        ("ER0001", "no component with this letter is published"),
    ],
)
def test_other_codes_tell_their_component_and_no_more(code: str, meaning: str) -> None:
    assert explain_code(code).meaning.startswith(meaning)


def test_what_is_no_code_is_refused() -> None:
    with pytest.raises(UserError, match="'EI06' is no error code of CANN"):
        explain_code("EI06")


def test_the_earliest_code_of_all_logs_comes_first() -> None:
    rank0 = [
        "step 3 loss 1.2",
        "[PID: 1] 2025-12-04-21:59:38.232.310 Communication_Error_Timeout(EI0002): The wait execution timed out",
        "EI0002: again, without a time",
    ]
    rank1 = ["[PID: 2] 2025-12-04-21:59:08.100.000 Execution Error ROCE CQE(EI0013): An error CQE occurred"]
    first, second = find_codes([("0.log", rank0), ("1.log", rank1)])
    assert (first.code, first.where, first.count) == ("EI0013", "1.log, line 1", 1)
    assert (second.code, second.where, second.count) == ("EI0002", "0.log, line 2", 2)


@pytest.mark.parametrize("line", ["#EE8888 is red", "0xE19999", "E1234567", "sha EI0006a", "Ei0006", "uuid-4E39999x"])
def test_words_that_only_look_like_codes_are_none(line: str) -> None:
    assert find_codes([("log", [line])]) == []


def test_a_code_of_an_unknown_component_counts_where_it_is_reported() -> None:
    assert find_codes([("log", ["model ER0001 is fast"])]) == []
    (found,) = find_codes([("log", ["ER0001: [PID: 7] it failed"])])
    assert found.code == "ER0001"
