"""Skywork-o1-Open-PRM for vLLM, which has no class for it: Qwen2 with one linear value head on the last hidden state.

Importing this module registers the class. `with_value_head` lives here for that reason: vLLM's worker processes (tensor
parallel) unpickle it as `hf_overrides`, and so import this module before they build the model.
"""

from vllm import ModelRegistry
from vllm.model_executor.layers.linear import ReplicatedLinear
from vllm.model_executor.layers.pooler.tokwise import pooler_for_token_classify
from vllm.model_executor.models.interfaces_base import default_pooling_type
from vllm.model_executor.models.qwen2_rm import Qwen2RewardBaseModel
from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper

from actors.engine.checkpoint import SKYWORK_PRM


@default_pooling_type(tok_pooling_type="ALL")
class SkyworkPrm(Qwen2RewardBaseModel):
    """The checkpoint names the value head `v_head.summary`. Its language model head is not loaded."""

    def __init__(self, *, vllm_config, prefix: str = ""):
        config = vllm_config.model_config.hf_config
        config.num_labels = 1
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.score = ReplicatedLinear(config.hidden_size, 1, params_dtype=self.head_dtype, return_bias=False)
        self.pooler = pooler_for_token_classify(vllm_config.model_config.pooler_config)

    def load_weights(self, weights) -> set[str]:
        mapper = WeightsMapper(orig_to_new_prefix={"v_head.summary.": "score.", "lm_head.": None})
        return AutoWeightsLoader(self).load_weights(weights, mapper=mapper)


ModelRegistry.register_model(SKYWORK_PRM, SkyworkPrm)


def with_value_head(overrides: dict, config):
    """The configuration with `overrides` applied. With `overrides` bound, this function is vLLM's `hf_overrides`."""
    config.update(overrides)
    return config
