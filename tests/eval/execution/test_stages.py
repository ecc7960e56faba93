"""A command that compiles a program and becomes it: two stages in one sandbox, each with limits of its own."""

import re

import pytest

from mindgeex.eval.execution.job import MIB, Channel, Job, Limits, limit_script
from mindgeex.eval.execution.verdict import Verdict

GO_GARBAGE = """package main

import (
	"github.com/stretchr/testify/assert"
	"testing"
)

func kept() int {
	var last []byte
	for n := 0; n < 700; n++ {
		last = make([]byte, 1<<20)
	}
	return len(last)
}
"""
GO_TEST = "func TestKept(t *testing.T) {\n\tassert := assert.New(t)\n\tassert.Equal(1<<20, kept())\n}\n"

pytestmark = pytest.mark.toolchain

STAGES = """
head -c 200000 /dev/zero >words
times >/dev/fd/{channel}
{limits}
echo "data $(ulimit -S -d) $(ulimit -H -d), file $(ulimit -S -f), time $(ulimit -S -t) $(ulimit -H -t)"
{program}
"""


@pytest.mark.parametrize(
    "program, stopped_by",
    [("true", None), ("head -c 200000 /dev/zero >more", None), ("while :; do :; done", "cpu"), ("sleep 60", "wall")],
)
@pytest.mark.parametrize("first", [Limits(), Limits(cpu_s=1, wall_s=1.0, memory_bytes=64 * MIB)])
def test_a_second_stage_has_limits_of_its_own(sandbox, program, stopped_by, first):
    """Lower or higher than the first one's, whose CPU and wall time are not counted against it."""
    channel = Channel()
    then = Limits(cpu_s=2, wall_s=3.0 if stopped_by == "wall" else 60.0, memory_bytes=128 * MIB, files_bytes=1 << 16)
    script = STAGES.format(channel=channel.number, limits=limit_script(then), program=program)
    result = sandbox.run(Job(("sh", "-c", script), limits=first, then=then), channel)
    assert "data 131072 131072, file 128, time 2 3" in result.output
    assert result.first_cpu_s is not None and result.stopped_by == stopped_by
    assert (result.exit_code == 0) == (program == "true")


def test_a_second_stage_that_is_not_reached_is_told(sandbox):
    result = sandbox.run(Job(("sh", "-c", "exit 3"), then=Limits()))
    assert (result.exit_code, result.first_cpu_s) == (3, None)


LISTING = {
    "cpp": ("#include <cstdlib>\n", 'int main() { system("ls -A >&2"); abort();\n}\n'),
    "go": (
        'package main\nimport ("fmt"; "os"; "testing")\n',
        'func TestA(t *testing.T) { found, _ := os.ReadDir(".")\n'
        'for _, one := range found { fmt.Println(one.Name()) }; panic("") }\n',
    ),
    "rust": (
        "",
        'mod tests {\n#[test]\nfn a() { panic!("{:?}", std::fs::read_dir(".").unwrap().collect::<Vec<_>>()); }\n}',
    ),
}


@pytest.mark.parametrize("language", LISTING)
def test_nothing_of_compiling_is_left_when_the_program_runs(execute_program, language):
    outcome = execute_program(language, *LISTING[language])
    assert outcome.verdict == Verdict.EXCEPTION, outcome
    assert "program" in outcome.output and "words" not in outcome.output, outcome
    assert not re.search(r"main\.(?:cpp|go|rs|s|o|a)\b(?!:)", outcome.output), outcome


def test_a_go_program_collects_its_garbage_though_its_compiler_does_not(execute_program):
    outcome = execute_program("go", GO_GARBAGE, GO_TEST, Limits(memory_bytes=256 * MIB))
    assert outcome.verdict == Verdict.PASSED, outcome
