"""The file that `auto_register` names in a configuration: MindFormers copies it and takes its classes by name.

MindFormers' run script finds it by `--register_path`, which is this folder. Imported, it also tells the Auto classes.
"""

from mindformers.models.auto import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from mindgeex.model_zoo.mindformers_plugin.config import CodeGeeXConfig, GPTNeoXConfig
from mindgeex.model_zoo.mindformers_plugin.model import CodeGeeXForCausalLM, GPTNeoXForCausalLM
from mindgeex.model_zoo.mindformers_plugin.tokenizer import MindGeeXTokenizer
from mindgeex.model_zoo.mindformers_plugin.wrapper import FiniteTrainOneStepCell

__all__ = [
    "CodeGeeXConfig", "CodeGeeXForCausalLM", "FiniteTrainOneStepCell", "GPTNeoXConfig", "GPTNeoXForCausalLM",
    "MindGeeXTokenizer",
]  # fmt: skip

for _config, _model in ((CodeGeeXConfig, CodeGeeXForCausalLM), (GPTNeoXConfig, GPTNeoXForCausalLM)):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)
    AutoModelForCausalLM.register(_config, _model, exist_ok=True)
    AutoTokenizer.register(_config, fast_tokenizer_class=MindGeeXTokenizer, exist_ok=True)
