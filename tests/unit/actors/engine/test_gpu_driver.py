"""What a replica says on a node whose GPU torch cannot use: what was found, what is needed, what to do."""

import pytest

from actors.engine.thread import DRIVERS, no_gpu

CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Oct 22 19:05:13 UTC 2024\nGCC version:  gcc 12.3.0\n"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@host)\nGCC version: 13\n"
)


@pytest.mark.parametrize("module", [CLOSED, OPEN])
@pytest.mark.parametrize(
    ("driver", "cuda", "needed"),
    [("550.127.05", "13.0", "580.65.06"), ("580.65", "13.1", "580.65.06"), ("470.256.02", "12.9", "525.60.13")],
)
def test_a_driver_that_is_too_old_is_named_with_the_one_that_is_needed(module, driver, cuda, needed):
    said = no_gpu(cuda, module.format(driver))
    assert all(word in said for word in (driver, cuda, needed, "update the driver"))


@pytest.mark.parametrize("driver", ["580.65.06", "580.95.05", "595.10"])
def test_a_driver_that_is_new_enough_is_not_blamed(driver):
    said = no_gpu("13.0", OPEN.format(driver))
    assert driver in said and "update the driver" not in said and "container" in said


def test_a_node_without_a_driver_says_which_one_its_torch_needs():
    said = no_gpu("13.0", "")
    assert DRIVERS[13] in said and "no NVIDIA driver" in said


def test_torch_for_the_cpu_is_told_from_a_missing_driver():
    assert "CPU build" in no_gpu(None, OPEN.format("580.65.06"))


def test_a_cuda_that_is_not_known_is_not_compared():
    said = no_gpu("14.2", OPEN.format("610.10.01"))
    assert "610.10.01" in said and "update the driver" not in said
