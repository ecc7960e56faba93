"""Part of a HumanEval+ or MBPP+ program: compares a solution with the canonical one, as EvalPlus 0.3 does.

This file is put into every such program as text, so it imports nothing of ours, and what it defines has a prefix.
"""


def _mindgeex_check(solution, name, reference, inputs, atol, benchmark):
    import copy

    space: dict = {}
    exec(compile(reference, "reference.py", "exec"), space)
    for number, values in enumerate(inputs):
        expected = space[name](*copy.deepcopy(values))
        found = solution(*copy.deepcopy(values))
        if not _mindgeex_same(values, found, expected, atol, benchmark, name):
            shown = f"{repr(values)[:200]}: {repr(found)[:100]} instead of {repr(expected)[:100]}"
            raise AssertionError(f"input {number}: {shown}")


def _mindgeex_same(values, found, expected, atol, benchmark, name):
    import math

    if benchmark == "humaneval+" and name == "find_zero":
        (coefficients,) = values
        return abs(sum(c * math.pow(found, power) for power, c in enumerate(coefficients))) <= atol
    same = found == expected
    if benchmark == "mbpp+":
        if name == "are_equivalent":
            same = True
        elif name == "sum_div":
            same = same or found == 0
        elif name == "surface_Area":
            base, height = values
            slant = math.sqrt((base / 2) ** 2 + height**2)
            same = same or abs(found - round(base**2 + 4 * (base * slant) / 2)) <= atol
        elif name == "digit_distance_nums":
            first, second = (str(value) for value in values)
            width = max(len(first), len(second))
            pairs = zip(first.zfill(width), second.zfill(width), strict=True)
            same = same or found == sum(abs(int(a) - int(b)) for a, b in pairs)
        elif name in _MINDGEEX_SETS:
            same = set(found) == set(expected)
        elif name in _MINDGEEX_TRUTHS:
            # A match object counts as true: what matters is whether there is one.
            there = expected if isinstance(expected, bool) else expected is not None
            same = found == there if isinstance(found, bool) else there == (found is not None)
    if atol == 0 and _mindgeex_floats(expected):
        atol = 1e-6
    if same or atol == 0:
        return bool(same)
    if type(found) is not type(expected):
        return False
    return _mindgeex_close(found, expected, atol)


def _mindgeex_floats(value):
    if isinstance(value, float):
        return True
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, float) for item in value)


def _mindgeex_close(found, expected, atol):
    if isinstance(expected, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(found) != len(expected):
            return False
        return all(_mindgeex_close(a, b, atol) for a, b in zip(found, expected, strict=True))
    return found == expected or abs(found - expected) <= atol + 1e-7 * abs(expected)


_MINDGEEX_SETS = (
    "similar_elements",
    "find_char_long",
    "common_in_nested_lists",
    "extract_singly",
    "larg_nnum",
    "intersection_array",
    "find_dissimilar",
    "Diff",
)
_MINDGEEX_TRUTHS = ("check_str", "text_match_three", "text_starta_endb")
