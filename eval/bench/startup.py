"""How long `evenhand --help` takes, against importing the libraries that a command line needs.

And how long `import evenhand` takes, a bare interpreter's start taken off.

    python eval/bench/startup.py

Medians of runs in turn, wall clock. Writes `eval/results/bench-startup.json`.
"""

import pathlib
import statistics
import subprocess
import sys
import time

from evenhand.core.files import write_json

OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-startup.json"
RUNS = 15
COMMANDS = {
    "help": ["-m", "evenhand", "--help"],
    "imports": ["-c", "import typer, rich, numpy"],
    "package": ["-c", "import evenhand"],
    "python": ["-c", "pass"],
}


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    times = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(RUNS)]
    medians = {name: statistics.median(row[name] for row in times) for name in COMMANDS}
    ratio = medians["help"] / medians["imports"]
    print(
        f"evenhand --help {medians['help']:.2f} s, import typer, rich, numpy "
        f"{medians['imports']:.2f} s: ratio {ratio:.2f}; import evenhand "
        f"{medians['package'] - medians['python']:.2f} s"
    )
    write_json(
        OUT,
        {
            "runs": RUNS,
            **{f"{k}_s": round(v, 3) for k, v in medians.items()},
            "ratio": round(ratio, 2),
        },
    )


if __name__ == "__main__":
    main()
