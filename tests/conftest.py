"""Small real parts: pipelines of real classes at toy size, built from their configs."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Many tests ask for equal bits, which a GPU does not give; CUDA_VISIBLE_DEVICES=0 runs them on one.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
import torch

torch.set_num_threads(1)


def pytest_sessionfinish(session):
    """Where CI is set, a skipped test is a failure: everything that tests need must be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def emoji():
    """The embedded model, as users load it."""
    from evenhand.diffusion.pipeline import load_diffusion
    from evenhand.recipes.model import load_model

    return load_diffusion(load_model("emoji"), device="cpu")


@pytest.fixture
def tiny_clip(tmp_path):
    """A CLIP of transformers in a folder."""
    import pipelines
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    size = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config={
            **size,
            "vocab_size": 54,
            "max_position_embeddings": 12,
            "bos_token_id": 52,
            "eos_token_id": 53,
            "pad_token_id": 53,
        },
        vision_config={**size, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path / "clip")
    pipelines.clip_tokenizer().save_pretrained(tmp_path / "clip")
    return str(tmp_path / "clip")
