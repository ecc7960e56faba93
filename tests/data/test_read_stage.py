"""A document that breaks what reads it is dropped with its reason, and costs no other document anything."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mindgeex.data.analysis import AnalysisRules
from mindgeex.data.document import Document, Drop
from mindgeex.data.engines import EngineConfig, open_engine
from mindgeex.data.filters import Filter, Rules
from mindgeex.data.mindrecord import Corpus
from mindgeex.data.pipeline import build
from mindgeex.data.stages.read import CONDEMNED_AFTER, ReadTask, read_about, read_part


@dataclass(frozen=True)
class DeadlyRules(Rules):
    """The usual rules and one more, at which a worker really dies, or an exception is raised."""

    deadly: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    def filters(self) -> list[Filter]:
        return [self._check, *super().filters()]

    def _check(self, document: Document) -> str | None:
        if document.path.endswith(self.deadly):
            os.kill(os.getpid(), signal.SIGKILL)
        if document.path.endswith(self.broken):
            raise RecursionError("maximum depth")
        return None


@pytest.mark.parametrize(
    "engine",
    [EngineConfig(workers=2), pytest.param("cluster", marks=pytest.mark.slow)],
    indirect=True,
)
def test_a_document_that_kills_its_worker_is_all_that_is_lost(config, built, tmp_path, engine):
    rules = DeadlyRules(deadly=("repo3/src/module2.py", "repo5/core.c"), broken=("repo6/core.h",))
    manifest = build(dataclasses.replace(config, rules=rules), tmp_path / "corpus", engine).manifest
    dropped = manifest["documents"]["dropped"]
    assert dropped["parser_died"] == 2 and dropped["failed"] == 1
    assert {e["path"] for e in manifest["documents"]["examples"]["parser_died"]} == {
        "repo3/src/module2.py",
        "repo5/core.c",
    }
    assert manifest["documents"]["examples"]["failed"][0]["detail"] == "RecursionError: maximum depth"
    assert set(all_names(built.folder)) - set(all_names(tmp_path / "corpus")) == {
        "repo3/src/module2.py",
        "repo5/core.c",
        "repo6/core.h",
    }
    assert manifest["documents"]["in"] == built.manifest["documents"]["in"]


def all_names(folder) -> Iterator[str]:
    corpus = Corpus.open(folder)
    return (document.path for split in ("train", "heldout") for document in corpus.documents(split))


@dataclass(frozen=True)
class DeadlySource:
    """A source whose reader dies at its third document."""

    num_documents: int = 6

    def parts(self) -> Iterator[Any]:
        return iter(())

    def read(self, part: Any, wanted: Callable[[str, str], bool]) -> Iterator[Document | Drop]:
        for number in range(self.num_documents):
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield Document(
                f"def f{number}():\n    return 'several words in a line'\n" * 40, "python", "repo", f"{number}.py"
            )


def test_a_reader_that_dies_gives_what_it_read_before(config, tmp_path):
    config = dataclasses.replace(config, analysis=AnalysisRules(enabled=False))
    task = ReadTask(tmp_path / "00000000", DeadlySource(), None, config, ("python",), 1.0, None, name="deadly:one")
    with open_engine(EngineConfig(workers=1)) as engine:
        (about,) = engine.map(read_part, [task])
    assert about["kept"] == 2 and about["dropped"] == {"reader_died": 1}
    where = "deadly:one: document 2 of a part, and all behind it"
    assert about["examples"]["reader_died"] == [{"repo": "", "path": "", "detail": where}]
    assert CONDEMNED_AFTER == 2  # one death may be anybody's


def test_a_part_is_done_only_with_all_its_files_whole(config, tree, tmp_path):
    from mindgeex.data.sources import open_source

    source = open_source(f"local:{tree}/repo1", frozenset({"python"}))
    task = ReadTask(tmp_path / "00000000", source, next(iter(source.parts())), config, ("python",), 1.0, None)
    about = read_part(task)
    assert about["kept"] == 4 and read_about(task.out) == about
    for suffix in about["files"]:
        path = tmp_path / f"00000000{suffix}"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert read_about(task.out) is None
        assert read_part(task)["files"] == about["files"] and path.read_bytes() == whole
    (tmp_path / "00000000.json").write_text("{")
    assert read_about(task.out) is None
