"""Small real parts: pipelines of real classes at toy size, built from their configs."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def emoji():
    """The embedded model, as users load it."""
    from evenhand.config import load_model
    from evenhand.diffusion import load_diffusion

    return load_diffusion(load_model("emoji"), device="cpu")
