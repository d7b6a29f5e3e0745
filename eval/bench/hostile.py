"""Bad inputs over all verbs: right, or one line that names what is wrong, and nothing lost.

    python eval/bench/hostile.py             # prints, and writes eval/results/bench-hostile.json
    python eval/bench/hostile.py --only csv  # the cases whose verb or name holds a word; no file
    python eval/bench/hostile.py --before x.json   # beside what an older version made of them

The cases stand in `eval/bench/hostile_cases/`, by verb. Each runs in a folder of its own, in this
process by the command line's `main`; some in a process of their own. A case holds if

- a wrong input gives an exit code other than 0 and one line, which matches what the case says;
- a right result gives 0, and the case's own test of what was written and printed;
- there is no traceback, it ends within a minute, and every file that was there before is unchanged
  (but those that the case names: a run's own report).
"""

import argparse
import contextlib
import fnmatch
import io
import json
import os
import pathlib
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from hostile_cases import CASES, case
from hostile_cases.case import Case, make, tensors
from PIL import Image

from evenhand.cli import main
from evenhand.core.files import digest, write_json
from evenhand.core.resources import ROOT
from evenhand.emoji.world import draw, load_world, sample_scene
from evenhand.training.run_directory import machine

OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-hostile.json"
SECONDS = 60  # of a case, at most
MEASURED = (
    "measure emoji --prompts emoji-occupations --split test --attributes gender --images 2 "
    "--explicit-images 0 --setting num_inference_steps=2 --out"
)


class TooLong(BaseException):
    """A case that does not end; no error of evenhand's, so that nothing catches it."""


def run(arguments: str, folder: pathlib.Path) -> tuple[int, str, str]:
    """A command in this process: exit code, output, errors."""
    out, err, code = io.StringIO(), io.StringIO(), None
    before, sys.argv = os.getcwd(), ["evenhand", *shlex.split(arguments)]
    os.chdir(folder)
    signal.alarm(SECONDS)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("always")
            main()
    except SystemExit as stop:
        code = stop.code
    finally:
        signal.alarm(0)
        os.chdir(before)
    return int(code or 0), out.getvalue(), err.getvalue()


def run_apart(one: Case, folder: pathlib.Path) -> tuple[int, str, str]:
    """A command in a process of its own."""

    def limited() -> None:
        if one.limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (one.limit, one.limit))

    done = subprocess.run(
        [sys.executable, "-m", "evenhand", *shlex.split(one.command)],
        capture_output=True,
        cwd=folder,
        env={**os.environ, **(one.process or {})},
        preexec_fn=limited,
        timeout=2 * SECONDS,
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()


def without_places(line: str, folder: pathlib.Path) -> str:
    """A line without the case's folder and the project's: they differ on every machine."""
    for place, name in ((folder, "."), (ROOT, "<project>")):
        line = line.replace(str(place), name)
    return line.encode(errors="backslashreplace").decode()


def contents(folder: pathlib.Path) -> dict[str, str]:
    """Digests of the files of a folder."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    return {os.fsencode(p.relative_to(folder)).decode(errors="replace"): digest(p) for p in files}


def is_right(one: Case, folder: pathlib.Path, out: str) -> bool:
    """Whether what was written and printed is right; not where what should be there is missing."""
    try:
        return one.right is None or one.right(folder, out)
    except (OSError, LookupError, ValueError):
        return False


def complaint(one: Case, folder: pathlib.Path) -> tuple[str, str, int]:
    """Why a case does not hold ("" where it does), the last line that it printed, its code."""
    make(one.files, folder)
    apart = one.process is not None or one.limit is not None
    before = contents(folder)
    code, out, err = run_apart(one, folder) if apart else run(one.command, folder)
    if one.then:
        if code:
            return f"the first run: {err}", "", code
        one.then(folder)
        before = {}
        code, out, err = run(one.again or one.command, folder)
    lines = [line for line in err.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("evenhand: ")]
    last = lines[-1] if lines else ""
    after = contents(folder)
    lost = [
        name
        for name, content in before.items()
        if after.get(name) != content and not any(fnmatch.fnmatch(name, x) for x in one.changed)
    ]
    lost += [name for name in before if name not in after]
    lost = [name for name in lost if not pathlib.Path(name).name.startswith(".")]
    if "Traceback" in err + out or "fault of evenhand" in err:
        return f"traceback: {err[-2000:]}", last, code
    if lost:
        return f"changed or lost: {', '.join(lost)}", last, code
    if one.says is None:
        good = not code and is_right(one, folder, out + err)
        return ("" if good else f"code {code}: {err}{out[-600:]}"), last, code
    if not code:
        return f"taken for right: {out[-600:]}", last, code
    if not re.search(one.says, err, re.S):
        return f"another message: {err}", last, code
    many = len(ours) != 1 or len(lines) != one.lines
    return (f"{len(lines)} lines: {err}" if many else ""), last, code


def prepare(folder: pathlib.Path) -> None:
    """Makes once what several cases start from."""
    case.CACHE = folder
    generator = torch.Generator().manual_seed(3)
    scene = sample_scene(60, generator=generator, even=True)
    genders = [load_world().classes["gender"][i] for i in scene.gender]
    for i, image in enumerate(draw(scene, generator=generator)):
        picture = Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy())
        part = ("train", "train", "validation", "test")[i % 4]
        places = [folder / "people", folder / "labelled-three" / part / genders[i]]
        if genders[i] != "person":
            places.append(folder / "labelled" / part / genders[i])
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            picture.save(place / f"{i:02}.png")
    for command in (
        f"{MEASURED} run",
        f"{MEASURED} other --adapter emoji-gender",
        "measure --images-from people --judge emoji-judge --attributes gender --out folder",
        case_recipes().SHORT.replace("--out t", "--out training"),
    ):
        code, _, err = run(command, folder)
        assert not code, err
    case.model(tensors("unet/diffusion_pytorch_model.safetensors", to_nan))(folder / "nan-model")


def case_recipes():
    from hostile_cases import recipes

    return recipes


def to_nan(state: dict) -> dict:
    return {name: value * float("nan") for name, value in state.items()}


def main_() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    parser.add_argument("--before", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, too_long)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        os.environ["HF_DATASETS_CACHE"] = f"{place}/datasets"
        cache = pathlib.Path(place, "cache")
        cache.mkdir()
        prepare(cache)
        for verb, cases in CASES.items():
            for i, one in enumerate(cases):
                if arguments.only not in f"{verb} {one.name}":
                    continue
                folder = pathlib.Path(place, f"{verb.split()[-1]}-{i}")
                folder.mkdir()
                rows.append(row(verb, one, folder))
    if arguments.before:
        compare(rows, json.loads(arguments.before.read_text())["cases"])
    tell(rows)
    if not arguments.only:
        write_json(arguments.out, {**machine(), "summary": summary(rows), "cases": rows})
    sys.exit(any(r["complaint"] for r in rows))


def too_long(*_: object) -> None:
    raise TooLong


def row(verb: str, one: Case, folder: pathlib.Path) -> dict:
    """What came of a case."""
    started = time.perf_counter()
    try:
        why, last, code = complaint(one, folder)
    except (TooLong, subprocess.TimeoutExpired):
        why, last, code = f"does not end within {SECONDS} s", "", 0
    seconds = time.perf_counter() - started
    if why:
        print(f"FAILED {verb}: {one.name}\n    {one.command}\n    {why}", flush=True)
    return {
        "verb": verb,
        "name": one.name,
        "fault": one.fault,
        "expected": "right" if one.says is None else "one line",
        "code": code,
        "line": without_places(last, folder),
        "seconds": round(seconds, 2),
        "complaint": why,
    }


def compare(rows: list[dict], before: list[dict]) -> None:
    """Says of each case whether it held in an older version."""
    held = {(r["verb"], r["name"], r["fault"]): not r["complaint"] for r in before}
    for one in rows:
        one["held_before"] = held.get((one["verb"], one["name"], one["fault"]))


def summary(rows: list[dict]) -> dict:
    """Cases and those that hold, by verb."""
    found = {}
    for verb in dict.fromkeys(r["verb"] for r in rows):
        mine = [r for r in rows if r["verb"] == verb]
        found[verb] = {
            "cases": len(mine),
            "hold": sum(not r["complaint"] for r in mine),
            "held before": sum(r.get("held_before") is True for r in mine),
            "one line": sum(r["expected"] == "one line" for r in mine),
            "right": sum(r["expected"] == "right" for r in mine),
        }
    return found


def tell(rows: list[dict]) -> None:
    """Prints the table."""
    columns = ["cases", "hold", "held before", "one line", "right"]
    print(f"{'verb':34}" + "".join(f"{name:>13}" for name in columns))
    for verb, x in summary(rows).items():
        print(f"{verb:34}" + "".join(f"{x[name]:>13}" for name in columns))
    hold = sum(not r["complaint"] for r in rows)
    print(f"{len(rows)} cases, {hold} hold; {sum(r['seconds'] for r in rows):.0f} s")


if __name__ == "__main__":
    main_()
