"""XLCoST: parallel files become pairs in both directions, and tokens become code that people write."""

import ast
import io
import shutil
import subprocess
import sysconfig
import tokenize
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.instructions.detokenise import detokenise
from mindgeex.data.instructions.encoding import EncodingConfig, encode_task
from mindgeex.data.instructions.xlcost import is_xlcost, read_pairs
from mindgeex.data.tokenizers import train_tokenizer

CPP = (
    "#include <bits/stdc++.h> NEW_LINE using namespace std ; int best ( vector < int > & a , int n ) { int most = 0 ; "
    "int near [ ] = { 1 , 2 , 3 } ; for ( int i = 0 ; i < n ; i ++ ) { if ( a [ i ] > most ) { most = a [ i ] ; } "
    "else { most += near [ i % 3 ] - 1 ; } } do { most -- ; } while ( most > 100 ) ; return most ; } int main ( ) { "
    'vector < int > a = { 3 , 1 , 2 } ; string s = " The ▁ best ▁ is : " ; cout << s << best ( a , a . size ( ) ) << '
    "endl ; }"
)
PYTHON = (
    "def best ( a , n ) : NEW_LINE INDENT most = 0 NEW_LINE for i in range ( n ) : NEW_LINE INDENT if a [ i ] > most : "
    "NEW_LINE INDENT most = a [ i ] NEW_LINE DEDENT else : NEW_LINE INDENT most += 1 NEW_LINE DEDENT DEDENT return "
    "most NEW_LINE DEDENT if __name__ == ' _ _ main _ _ ' : NEW_LINE INDENT print ( best ( [ 3 , 1 ] , 2 ) , "
    'end = " ▁ " ) NEW_LINE DEDENT'
)


def test_braces_end_lines_and_brackets_lose_their_blanks() -> None:
    assert detokenise(CPP, "C++") == (
        "#include <bits/stdc++.h>\n"
        "using namespace std;\n"
        "int best(vector < int > & a, int n) {\n"
        "    int most = 0;\n"
        "    int near[] = { 1, 2, 3 };\n"
        "    for (int i = 0; i < n; i++) {\n"
        "        if (a[i] > most) {\n"
        "            most = a[i];\n"
        "        } else {\n"
        "            most += near[i % 3] - 1;\n"
        "        }\n"
        "    }\n"
        "    do {\n"
        "        most--;\n"
        "    } while (most > 100);\n"
        "    return most;\n"
        "}\n"
        "int main() {\n"
        "    vector < int > a = { 3, 1, 2 };\n"
        '    string s = "The best is:";\n'
        "    cout << s << best(a, a.size()) << endl;\n"
        "}\n"
    )


def test_a_program_in_cpp_still_compiles(tmp_path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile with")
    (tmp_path / "a.cpp").write_text(detokenise(CPP, "C++"))
    ran = subprocess.run(["g++", "-fsyntax-only", "-x", "c++", str(tmp_path / "a.cpp")], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_line_ends_and_tabs_in_literals_come_back_as_escapes() -> None:
    assert detokenise('printf ( " % d STRNEWLINE " , result ) ;', "C") == 'printf("%d\\n", result);\n'
    java = 'System . out . print ( " a ▁ = ▁ " + a + " TABSYMBOL TABSYMBOL ( C ) " + "NEW_LINE"); } int b = 2 ;'
    assert detokenise(java, "Java").startswith('System.out.print("a = " + a + "\\t\\t(C)" + "\\n");\n')


def test_python_gets_its_blocks_and_literals_back() -> None:
    assert detokenise(PYTHON, "Python") == (
        "def best(a, n):\n"
        "    most = 0\n"
        "    for i in range(n):\n"
        "        if a[i] > most:\n"
        "            most = a[i]\n"
        "        else:\n"
        "            most += 1\n"
        "    return most\n"
        "if __name__ == '__main__':\n"
        '    print(best([3, 1], 2), end = " ")\n'
    )


def as_xlcost(source: str) -> str:
    """Python source as tokens with marks, as TransCoder's tokenizer writes them; without comments and docstrings."""
    marks = {tokenize.NEWLINE: "NEW_LINE", tokenize.INDENT: "INDENT", tokenize.DEDENT: "DEDENT"}
    words = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER):
            continue
        if token.type == tokenize.STRING and token.string[0] in "'\"" and token.string[:3] not in ("'''", '"""'):
            inner = token.string[1:-1].replace(" ", " ▁ ").replace("_", " _ ")
            words += [token.string[0], *inner.split(), token.string[0]]
        else:
            words.append(marks.get(token.type, token.string))
    return " ".join(words)


@pytest.mark.parametrize(
    "module", ["heapq", "bisect", "shlex", "genericpath", "textwrap", "fnmatch", "colorsys", "sched"]
)
def test_real_python_survives_the_way_there_and_back(module) -> None:
    source = (Path(sysconfig.get_path("stdlib")) / f"{module}.py").read_text()
    tree = ast.parse(source)
    for node in ast.walk(tree):  # strings of several lines are not in the data set
        body = getattr(node, "body", None)
        if isinstance(body, list):
            docs = [e for e in body if isinstance(e, ast.Expr) and isinstance(e.value, ast.Constant)]
            node.body = [e for e in body if e not in docs] or [ast.Pass()]
    plain = ast.unparse(tree)
    assert ast.dump(ast.parse(detokenise(as_xlcost(plain), "Python"))) == ast.dump(ast.parse(plain))


WORDS = st.sampled_from(
    ["x", "if", "(", ")", "{", "}", "[", "]", ";", ",", "=", '"', "'", "▁", "++", ".", "::", "->", "1", ":", "NEW_LINE"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, max_size=40), st.sampled_from(["C", "C++", "C#", "Java", "Javascript", "PHP", "Python"]))
def test_every_token_comes_out_in_order_whatever_the_program(words, language) -> None:
    bare = "".join(word for word in words if word not in ("NEW_LINE", "▁"))
    out = detokenise(" ".join(words), language)
    assert "".join(out.split()).replace("▁", "") == bare


@pytest.fixture
def xlcost(tmp_path) -> Path:
    folder = tmp_path / "pair_data_tok_full" / "C++-Python"
    folder.mkdir(parents=True)
    (folder / "train-C++-Python-tok.cpp").write_text(CPP + "\nint a = 2 ;\nint b = 3 ;\n")
    (folder / "train-C++-Python-tok.py").write_text(PYTHON + "\na = 2 NEW_LINE\nif b : NEW_LINE c = 3 NEW_LINE\n")
    (folder / "train-C++-map.jsonl").write_text("11\n12\n13\n")
    (folder / "val-C++-Python-tok.py").write_text("never read\n")
    (tmp_path / "pair_data_tok_full" / "notes").mkdir()
    return tmp_path / "pair_data_tok_full"


def test_a_pair_gives_both_directions_and_a_program_without_its_blocks_none(xlcost) -> None:
    for place in (xlcost, xlcost / "C++-Python"):
        assert is_xlcost(place)
        records = list(read_pairs(place))
        assert [record is None for record in records] == [False] * 4 + [True] * 2
        ways = [(record.content.source_language, record.content.target_language) for record in records[:4]]
        assert ways == [("C++", "Python"), ("Python", "C++")] * 2
        assert (records[2].content.source, records[2].content.target) == ("int a = 2;\n", "a = 2\n")
        assert [record.key for record in records[:4]] == ["xlcost 11", "xlcost 11", "xlcost 12", "xlcost 12"]
        assert records[3].where.endswith("train-C++-Python-tok.cpp, line 2")


def test_pairs_become_rows_with_the_published_prompt(xlcost, tmp_path) -> None:
    tokenizer = train_tokenizer([CPP, PYTHON], 330, tmp_path / "tokenizer")
    task = encode_task(xlcost, None, tokenizer, 900, EncodingConfig(heldout_share=0))
    assert (task.samples, task.dropped, task.template.name) == (4, {"not_a_program": 2}, "codegeex_translation")
    text = tokenizer.decode(task.train.tokens)
    assert "code translation\nC++:\nint a = 2;\nPython:\na = 2\n<|endoftext|>" in text
    assert "code translation\nPython:\na = 2\nC++:\nint a = 2;\n<|endoftext|>" in text


def test_files_that_are_not_parallel_are_refused(xlcost) -> None:
    file = xlcost / "C++-Python" / "train-C++-Python-tok.py"
    file.write_text("a = 2 NEW_LINE\n")
    with pytest.raises(UserError, match=r"tok.cpp: 3 lines, but train-C\+\+-Python-tok.py has 1"):
        list(read_pairs(xlcost))
    file.unlink()
    with pytest.raises(UserError, match=r"tok.py: no such file"):
        list(read_pairs(xlcost))
