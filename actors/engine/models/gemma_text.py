"""Gemma-3's language model, loaded from its multimodal checkpoint.

The Hub's gemma-3-4b-it and gemma-3-12b-it hold a vision tower beside the language model. vLLM's class for them imports
torchvision, which this project's CPU environment leaves out. That class also hands `head_dtype`, set on the whole
configuration, to neither part. STEER routes text, so vLLM gets only the text part of the configuration and of the
weights.

Importing this module registers the class. `text_part` lives here for that reason: vLLM's worker processes (tensor
parallel) unpickle it as `hf_overrides`, and so import this module before they build the model.
"""

from vllm import ModelRegistry
from vllm.model_executor.models.gemma3 import Gemma3ForCausalLM
from vllm.model_executor.models.utils import WeightsMapper

ARCHITECTURE = "Gemma3TextPartForCausalLM"


class Gemma3TextPart(Gemma3ForCausalLM):
    """vLLM's Gemma-3 language model. It reads its part of a multimodal checkpoint and skips the other parts."""

    # The Hub's files name that part `language_model.model.`, transformers 4.52 to 4.57 `model.language_model.`.
    hf_to_vllm_mapper = Gemma3ForCausalLM.hf_to_vllm_mapper | WeightsMapper(
        orig_to_new_prefix={
            "model.vision_tower.": None,
            "model.multi_modal_projector.": None,
            "vision_tower.": None,
            "multi_modal_projector.": None,
            "model.language_model.": "model.",
            "language_model.": "",
        }
    )


ModelRegistry.register_model(ARCHITECTURE, Gemma3TextPart)


def text_part(overrides: dict, config):
    """The text part of a `Gemma3Config`, with `overrides` applied. Any other configuration comes back unchanged.

    With `overrides` bound, this function is vLLM's `hf_overrides`.
    """
    if config.model_type != "gemma3":
        return config
    text = config.text_config
    text.architectures = [ARCHITECTURE]
    for name in ("dtype", "quantization_config"):  # a checkpoint sets these once, for all its parts
        if getattr(config, name, None) is not None:
            setattr(text, name, getattr(config, name))
    nested = overrides.get("text_config", {})
    text.update({name: value for name, value in overrides.items() if name != "text_config"} | nested)
    return text
