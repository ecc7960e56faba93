"""Documents as syntax trees: which grammar reads a language, and where its functions, comments and dead statements are.

One query a language, run once a tree in C, finds everything: `@function` with its `@name` and its `@body` (or `@head`,
where the body is what follows it), `@comment`, and `@dead`, the statement that follows a jump in `@block`.

Covers: the languages of `GRAMMARS`; documents with syntax errors, whose intact parts are found all the same.
Does not cover: code inside other languages (scripts in HTML, SQL in strings), unnamed functions, macros that define
functions, or a bound on every parse and query: see `BUDGET`; 50,000 brackets in a row take 2 to 45 seconds to query.
"""

import functools
import importlib
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mindgeex.common.errors import UserError

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Parser, Query, Tree

    Captures = dict[str, list[Node]]

_PACKAGES = {
    "c": "c", "cpp": "cpp", "csharp": "c_sharp", "css": "css", "elixir": "elixir", "fortran": "fortran", "go": "go",
    "groovy": "groovy", "haskell": "haskell", "html": "html", "java": "java", "javascript": "javascript",
    "julia": "julia", "kotlin": "kotlin", "lua": "lua", "objective-c": "objc", "perl": "perl", "php": "php",
    "powershell": "powershell", "python": "python", "ruby": "ruby", "rust": "rust", "scala": "scala", "shell": "bash",
    "solidity": "solidity", "sql": "sql", "swift": "swift", "typescript": "typescript",
}  # fmt: skip
_ENTRIES = {"php": "language_php", "typescript": "language_typescript"}

GRAMMARS: dict[str, tuple[str, str]] = {
    key: (f"tree_sitter_{package}", _ENTRIES.get(key, "language")) for key, package in _PACKAGES.items()
}
"""Language key -> the module that holds its grammar, and the function there that gives it."""

_TSX = ("tree_sitter_typescript", "language_tsx")

_C = """
(function_definition declarator: (_) @name body: (compound_statement) @body) @function
(comment) @comment
([(compound_statement [(return_statement) (break_statement) (continue_statement) (goto_statement)] . (_) @dead)
  (case_statement [(return_statement) (break_statement) (continue_statement) (goto_statement)] . (_) @dead)]) @block
"""
_JAVASCRIPT = """
[(function_declaration name: (_) @name body: (_) @body)
 (generator_function_declaration name: (_) @name body: (_) @body)
 (method_definition name: (_) @name body: (_) @body)
 (variable_declarator name: (identifier) @name
   value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)])
 (assignment_expression left: [(identifier) (member_expression)] @name
   right: [(arrow_function body: (_) @body) (function_expression body: (_) @body)])
 (pair key: (_) @name value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)])] @function
(comment) @comment
(statement_block [(return_statement) (throw_statement) (break_statement) (continue_statement)] . (_) @dead) @block
"""
_FIELD = "value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)]) @function"

_QUERIES = {
    "c": _C,
    "cpp": _C + "(compound_statement [(throw_statement) (co_return_statement)] . (_) @dead) @block",
    "objective-c": _C + """
        (method_definition . (method_type)? . (identifier) @name (compound_statement) @body) @function
        (compound_statement (throw_statement) . (_) @dead) @block""",
    "csharp": """
        [(method_declaration name: (_) @name body: (_) @body)
         (local_function_statement name: (_) @name body: (_) @body)
         (constructor_declaration name: (_) @name body: (_) @body)
         (destructor_declaration name: (_) @name body: (_) @body)
         (operator_declaration operator: _ @name body: (_) @body)] @function
        (comment) @comment
        (block [(return_statement) (throw_statement) (break_statement) (continue_statement) (goto_statement)]
          . (_) @dead) @block""",
    "css": "[(comment) (js_comment)] @comment",
    "elixir": """
        (call target: (identifier) @keyword
          (arguments . [(identifier) @name (call target: (identifier) @name)
                        (binary_operator left: (call target: (identifier) @name))])
          (do_block) @body) @function
        (comment) @comment""",
    "fortran": """
        (subroutine (subroutine_statement name: (_) @name) @head) @function
        (function (function_statement name: (_) @name) @head) @function
        (module_procedure (module_procedure_statement name: (_) @name) @head) @function
        (comment) @comment""",
    "go": """
        [(function_declaration name: (_) @name body: (_) @body)
         (method_declaration name: (_) @name body: (_) @body)] @function
        (var_spec name: (_) @name value: (expression_list . (func_literal body: (_) @body) .)) @function
        (short_var_declaration left: (expression_list . (identifier) @name .)
          right: (expression_list . (func_literal body: (_) @body) .)) @function
        (comment) @comment
        (statement_list [(return_statement) (break_statement) (continue_statement) (goto_statement)]
          . (_) @dead) @block""",
    "groovy": """
        [(function_definition name: (_) @name body: (_) @body)
         (method_declaration name: (_) @name body: (_) @body)
         (constructor_declaration name: (_) @name body: (_) @body)] @function
        [(line_comment) (block_comment)] @comment
        ([(block [(return_statement) (throw_statement) (break_statement) (continue_statement)] . (_) @dead)
          (closure [(return_statement) (throw_statement)] . (_) @dead)]) @block""",
    "haskell": """
        (function name: (_) @name match: (_) @body) @function
        (comment) @comment""",
    "html": "(comment) @comment",
    "java": """
        [(method_declaration name: (_) @name body: (_) @body)
         (constructor_declaration name: (_) @name body: (_) @body)
         (compact_constructor_declaration name: (_) @name body: (_) @body)] @function
        [(line_comment) (block_comment)] @comment
        (block [(return_statement) (throw_statement) (break_statement) (continue_statement)] . (_) @dead) @block""",
    "javascript": _JAVASCRIPT + "(field_definition property: (_) @name " + _FIELD,
    "typescript": _JAVASCRIPT + "(public_field_definition name: (_) @name " + _FIELD,
    "julia": """
        (function_definition (signature) @name @head) @function
        (assignment . (call_expression) @name (operator) @head) @function
        [(line_comment) (block_comment)] @comment
        (function_definition (return_statement) . (_) @dead) @block""",
    "kotlin": """
        (function_declaration name: (identifier) @name (function_body) @body) @function
        (secondary_constructor "constructor" @name (block) @body) @function
        [(line_comment) (block_comment)] @comment
        (block [(return_expression) (throw_expression)] . (_) @dead) @block""",
    "lua": """
        (function_declaration name: (_) @name parameters: (_) @head) @function
        (assignment_statement (variable_list . name: (_) @name .)
          (expression_list . value: (function_definition parameters: (_) @head) .)) @function
        (field name: (_) @name value: (function_definition parameters: (_) @head)) @function
        (comment) @comment""",
    "perl": """
        (subroutine_declaration_statement name: (_) @name body: (_) @body) @function
        (method_declaration_statement name: (_) @name body: (_) @body) @function
        [(comment) (pod)] @comment
        (block (expression_statement (return_expression)) . (_) @dead) @block""",
    "php": """
        [(function_definition name: (_) @name body: (_) @body)
         (method_declaration name: (_) @name body: (_) @body)
         (assignment_expression left: (_) @name right: (anonymous_function body: (_) @body))] @function
        (comment) @comment
        (compound_statement [(return_statement) (break_statement) (continue_statement) (goto_statement) (exit_statement)
          (expression_statement (throw_expression))] . (_) @dead) @block""",
    "powershell": """
        (function_statement (function_name) @name (script_block)? @body) @function
        (class_method_definition (simple_name) @name (script_block)? @body) @function
        (comment) @comment
        (statement_list (flow_control_statement) . (_) @dead) @block""",
    "python": """
        (function_definition name: (_) @name body: (_) @body) @function
        (comment) @comment
        (expression_statement . (string) @comment .)
        (block [(return_statement) (raise_statement) (break_statement) (continue_statement)] . (_) @dead) @block""",
    "ruby": """
        (method name: (_) @name parameters: (_)? @head body: (_)? @body) @function
        (singleton_method name: (_) @name parameters: (_)? @head body: (_)? @body) @function
        (comment) @comment
        ([(body_statement [(return) (break) (next)] . (_) @dead) (then [(return) (break) (next)] . (_) @dead)
          (block_body [(return) (break) (next)] . (_) @dead)]) @block""",
    "rust": """
        (function_item name: (_) @name body: (_) @body) @function
        [(line_comment) (block_comment)] @comment
        (block (expression_statement [(return_expression) (break_expression) (continue_expression)])
          . (_) @dead) @block""",
    "scala": """
        (function_definition name: (_) @name body: (_) @body) @function
        [(comment) (block_comment)] @comment
        (block [(return_expression) (throw_expression)] . (_) @dead) @block""",
    "shell": """
        (function_definition name: (_) @name body: (_) @body) @function
        (comment) @comment
        (compound_statement (command name: (command_name) @keyword) . (_) @dead) @block""",
    "solidity": """
        [(function_definition name: (_) @name body: (_) @body)
         (modifier_definition name: (_) @name body: (_) @body)
         (constructor_definition "constructor" @name body: (_) @body)] @function
        (comment) @comment
        ([(function_body (statement [(return_statement) (break_statement) (continue_statement)]) . (_) @dead)
          (block_statement (statement [(return_statement) (break_statement) (continue_statement)])
            . (_) @dead)]) @block""",
    "sql": """
        (create_function (object_reference) @name (function_body) @body) @function
        [(comment) (marginalia)] @comment""",
    "swift": """
        (function_declaration name: (simple_identifier) @name body: (_) @body) @function
        (init_declaration "init" @name body: (_) @body) @function
        [(comment) (multiline_comment)] @comment
        (statements (control_transfer_statement) . (_) @dead) @block""",
}  # fmt: skip

_KEYWORDS = frozenset({b"def", b"defp", b"defmacro", b"defmacrop", b"return", b"exit"})
"""What a match's `@keyword` has to be, where a grammar does not tell keywords from names. (A query's own predicates are
not used: the binding reads their text through the callback of `_parse`, which costs memory it never frees.)"""

BUDGET = 100_000
"""Work allowed for a parse, for each started 100 KB of source: about a second, and ten times what real code takes.

Counted in tree-sitter's own steps (eight points) and reads of 1 KB (one point), never by a clock: which documents are
given up must not depend on the machine. A step itself is not bounded: see `_UNCLOSED`.
"""

_OPEN_MATCHES = 512
"""Partial matches a query may hold at a time. Nesting opens one a level: without a bound it takes the depth squared."""

_UNCLOSED = {"csharp": 4000, "groovy": 4000, "java": 4000}
"""With more unclosed `<` than this a document is not parsed: at the end of `a<a<a<...` these three take memory by the
square of it between two steps, 0.3 GB for 4,000 and 40 GB for 50,000. C does so for `a=>a=>a=>...`, 0.6 GB for 1,300,
which nothing here prevents: no file of real code has been found that comes near it."""

_NESTING = re.compile(rb"\w\s*<(?=\s*\w)")

BUDGET_BYTES = 100 * 1024
_STEP_POINTS = 8


def grammar_packages() -> list[str]:
    """The installed packages that decide what trees look like."""
    return sorted({module.replace("_", "-") for module, _ in GRAMMARS.values()})


class ParseTimeout(Exception):
    """The parser used up its budget, or would have: no tree can be had of this document."""


class Function(NamedTuple):
    """One definition of a named function or method; all positions are bytes of `Parsed.source`."""

    name: str
    start_byte: int
    end_byte: int
    body_start: int
    """Where its body starts, with the brace if the language has one; equal to `body_end` if there is none."""

    body_end: int


@dataclass(frozen=True)
class Parsed:
    """A document's syntax tree. It cannot be pickled: parse where it is used."""

    source: bytes
    language: str
    tree: "Tree"
    grammar: tuple[str, str]
    """Module and function, as in `GRAMMARS`."""

    @functools.cached_property
    def matches(self) -> "list[Captures]":
        """What the language's query finds, in one pass over the tree."""
        from tree_sitter import QueryCursor

        found = QueryCursor(_query(self.language, *self.grammar), match_limit=_OPEN_MATCHES).matches(
            self.tree.root_node
        )
        return [captures for _, captures in found if "keyword" not in captures or self._is_keyword(captures)]

    def _is_keyword(self, captures: "Captures") -> bool:
        node = captures["keyword"][0]
        return self.source[node.start_byte : node.end_byte] in _KEYWORDS


def parse(text: str, language: str, path: str = "") -> Parsed | None:
    """The document's tree; syntax errors are nodes of it.

    Args:
        text: the source.
        language: a key of `GRAMMARS`.
        path: its path; TypeScript has a second grammar for `.tsx`.

    Returns:
        None if there is no grammar for the language.

    Raises:
        ParseTimeout: see `BUDGET` and `_UNCLOSED`.
        UserError: the grammar's package is not installed.
    """
    if language not in GRAMMARS:
        return None
    grammar = _TSX if language == "typescript" and path.lower().endswith(".tsx") else GRAMMARS[language]
    source = text.encode("utf-8", "surrogatepass")
    limit = _UNCLOSED.get(language, len(source))
    if source.count(b"<") - source.count(b">") > limit and len(_NESTING.findall(source)) > limit:
        raise ParseTimeout(f"more than {limit} unclosed '<'")
    read = _CPLUSPLUS.sub(_blank, source) if language == "c" and b"__cplusplus" in source else source
    return Parsed(source, language, _parse(read, _parser(*grammar)), grammar)


def functions(parsed: Parsed) -> list[Function]:
    """Definitions of named functions and methods that have a body, in order; nested ones too."""
    found = [_function(parsed.source, captures) for captures in parsed.matches if "function" in captures]
    return sorted(found, key=lambda function: function[1:])


def comments(parsed: Parsed) -> list[tuple[int, int]]:
    """Byte ranges of comments, in order; a string that stands alone in Python (a docstring) is one."""
    nodes = (captures["comment"][0] for captures in parsed.matches if "comment" in captures)
    return sorted((node.start_byte, node.end_byte) for node in nodes)


def errors(parsed: Parsed) -> list[tuple[int, int]]:
    """Byte ranges of what the parser could not read, and of the tokens it found missing (empty ranges), in order.

    What follows the last node of the tree counts too: some grammars (Kotlin's) stop in the middle of broken text.
    """
    from tree_sitter import QueryCursor

    root = parsed.tree.root_node
    last = root.child(root.child_count - 1).end_byte if root.child_count else 0
    unread = [(last, len(parsed.source))] if parsed.source[last:].strip() and not root.is_error else []
    if not root.has_error:
        return unread
    nodes = QueryCursor(_errors_query(*parsed.grammar)).captures(root).get("error", [])
    return sorted([*((node.start_byte, node.end_byte) for node in nodes), *unread])


_CPLUSPLUS = re.compile(
    rb"(\#[ \t]*if[^\n]*\b__cplusplus\b[^\n]*\n)((?:(?![ \t]*\#)[^\n]*\n){1,8})(?=[ \t]*\#[ \t]*endif)"
)
"""`extern "C" {` and `}` in C headers, each of which is unbalanced to a parser that reads both."""


def _blank(guard: re.Match[bytes]) -> bytes:
    return guard[1] + re.sub(rb"[^\n]", b" ", guard[2])


_CALLED = re.compile(rb"(?:[\w:<>,~ ]*\b)?operator\s*(?:\(\)|[^\s(]+)|[\w:.~$!?]+(?=\s*\()")


def _function(source: bytes, captures: "Captures") -> Function:
    whole, name = captures["function"][0], captures["name"][0]
    text = source[name.start_byte : name.end_byte]
    called = _CALLED.search(text) if b"(" in text else None
    word = (called.group() if called else text).decode("utf-8", "replace").strip()
    if "body" in captures:
        body = captures["body"][0]
        return Function(word, whole.start_byte, whole.end_byte, body.start_byte, body.end_byte)
    start = captures["head"][0].end_byte if "head" in captures else whole.end_byte
    return Function(word, whole.start_byte, whole.end_byte, start, whole.end_byte)


_READ_BYTES = 1024
_CHUNK = bytearray(_READ_BYTES)
_CHUNKS = [memoryview(_CHUNK)[:length] for length in range(_READ_BYTES + 1)]
"""What `read` below hands out, always the same objects: the binding (0.26) never releases what it is given."""


def _parse(source: bytes, parser: "Parser") -> "Tree":
    left = BUDGET * -(-max(1, len(source)) // BUDGET_BYTES)
    parsing = True

    def read(offset: int, point: object) -> memoryview | bytes:
        nonlocal left
        chunk = source[offset : offset + _READ_BYTES]
        if not parsing:  # somebody asks for Node.text
            return chunk
        left -= 1
        _CHUNK[: len(chunk)] = chunk
        return _CHUNKS[len(chunk)]

    def exhausted(offset: int, has_error: bool) -> bool:
        nonlocal left
        left -= _STEP_POINTS
        return left < 0

    try:
        return parser.parse(read, progress_callback=exhausted)
    except ValueError:  # what tree-sitter raises for a parse that was stopped
        parser.reset()
        raise ParseTimeout(f"no tree within a budget of {BUDGET} for each 100 KB") from None
    finally:
        parsing = False


@functools.cache
def _language(module: str, function: str) -> "Language":
    import tree_sitter

    try:
        grammar = importlib.import_module(module)
    except ImportError:
        package = module.replace("_", "-")
        raise UserError(f"the grammar {package} is not installed: run `pip install {package}`") from None
    with warnings.catch_warnings():  # some grammars still give a number where tree-sitter wants a capsule
        warnings.simplefilter("ignore", DeprecationWarning)
        return tree_sitter.Language(getattr(grammar, function)())


@functools.cache
def _parser(module: str, function: str) -> "Parser":
    import tree_sitter

    return tree_sitter.Parser(_language(module, function))


@functools.cache
def _query(language: str, module: str, function: str) -> "Query":
    import tree_sitter

    return tree_sitter.Query(_language(module, function), _QUERIES[language])


@functools.cache
def _errors_query(module: str, function: str) -> "Query":
    import tree_sitter

    return tree_sitter.Query(_language(module, function), "[(ERROR) (MISSING)] @error")
