"""The tests on the lowest versions that pyproject.toml allows, in an environment of its own.

    python3.11 eval/compat/lowest.py [--venv DIR] [TEST ...]

Takes gigabytes and, for the whole suite, the time of the suite. Old libraries warn of themselves,
so warnings are no errors here. Writes `eval/results/compat-lowest.json`.
"""

import argparse
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import environments

ROOT = environments.ROOT
CONSTRAINTS = ROOT / "tests" / "constraints-lowest.txt"
OUT = ROOT / "eval" / "results" / "compat-lowest.json"


def versions(python: pathlib.Path) -> dict[str, str]:
    """Versions in use of the libraries that have a lowest one."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    ).stdout
    have = {row["name"].lower().replace("_", "-"): row["version"] for row in json.loads(listed)}
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0] for line in lines if "==" in line]
    return {name: have[name.lower().replace("_", "-")] for name in names}


def run(python: pathlib.Path, tests: list[str]) -> dict[str, int]:
    """Numbers of tests by how they ended."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        command = ["-m", "pytest", "-o", "filterwarnings=default", f"--junitxml={report}", *tests]
        subprocess.run([python, *command], cwd=ROOT, check=False)
        suite = xml.etree.ElementTree.parse(report).getroot()[0].attrib
    failed = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    passed = int(suite["tests"]) - failed - skipped
    return {"passed": passed, "failed": failed, "skipped": skipped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / ".venv-lowest")
    parser.add_argument("tests", nargs="*", help="all when none is named")
    args = parser.parse_args()
    python = environments.whole(args.venv, CONSTRAINTS)
    counted = run(python, args.tests)
    result = {
        "python": platform.python_version(),
        "versions": versions(python),
        "tests": args.tests or "all",
        **counted,
    }
    OUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(counted))
    sys.exit(bool(counted["failed"]))


if __name__ == "__main__":
    main()
