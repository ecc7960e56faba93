"""The six languages: one file each, and this table."""

from mindgeex.eval.languages import cpp, go, java, javascript, python, rust
from mindgeex.eval.languages.language import Language

LANGUAGES: dict[str, Language] = {
    module.LANGUAGE.key: module.LANGUAGE for module in (python, cpp, java, javascript, go, rust)
}
"""Key as typed on the command line -> language."""
