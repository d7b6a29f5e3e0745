"""Environments of other versions, for the scripts beside this one."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def whole(folder: pathlib.Path, constraints: pathlib.Path) -> pathlib.Path:
    """The Python of an environment with evenhand and its tests' needs at given versions."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "-q", "-c", constraints]
    subprocess.run([*pip, "-e", f"{ROOT}[dev]"], check=True)
    subprocess.run([*pip, "--no-deps", "facenet-pytorch==2.6.0"], check=True)
    return python


def overlay(folder: pathlib.Path, requirements: pathlib.Path) -> pathlib.Path:
    """A folder of libraries that goes before this environment's own: 0.2 GB instead of 5.

    Everything that the requirements do not name is this environment's, torch above all.
    """
    site, done = folder / "site", folder / "requirements.txt"
    asked = requirements.read_text(encoding="utf-8")
    if not done.is_file() or done.read_text(encoding="utf-8") != asked:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", site, "-r", requirements], check=True)
        done.write_text(asked, encoding="utf-8")
    return site


IN_FRONT = "import runpy, sys; sys.path[:0] = filter(None, [sys.argv.pop(1)]); del sys.argv[0]; "
RUN = 'runpy.run_path(sys.argv[0], run_name="__main__")'


def run(script: pathlib.Path, *arguments: str | pathlib.Path, site: pathlib.Path | None) -> None:
    """Runs a script in a fresh process that sees nothing of this one, with an overlay or none."""
    given = [str(x) for x in (site or "", script, *arguments)]
    subprocess.run([sys.executable, "-I", "-c", IN_FRONT + RUN, *given], check=True)
