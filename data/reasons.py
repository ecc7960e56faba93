"""The reasons to drop a file, by the step of a build that gives them, and what each means.

Covers: every reason of data/; a test finds those that are missing here. Does not cover: thresholds, which the
manifest's configuration has.
"""

STEPS = {
    "wanted repository": {
        "few_stars": "its repository has too few stars",
        "large_repository": "its repository is too large",
        "other_set": "belongs to another part of The Pile",
    },
    "sampled": {
        "not_sampled": "left out by the cap on bytes, by a hash of the name",
    },
    "readable": {
        "unreadable": "could not be read",
        "corrupt_file": "a data set's file is damaged here; nothing behind it was read",
        "corrupt_archive": "an archive, or a file in it, is damaged",
        "decompression_bomb": "becomes far larger than source code does; not read further",
        "encrypted": "encrypted inside its archive",
        "not_a_file": "a link, a device or the like inside an archive",
        "unsafe_name": "its name leads out of its archive",
        "bad_row": "a row of a data set without the columns that are needed",
        "not_utf8": "not UTF-8 text",
        "reader_died": "whoever read here died, twice; nothing behind it in its part was read",
    },
    "wanted language": {
        "unknown_language": "neither its name nor its text tells the language",
        "other_language": "its content is in no language asked for",
    },
    "within CodeGeeX's thresholds": {
        "too_small": "smaller than the size rule allows",
        "too_large": "larger than the size rule allows",
        "long_lines": "too many characters a line on average",
        "few_letters": "too small a share of letters",
    },
    "written by hand, and here": {
        "lock_file": "a package manager's list of versions",
        "generated_name": "has a name that only tools write",
        "generated_header": "says that a tool wrote it",
        "vendored": "somebody else's code in a copy",
        "protobuf_output": "stubs of protocol buffers, gRPC, Thrift or FlatBuffers",
        "parser_output": "a scanner or parser made from a grammar",
        "compiler_output": "translated from another language or description",
        "configure_output": "written by autoconf, CMake or their like",
        "api_client": "made from the description of an interface",
        "generated_page": "a page that a documentation tool or an office wrote",
        "minified": "JavaScript or CSS made small",
        "data_table": "mostly numbers in rows, or encoded bytes",
    },
    "licence allowed": {
        "licence": "its licence is not among those allowed",
        "no_licence": "its licence is not known",
    },
    "sound code": {
        "syntax_errors": "too much of it does not parse",
        "unclean": "its cleanliness score is too low",
        "parse_timeout": "took the parser too long",
        "parser_died": "whoever parsed it died, twice",
        "failed": "a step failed on it",
    },
    "without benchmarks": {
        "contaminated": "contains a benchmark's problem or solution",
    },
    "no copy": {
        "in_earlier_source": "its repository is in a source before this one",
        "duplicate": "the same text is kept elsewhere",
        "near_duplicate": "nearly the same text is kept elsewhere",
        "in_earlier_corpus": "an earlier corpus has it, or nearly the same",
    },
}
"""The steps of a build, nearly in their order (some names are asked before sizes): of each, the reasons to drop a file
there, and what they mean."""

DROP_TEXT = {reason: text for reasons in STEPS.values() for reason, text in reasons.items()}
"""Reason to drop a file -> what it means."""
