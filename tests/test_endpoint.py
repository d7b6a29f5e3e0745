"""Services that draw, behind what draws; pipelines that save memory."""

import io
import json
import types

import pytest
import torch
from images_server import KEY, Images
from PIL import Image

from evenhand.adapt.dft.plan import plan as plan_training
from evenhand.cli.measure_settings import tell_plan
from evenhand.core import services
from evenhand.core.errors import UserError
from evenhand.core.prompts import load_prompts
from evenhand.core.records import read_run
from evenhand.core.schema import check
from evenhand.diffusion.generators import load_generator
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.diffusion.sampling import draw
from evenhand.diffusion.saving import place
from evenhand.measure import measure, plan
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.measure import Measure
from evenhand.recipes.model import Model, load_model

MODEL = """
path: {url}
endpoint: {{model: some-model, key: THE_KEY, timeout: .5}}
settings: {{height: 64, width: 64, options: {{quality: low}}}}
judge: emoji-judge
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No long pauses between tries; a key."""
    monkeypatch.setattr(services, "PAUSE", 0.001)
    monkeypatch.setenv("THE_KEY", KEY)


def asked_of(service, folder, **changes):
    """A measurement of two images each of the six held-out occupations."""
    model = folder / "service.yaml"
    model.write_text(MODEL.format(url=service.url))
    values = {
        "model": str(model),
        "prompts": ["emoji-occupations"],
        "attributes": ["gender"],
        "splits": ["test"],
        "images": 2,
        "explicit_images": 0,
        "batch": 4,
        **changes,
    }
    return check(Measure, values, where="measure")


def test_a_service_is_measured_and_what_it_refuses_is_counted(tmp_path):
    with Images(["draw", 429, "url", 503, "drop", "draw", "refuse"]) as service:
        config = asked_of(service, tmp_path)
        report = measure(config, tmp_path / "run")
        assert len(service.asked) == 12 + 3  # 429, 503 and the lost one were asked again
        again = measure(config, tmp_path / "run")
        assert len(service.asked) == 15 and again == report
        sent = dict(service.keys)
    assert sent == {"POST": f"Bearer {KEY}", "GET": None}
    assert service.asked[0] == {
        "model": "some-model",
        "prompt": "an emoji of a health worker",
        "n": 1,
        "size": "64x64",
        "quality": "low",
    }
    assert report.images == 11
    (note,) = [note for note in report.notes if "missing" in note]
    assert note.startswith("1 of 12 images are missing: the service refused them")
    assert "Against our policy." in note
    (left_out,) = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    assert json.loads(left_out)["why"] == "Against our policy."
    run, records = read_run(tmp_path / "run")
    assert run["settings"]["source"] == f"127.0.0.1:{service.server_port}/some-model@service"
    assert len({r.seed for r in records}) == 11  # the number of the question
    for file in (tmp_path / "run").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
    assert not (tmp_path / "run" / ".answers").exists()


def test_a_cut_run_pays_for_no_image_twice(tmp_path):
    with Images(["draw"] * 6 + [402]) as service:
        config = asked_of(service, tmp_path)
        with pytest.raises(UserError, match="402: fault 402, key .*wants to be paid") as error:
            measure(config, tmp_path / "run")
        assert KEY not in str(error.value)
        report = measure(config, tmp_path / "run")
        assert report.images == 12 == service.drawn  # of 4 in a batch, 6 were there


def test_a_service_that_refuses_all_is_said(tmp_path):
    with Images(["refuse"] * 12) as service:
        report = measure(asked_of(service, tmp_path), tmp_path / "run")
    assert report.images == 0
    assert any(note.startswith("12 of 12 images are missing") for note in report.notes)


def endpoint(service, folder, **changes):
    model = load_model(asked_of(service, folder).model)
    return load_generator(model, answers=folder / "answers", settings=changes)


ROWS = [(prompt, 7) for prompt in load_prompts("emoji-occupations").prompts(["test"])[:2]]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["nonsense"], "what is no image: no JSON"),
        (["empty"], "what is no image: no image in"),
        (["broken"], "what is no image: broken base64"),
        (["no picture"], "what is no image: no image"),
        (["neither"], "what is no image: neither b64_json nor url"),
        (["file"], "what is no image: neither b64_json nor url"),
        (["slow"] * 5, r"no answer within 0.5 s, 5 times; the same command goes on"),
        ([500] * 5, "answers 500: fault 500, key .*, 5 times"),
        ([401], "answers 401: .*put a key that it takes into the environment variable THE_KEY"),
        ([404], "answers 404: .*look at the name of the model"),
    ],
    ids=lambda x: str(x[0]) if isinstance(x, list) else "",
)
def test_bad_answers_are_one_line_without_the_key(tmp_path, answers, message):
    with Images(answers) as service:
        with pytest.raises(UserError, match=message) as error:
            list(draw(endpoint(service, tmp_path), ROWS))
        line = str(error.value)
        assert line.startswith(f"{service.url}/images/generations: ")
        assert "\n" not in line and KEY not in line
        ((rows, images),) = draw(endpoint(service, tmp_path), ROWS)  # the same question again
    assert rows == ROWS and images.shape == (2, 3, 64, 64)
    assert images.min() >= 0 and images.max() <= 1


def test_nobody_answers(tmp_path):
    with Images() as service:
        model = endpoint(service, tmp_path)
    with pytest.raises(UserError, match="cannot be reached .*refused"):
        list(draw(model, ROWS))


def test_images_of_different_sizes_come_apart(tmp_path):
    small = io.BytesIO()
    Image.new("RGB", (32, 16)).save(small, "PNG")
    with Images() as service:
        service.pictures[0] = small.getvalue()
        found = {
            rows[0][0].text: tuple(images.shape)
            for rows, images in draw(endpoint(service, tmp_path), ROWS)
        }
    assert found == {ROWS[0][0].text: (1, 3, 16, 32), ROWS[1][0].text: (1, 3, 64, 64)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "api.openai.com/v1"}, "an address such as https://"),
        ({"path": "https://me:secret@api.openai.com/v1"}, "without keys"),
        ({"path": "https://api.openai.com/v1?key=secret"}, "without keys"),
        ({"dtype": "float16"}, "an endpoint takes no dtype"),
        ({"settings": {"guidance_scale": 7}}, "an endpoint takes no settings.guidance_scale"),
        ({"endpoint": {"model": "m", "key": "sk-1234 5"}}, "endpoint.key"),
        ({"endpoint": {"key": "K"}}, "endpoint.model: Field required"),
    ],
)
def test_a_model_that_cannot_be_a_service_is_refused(changes, message):
    values = {"path": "https://api.openai.com/v1", "endpoint": {"model": "m"}, **changes}
    with pytest.raises(UserError, match=message):
        check(Model, values, where="model.yaml")


def test_what_a_service_cannot_is_said_before_it_is_asked(tmp_path, capsys):
    with Images() as service:
        with pytest.raises(UserError, match="--adapter emoji-gender: model .* is a service"):
            plan(asked_of(service, tmp_path, adapter="emoji-gender"))
        with pytest.raises(UserError, match="settings.num_inference_steps: a service has its own"):
            plan(asked_of(service, tmp_path, settings={"num_inference_steps": 4}))
        config = asked_of(service, tmp_path)
        recipe = load_recipe("dft/emoji-gender", [f"model={config.model}"])
        with pytest.raises(UserError, match="is a service: it can be measured, not trained"):
            plan_training(recipe)
        with pytest.raises(UserError, match="is a service; none of its weights are here"):
            load_diffusion(load_model(config.model))
        tell_plan(config, tmp_path / "run")
        assert not service.asked
    assert f"as many questions to {service.url}, of which none was asked" in capsys.readouterr().out


def images_of(**changes):
    model = load_model("emoji").model_copy(update=changes)
    diffusion = load_diffusion(model, settings={"num_inference_steps": 2}, device="cpu")
    ((_, images),) = draw(diffusion, ROWS)
    return diffusion, images


def test_memory_is_saved_as_the_yaml_says():
    _, plain = images_of()
    saving, images = images_of(vae_tiling=True, vae_slicing=True, offload="model")
    assert saving.pipe.vae.use_tiling and saving.pipe.vae.use_slicing
    assert torch.allclose(plain, images, atol=1e-5)  # one tile holds the whole image
    assert saving.device == torch.device("cpu")


def test_what_changes_images_is_a_setting_of_the_run():
    model = load_model("emoji").model_copy(update={"vae_tiling": True, "vae_slicing": True})
    assert model.saving == {"vae_tiling": True} and load_model("emoji").saving == {}


def test_a_backend_that_is_not_installed_is_one_line():
    quantise = {"backend": "bitsandbytes_4bit", "options": {"load_in_4bit": True}}
    model = check(Model, {"path": "package:emoji/model", "quantise": quantise}, where="m")
    with pytest.raises(
        UserError, match="^quantise: bitsandbytes_4bit needs bitsandbytes: pip install bitsandbytes"
    ):
        load_diffusion(model)
    with pytest.raises(UserError, match="m: quantise.backend: Input should be"):
        check(Model, {"path": "x", "quantise": {**quantise, "backend": "gguf"}}, where="m")


def test_an_autoencoder_that_has_no_tiles_is_one_line():
    pipe = types.SimpleNamespace(vae=None)
    model = load_model("emoji").model_copy(update={"vae_tiling": True})
    with pytest.raises(UserError, match="vae_tiling: SimpleNamespace has no autoencoder"):
        place(pipe, model, torch.device("cpu"))


def test_training_saves_memory_otherwise(tmp_path):
    (tmp_path / "m.yaml").write_text("path: package:emoji/model\noffload: sequential\n")
    with pytest.raises(UserError, match="offload and quantise are for drawing"):
        plan_training(load_recipe("dft/emoji-gender", [f"model={tmp_path / 'm.yaml'}"]))
