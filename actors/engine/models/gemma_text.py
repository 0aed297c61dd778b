"""Gemma-3's language model out of its multimodal checkpoint.

The hub's gemma-3-4b-it and gemma-3-12b-it hold a vision tower beside the language model. vLLM's class for them imports
torchvision, which this project's CPU environment leaves out, and hands a head's dtype that is set for the whole on to
neither part. STEER routes text, so here vLLM is given the text part of the configuration and of the weights alone.

vLLM's worker processes (tensor parallel) unpickle `hf_overrides`, so they import this module before they build the
model, and importing it registers the class: that is why `text_part` lives beside it.
"""

from vllm import ModelRegistry
from vllm.model_executor.models.gemma3 import Gemma3ForCausalLM
from vllm.model_executor.models.utils import WeightsMapper

ARCHITECTURE = "Gemma3TextPartForCausalLM"


class Gemma3TextPart(Gemma3ForCausalLM):
    """vLLM's Gemma-3 language model, reading a checkpoint that names it a part and skipping the other parts."""

    # `language_model.model.` is how the hub's files name it, `model.language_model.` how transformers 4.52 to 4.57 did.
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
    """The text part of a `Gemma3Config` with `overrides` laid over it; any other configuration as it is. With its first
    argument bound, vLLM's `hf_overrides`."""
    if config.model_type != "gemma3":
        return config
    text = config.text_config
    text.architectures = [ARCHITECTURE]
    for name in ("dtype", "quantization_config"):  # what a checkpoint says once, for all its parts
        if getattr(config, name, None) is not None:
            setattr(text, name, getattr(config, name))
    nested = overrides.get("text_config", {})
    text.update({name: value for name, value in overrides.items() if name != "text_config"} | nested)
    return text
