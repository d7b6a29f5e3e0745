"""A vision-language judge: a tiny model of the real class, its options, and what it refuses."""

import pytest
import torch
import yaml

from evenhand.adapt.dft.finetune import finetune
from evenhand.core.errors import UserError
from evenhand.judges.registry import load_judge
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.judge import find_judge

TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' "
    "%}<image>{% else %}{{ c['text'] }}"
    "{% endif %}{% endfor %} {% endfor %}ASSISTANT:"
)
CONFIG = {
    "kind": "vlm",
    "attributes": {"gender": {"classes": ["woman", "man"]}},
    "questions": {"gender": "Who is this?"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A LLaVA of one layer with a tokenizer of bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("llava")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.add_tokens([AddedToken("<image>", special=True)])
    torch.manual_seed(0)
    size = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    image_token = fast.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=32, patch_size=16),
        text_config=LlamaConfig(**size, vocab_size=len(fast), max_position_embeddings=512),
        image_token_index=image_token,
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
        fast,
        patch_size=16,
        image_token="<image>",
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


def write(folder, **config):
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **config}))
    return str(path)


def test_it_answers_within_the_options(model, tmp_path):
    judge = load_judge(find_judge(write(tmp_path, model=str(model))))
    images = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    found = judge(images)
    assert (
        found.logits["gender"].shape == (3, 2)
        and found.seen.shape == (3,)
        and not found.logits["gender"].requires_grad
    )
    alone = torch.cat([judge(image[None]).logits["gender"] for image in images])
    torch.testing.assert_close(found.logits["gender"], alone, atol=1e-4, rtol=1e-4)
    assert "Who is this?\nA. woman\nB. man\nC. unclear\n" in judge._texts["gender"]
    with pytest.raises(UserError, match="has no features"):
        judge.features(images)


def test_what_it_cannot_do_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="vision-language model .*nowhere.* cannot be loaded"):
        load_judge(find_judge(write(tmp_path, model=str(tmp_path / "nowhere"))))
    with pytest.raises(ValueError, match=r"questions are of \['age'\], attributes of \['gender'\]"):
        load_judge(find_judge(write(tmp_path, model=str(model), questions={"age": "?"})))
    recipe = load_recipe("dft/emoji-gender", [f"classifier={write(tmp_path, model=str(model))}"])
    with pytest.raises(UserError, match="it can judge, but no gradient passes through it"):
        finetune(recipe, tmp_path / "run")
