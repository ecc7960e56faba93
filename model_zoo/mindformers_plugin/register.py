"""The file that `auto_register` names in a configuration: MindFormers copies it and takes its classes by name.

MindFormers' run script finds it by `--register_path`, which is this folder.
"""

from mindgeex.model_zoo.mindformers_plugin.config import CodeGeeXConfig, GPTNeoXConfig
from mindgeex.model_zoo.mindformers_plugin.model import CodeGeeXForCausalLM, GPTNeoXForCausalLM
from mindgeex.model_zoo.mindformers_plugin.tokenizer import MindGeeXTokenizer
from mindgeex.model_zoo.mindformers_plugin.wrapper import FiniteTrainOneStepCell

__all__ = [
    "CodeGeeXConfig", "CodeGeeXForCausalLM", "FiniteTrainOneStepCell", "GPTNeoXConfig", "GPTNeoXForCausalLM",
    "MindGeeXTokenizer",
]  # fmt: skip
