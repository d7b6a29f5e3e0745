"""The architecture: arrows point down, imports do nothing, every YAML loads, the wheel holds the data."""

import ast
import importlib
import pathlib
import subprocess
import sys
import zipfile

import pytest

from evenhand import classifier_config, config, labels, recipes, resources

SOURCE = pathlib.Path(__file__).parents[1] / "src" / "evenhand"
LAYERS = [
    {"errors", "files", "attributes", "prompts", "records", "config", "classifier_config", "recipes", "resources", "statistics",
     "correction", "calibration", "stopping", "labels", "pictures", "counting", "report", "comparison", "headlines", "page",
     "sheets"},
    {"diffusion", "replay", "merging", "classifiers", "features", "faces", "images", "photographs", "asking", "adapters",
     "trainable", "optimizer", "checkpoints", "runs", "emoji"},
    {"dft", "measure", "heads", "calibrate", "closeness", "card"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imports(path: pathlib.Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return found | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_arrows_point_down(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    if parts[0] == "__init__":
        return
    own = RANK[parts[0]]
    for name in imports(path):
        words = name.split(".")
        if words[0] == "evenhand" and len(words) > 1 and words[1] != parts[0]:
            other = RANK[words[1]]
            assert other <= own, f"{path} (layer {own}) imports {name} (layer {other})"
            assert not (own == other == 2), f"methods do not import each other: {path} imports {name}"
        if own == 0:
            assert words[0] not in {"torch", "diffusers", "transformers", "peft", "accelerate"}, f"{path} imports {name}"


def test_layer_0_and_the_command_line_load_no_torch():
    names = ", ".join(f"evenhand.{n}" for n in sorted(LAYERS[0]))
    code = f"import sys, evenhand.cli, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("kind, load", [
    ("prompts", config.load_prompts), ("eval/models", config.load_model),
    ("eval/classifiers", classifier_config.load_classifier_config),
    ("train/dft", lambda name: recipes.load_recipe(f"dft/{name}")),
    ("eval/protocols", lambda name: config.check(
        config.Measure, {"model": "emoji", **config.read_yaml(resources.find_yaml("eval/protocols", name))}, where=name)),
    ("train/classifiers", lambda name: labels.load_head(f"classifiers/{name}"))])
def test_every_yaml_loads(kind, load):
    assert resources.names(kind)
    for name in resources.names(kind):
        load(name)


def test_every_yaml_is_of_a_known_kind():
    kinds = ("prompts", "eval/models", "eval/classifiers", "eval/protocols", "train/dft", "train/classifiers")
    known = {resources.ROOT / kind / f"{name}.yaml" for kind in kinds for name in resources.names(kind)}
    assert {p for top in ("prompts", "eval", "train", "adapters") for p in (resources.ROOT / top).rglob("*.yaml")} == known


def test_the_wheel_holds_the_data(tmp_path):
    subprocess.run([sys.executable, "-m", "pip", "wheel", str(SOURCE.parents[1]), "--no-deps", "--no-build-isolation", "-q",
                    "-w", str(tmp_path)], check=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for name in ("data/train/dft/emoji-gender.yaml", "data/prompts/emoji-occupations.yaml", "data/eval/models/emoji.yaml",
                 "data/adapters/emoji-gender/pytorch_lora_weights.safetensors", "emoji/model/model_index.json",
                 "emoji/classifiers/judge/model.safetensors", "templates/report.html.j2", "emoji/sprites.png"):
        assert f"evenhand/{name}" in names


SCRIPTS = sorted(p for folder in ("eval", "train") for p in (SOURCE.parents[1] / folder).rglob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_import_what_there_is(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evenhand"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
