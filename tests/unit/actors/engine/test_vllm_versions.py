"""What differs between the versions of vLLM that STEER runs with, and what a machine may lack."""

import importlib.util
import os
import sys
from types import ModuleType

import pytest

from actors.engine.arguments import set_environment
from actors.engine.requests import Intake

FLASHINFER = "VLLM_USE_FLASHINFER_SAMPLER"


@pytest.fixture
def environment(monkeypatch):
    """A copy of the environment's variables, without the one that is asked about."""
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if name != FLASHINFER})
    return os.environ


def has_flashinfer(monkeypatch, there):
    monkeypatch.setattr(
        "actors.engine.arguments.find_spec", lambda name: importlib.util.find_spec("os") if there else None
    )


def test_without_flashinfer_vllm_samples_by_its_own_kernels(monkeypatch, environment):
    has_flashinfer(monkeypatch, False)
    set_environment(gpus=1)
    assert environment[FLASHINFER] == "0"


def test_with_flashinfer_and_on_a_cpu_the_choice_is_left_to_vllm(monkeypatch, environment):
    has_flashinfer(monkeypatch, True)
    set_environment(gpus=1)
    has_flashinfer(monkeypatch, False)
    set_environment(gpus=0)
    assert FLASHINFER not in environment


def test_what_the_user_has_set_stays(monkeypatch, environment):
    has_flashinfer(monkeypatch, False)
    environment[FLASHINFER] = "1"
    set_environment(gpus=1)
    assert environment[FLASHINFER] == "1"


@pytest.mark.parametrize("has_error_class", [True, False], ids=["vllm 0.32", "vllm 0.26"])
def test_a_request_that_vllm_refuses_is_known_by_its_error_in_either_version(monkeypatch, has_error_class):
    exceptions = ModuleType("vllm.exceptions")
    if has_error_class:
        exceptions.VLLMClientError = type("VLLMClientError", (Exception,), {})
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.exceptions", exceptions)
    refusals = Intake(engine=None).refusals
    assert ValueError in refusals and len(refusals) == 1 + has_error_class
