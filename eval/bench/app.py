"""How quickly the app answers, how soon it stops, and whether its memory stays flat.

    python eval/bench/app.py

Starts `evenhand app` on the embedded model and clicks in a real browser (Chromium). Prints and
writes eval/results/bench-app.json:

- `first_image_s`: from the click on Draw until the first picture is on the page, ten prompts that
  were never drawn before;
- `stop_s`: from the click on Stop until the page says so, and `idle_s`: until the app's process
  computes nothing any more; ten runs of 400 images, stopped at moments fixed in advance;
- `memory_mib`: of the app's process after each of 50 clicks in a row, four images with and four
  without the adapter each, other seeds every time.

Three minutes on two cores.
"""

import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from evenhand.core.files import write_json
from evenhand.training.run_directory import versions

OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-app.json"
PROMPTS = ["judge", "farmer", "cook", "mechanic", "singer", "artist", "guard", "pilot", "nurse"]
PROMPTS += ["teacher"]
STOPS, CLICKS = 10, 50
TICK = os.sysconf("SC_CLK_TCK")


def start() -> tuple[subprocess.Popen, str, float]:
    """The app, its address, and the seconds until it listened."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "evenhand", "app", "emoji", "--adapter", "emoji-gender"]
        + ["--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout or ():
        if found := re.search(r"http://\S+", line):
            return process, found[0], time.perf_counter() - begun
    raise SystemExit("the app did not start")


def mebibytes(pid: int) -> float:
    """Memory of a process."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def processor_s(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def seconds_until(true: Callable[[], bool]) -> float:
    begun = time.perf_counter()
    while not true():
        time.sleep(0.005)
    return time.perf_counter() - begun


def idle(pid: int) -> bool:
    """Whether a process computes next to nothing for a moment."""
    before = processor_s(pid)
    time.sleep(0.2)
    return processor_s(pid) - before <= 0.04


def ask(page: Any, prompt: str, images: int, seed: int) -> None:
    page.locator("#prompt textarea").fill(f"an emoji of a {prompt}")
    page.locator("#images input[type=number]").fill(str(images))
    page.locator("#seed input").fill(str(seed))
    page.locator("#seed input").press("Tab")


def said(page: Any, word: str) -> Callable[[], bool]:
    return lambda: page.locator("#status").inner_text().startswith(word)


def first_images(page: Any) -> list[float]:
    """Seconds from the click to the first picture."""
    found = []
    for prompt in PROMPTS:
        ask(page, prompt, 4, 1)
        page.evaluate("document.querySelectorAll('#pictures img').forEach(x => x.remove())")
        begun = time.perf_counter()
        page.locator("#draw").click()
        page.wait_for_selector("#pictures img")
        found.append(time.perf_counter() - begun)
        seconds_until(said(page, "Done"))
    return found


def stops(page: Any, pid: int) -> tuple[list[float], list[float]]:
    """Seconds from the click on Stop until the page says so, and until nothing is computed."""
    told, idled, moments = [], [], random.Random(0)
    for i in range(STOPS):
        ask(page, "painter", 400, 100 + i)
        page.locator("#draw").click()
        seconds_until(said(page, "Drawing"))
        time.sleep(moments.uniform(0.2, 3))
        page.locator("#stop").click()
        begun = time.perf_counter()
        told.append(seconds_until(said(page, "Stopped")))
        seconds_until(lambda: idle(pid))
        idled.append(time.perf_counter() - begun)
    return told, idled


def clicks(page: Any, pid: int) -> list[float]:
    """Memory after each of many clicks."""
    found = []
    for i in range(CLICKS):
        ask(page, "firefighter", 4, 1000 + i)
        page.locator("#draw").click()
        seconds_until(lambda: not said(page, "Done")())
        seconds_until(said(page, "Done"))
        found.append(mebibytes(pid))
    return found


def main() -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    process, address, started = start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(address)
            page.get_by_role("button", name="More settings").click()
            page.wait_for_selector("#seed input")
            first = first_images(page)
            told, idled = stops(page, process.pid)
            memory = clicks(page, process.pid)
            browser.close()
    finally:
        process.terminate()
        process.wait()
    tenth = CLICKS // 5
    early, late = statistics.mean(memory[tenth : 2 * tenth]), statistics.mean(memory[-tenth:])
    print(f"listens after {started:.1f} s")
    print(f"first image: median {statistics.median(first):.2f} s, worst {max(first):.2f} s")
    print(f"stop: the page after {max(told):.2f} s at worst, idle after {max(idled):.2f} s")
    print(
        f"memory over {CLICKS} clicks: {early:.0f} MiB in clicks {tenth + 1} to {2 * tenth}, "
        f"{late:.0f} MiB in the last {tenth}, at most {max(memory):.0f}"
    )
    result = {
        "versions": versions(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "starts_s": round(started, 2),
        "first_image_s": [round(x, 2) for x in first],
        "stop_s": [round(x, 2) for x in told],
        "idle_s": [round(x, 2) for x in idled],
        "memory_mib": [round(x, 1) for x in memory],
        "memory_early_mib": round(early, 1),
        "memory_late_mib": round(late, 1),
    }
    write_json(OUT, result)


if __name__ == "__main__":
    main()
