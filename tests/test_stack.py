"""What is imported is declared, what is declared is tested, and the command line starts quickly."""

import ast
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time
import tomllib
from importlib.metadata import packages_distributions

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OPTIONAL = ("app", "cluster", "fidelity", "tensorboard")
NOT_DECLARED = {"facenet-pytorch", "bitsandbytes"}  # installed by itself; only on request
NOT_IMPORTED = {
    "torchvision",  # imported by facenet-pytorch and open_clip
    "tensorboard",  # imported by accelerate
}


def plain(name: str) -> str:
    return re.match(r"[\w.-]+", name).group().lower().replace("_", "-")


def imported(folder: pathlib.Path) -> set[str]:
    """Distributions of the third-party modules that files import, lazily or not."""
    modules = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.split(".")[0])
    modules -= {*sys.stdlib_module_names, "evenhand", "__future__"}
    known = packages_distributions()
    return {plain(known[module][0] if module in known else module) for module in modules}


def test_what_the_package_imports_is_declared_and_what_is_declared_is_imported():
    optional = {plain(x) for name in OPTIONAL for x in EXTRAS[name]}
    declared = {plain(x) for x in PROJECT["dependencies"]} | optional
    found = imported(ROOT / "src")
    assert found - declared == NOT_DECLARED & found
    assert declared - found == NOT_IMPORTED


def test_what_only_tests_and_scripts_import_is_in_dev():
    files = [x for f in ("tests", "train", "eval") for x in (ROOT / f).rglob("*.py")]
    names = {plain(name) for x in files for name in (x.stem, x.parent.name)}
    found = set().union(*(imported(ROOT / folder) for folder in ("tests", "train", "eval")))
    needed = found - names - NOT_DECLARED - {plain(x) for x in PROJECT["dependencies"]}
    (own,) = (x for x in EXTRAS["dev"] if x.startswith("evenhand["))  # dev holds other extras
    extras = ["dev", *own.removeprefix("evenhand[").removesuffix("]").split(",")]
    assert needed <= {plain(x) for name in extras for x in EXTRAS[name]}


def pins(file: str) -> dict[str, str]:
    lines = (ROOT / "tests" / file).read_text(encoding="utf-8").splitlines()
    return {plain(line): line.partition("==")[2] for line in lines if not line.startswith("#")}


def test_every_declared_library_is_pinned_for_the_tests_and_at_its_lowest_version():
    extras = [x for name in OPTIONAL for x in EXTRAS[name]]
    bounds = [*PROJECT["dependencies"], *extras]
    assert pins("constraints-lowest.txt") == {
        plain(bound): bound.partition(">=")[2] for bound in bounds
    }
    wanted = {plain(x) for x in [*bounds, *EXTRAS["dev"], "facenet-pytorch"]} - {"evenhand"}
    assert wanted <= pins("constraints.txt").keys()


def test_the_readme_holds_the_two_commands_and_ci_runs_the_second():
    lines = [
        x for x in (ROOT / "README.md").read_text().splitlines() if x.startswith("python3.11 ")
    ]
    setup, tests = (line.rpartition(" && ") for line in lines)
    assert (setup[2], tests[2]) == (".venv/bin/evenhand demo", ".venv/bin/pytest")
    assert all("pip install --no-deps facenet-pytorch -c tests/constraints.txt" in x for x in lines)
    found = re.search(r"sed -n 's/(.*)/\\1/p'", (ROOT / ".ci" / "run").read_text()).group(1)
    pattern = found.replace(r"\(", "(").replace(r"\)", ")")
    assert [line for line in lines if re.search(pattern, line)] == [lines[1]]


@pytest.mark.parametrize("ci, code", [("true", 1), ("", 0)])
def test_a_skipped_test_fails_where_ci_is_set(tmp_path, ci, code):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_one.py").write_text("import pytest\n\n\ndef test():\n    pytest.skip('no')\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        capture_output=True,
    )
    assert result.returncode == code, result.stdout


def test_help_takes_little_longer_than_its_libraries():
    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    ratios = [
        seconds("-m", "evenhand", "--help") / seconds("-c", "import typer, rich, numpy")
        for _ in range(5)
    ]
    assert statistics.median(ratios) <= 2.5


def test_the_readme_is_short_and_names_what_there_is():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    named = set(re.findall(r"`((?:src|eval|train|prompts|adapters)/[\w/.-]*)`", text))
    assert named and not [name for name in named if not (ROOT / name).exists()]


def test_nothing_sends_telemetry():
    code = (
        "import evenhand, diffusers\n"
        "from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY as off\n"
        "from diffusers.utils.hub_utils import http_user_agent\n"
        "print(off, 'telemetry/off' in http_user_agent())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.split() == ["True", "True"], found
