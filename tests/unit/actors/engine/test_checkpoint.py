"""What a checkpoint's files say of its size, without loading them."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from actors.engine.checkpoint import count_parameters, weights_bytes


def test_weights_take_the_engines_dtype_but_quantised_ones_keep_their_size(tmp_path):
    save_file({"norm": np.ones((10, 3), np.float32), "head": np.ones(5, np.float16)}, tmp_path / "a.safetensors")
    save_file({"packed": np.ones((4, 2), np.int32)}, tmp_path / "b.safetensors")
    assert weights_bytes(str(tmp_path), 2) == 35 * 2 + 8 * 4
    assert weights_bytes(str(tmp_path), 4) == 35 * 4 + 8 * 4
    assert count_parameters(str(tmp_path)) == 43


def test_a_folder_without_weights_says_what_to_give(tmp_path):
    with pytest.raises(ValueError, match="parameters:"):
        weights_bytes(str(tmp_path), 2)
