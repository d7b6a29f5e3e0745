"""The architecture.

Arrows point down, imports do nothing, every YAML loads, the wheel holds the data.
"""

import ast
import graphlib
import importlib
import pathlib
import subprocess
import sys
import zipfile

import pytest

from evenhand.core import resources, schema
from evenhand.core.concept_targets import load_targets
from evenhand.core.prompts import load_prompts
from evenhand.recipes.chain import load_chain
from evenhand.recipes.classify import load_classify
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.generate import load_generate
from evenhand.recipes.judge import find_judge
from evenhand.recipes.judge_training import load_judge_training
from evenhand.recipes.measure import Measure
from evenhand.recipes.methods import load_training
from evenhand.recipes.model import load_model

SOURCE = pathlib.Path(__file__).parents[1] / "src" / "evenhand"
# From the foundation to the roof: a module imports from its own room and from those before it. A
# name with a dot is a single module that stands on another floor than its room.
FLOORS = [
    "core",
    "recipes",
    "stats",
    "images.tables",
    "images.io",
    "reports",  # no torch up to here
    "devices",
    "images",
    "features",
    "judges",
    "diffusion",
    "training",
    "emoji",
    "measure",
    "adapt",
    "generate",
    "classify",
    "publish",
    "chain",
    "app",
    "cli",
    "__main__",
]
WITHOUT_TORCH = FLOORS[: FLOORS.index("reports") + 1]


def name_of(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def floor_of(name: str) -> int:
    room = name.split(".")[0]
    return FLOORS.index(next(x for x in (name, room) if x in FLOORS))


def imports(path: pathlib.Path) -> set[str]:
    """Every module that a file imports, lazily or not.

    `from evenhand.x import y` counts as evenhand.x.y where that is a module.
    """
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {
                name
                if (SOURCE.parent / name.replace(".", "/")).with_suffix(".py").is_file()
                else node.module
                for name in names
            }
    return found


FILES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")
GRAPH = {
    name_of(p): {x.removeprefix("evenhand.") for x in imports(p) if x.startswith("evenhand.")}
    for p in FILES
}


@pytest.mark.parametrize("name", GRAPH)
def test_arrows_point_down(name):
    for other in GRAPH[name]:
        assert floor_of(other) <= floor_of(name), f"{name} imports {other}, which stands above it"
        if name.startswith("adapt.") and other.startswith("adapt."):
            assert name.split(".")[1] == other.split(".")[1], (
                f"methods do not import each other: {name} imports {other}"
            )


def test_no_import_goes_in_a_circle():
    """Imports inside functions and for type checkers count."""
    graphlib.TopologicalSorter(
        {name: found & GRAPH.keys() for name, found in GRAPH.items()}
    ).prepare()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_short_and_heavy_libraries_above(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 260
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, (
                f"{path}: {node.name} is longer than 60 lines"
            )
    if floor_of(name_of(path)) < len(WITHOUT_TORCH):
        heavy = {"torch", "diffusers", "transformers", "peft", "accelerate"}
        assert not heavy & {x.split(".")[0] for x in imports(path)}
    assert len([p for p in SOURCE.iterdir() if p.is_file()]) <= 6


def test_the_first_floors_and_the_command_line_load_no_torch():
    low = ", ".join(
        f"evenhand.{name_of(p)}" for p in FILES if floor_of(name_of(p)) < len(WITHOUT_TORCH)
    )
    code = f"import sys, evenhand.cli, {low}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "kind, load",
    [
        ("prompts", load_prompts),
        ("eval/models", load_model),
        ("eval/judges", find_judge),
        ("train/dft", lambda name: load_recipe(f"dft/{name}")),
        (
            "eval/protocols",
            lambda name: schema.check(
                Measure,
                {"model": "emoji", **schema.read_yaml(resources.find_yaml("eval/protocols", name))},
                where=name,
            ),
        ),
        ("eval/targets", load_targets),
        ("train/classify", load_classify),
        ("train/lora", lambda name: load_training(f"lora/{name}")),
        ("train/dreambooth", lambda name: load_training(f"dreambooth/{name}")),
        ("train/fairtl", lambda name: load_training(f"fairtl/{name}")),
        ("train/classifiers", lambda name: load_judge_training(f"classifiers/{name}")),
        ("train/generate", load_generate),
        ("train/chains", load_chain),
    ],
)
def test_every_yaml_loads(kind, load):
    assert resources.names(kind)
    for name in resources.names(kind):
        load(name)


def test_every_yaml_is_of_a_known_kind():
    kinds = (
        "prompts",
        "eval/models",
        "eval/judges",
        "eval/protocols",
        "eval/targets",
        "train/dft",
        "train/lora",
        "train/dreambooth",
        "train/fairtl",
        "train/classify",
        "train/classifiers",
        "train/generate",
        "train/chains",
    )
    known = {
        resources.ROOT / kind / f"{name}.yaml" for kind in kinds for name in resources.names(kind)
    }
    assert {
        p
        for top in ("prompts", "eval", "train", "adapters")
        for p in (resources.ROOT / top).rglob("*.yaml")
        if p.name != "fairness_card.yaml"
    } == known


def test_the_wheel_holds_the_data(tmp_path):
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            str(SOURCE.parents[1]),
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            str(tmp_path),
        ],
        check=True,
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for name in (
        "data/train/dft/emoji-gender.yaml",
        "data/prompts/emoji-occupations.yaml",
        "data/eval/models/emoji.yaml",
        "data/adapters/emoji-gender/pytorch_lora_weights.safetensors",
        "data/adapters/emoji-gender/report.json",
        "app/style.css",
        "app/templates/shares.html.j2",
        "publish/stock.py",
        "emoji/model/model_index.json",
        "emoji/classifiers/judge/model.safetensors",
        "reports/templates/card.md.j2",
        "reports/templates/report.html.j2",
        "reports/templates/classify.html.j2",
        "data/train/classify/emoji.yaml",
        "emoji/sprites.png",
    ):
        assert f"evenhand/{name}" in names


SCRIPTS = sorted(
    p for folder in ("eval", "train") for p in (SOURCE.parents[1] / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_import_what_there_is(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evenhand"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
