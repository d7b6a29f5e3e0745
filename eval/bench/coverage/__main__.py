"""Do nominal 95 % intervals hold the truth in 95 % of simulated worlds, mild and hard ones?

    python eval/bench/coverage

Prints the table and writes eval/results/bench-coverage.json.

A world has true shares of its prompts, a judge with its own errors, a labelled set that calibrates
it, and images. All are drawn anew in every world; the interval sees only what the judge calls.
Coverage is counted over worlds and classes, for prompts like these: the truth is the mean of the
world's prompts, not of those drawn.

- `raw`: the share as the judge calls it, with its errors; `share`: the same of one that never errs;
- `share, within reach`: the bounds that a report of few concepts names beside its interval;
- `corrected`: what reports say (`evenhand.stats.correction`) of calls; `corrected, probabilities`:
  of probabilities;
- `CLEAM`: the published interval (Teo et al., NeurIPS 2023) for two classes: 30 batches of 400
  drawn again from the same images, the calibration taken as exact;
- `gap`, `distance` and their changes: the truth is that of the prompts' true shares, root mean
  square over prompts;
- `change of kept share`: of the share of images that are as asked;
- `until`: of one prompt at the stop of `measure --until`; `until, mean`: over prompts;
- `any time`: the confidence sequence, at its worst look of 60.

`said` marks rows of which a report says beside its numbers that these data cannot show more: few
concepts, few labelled images, no calibration or one of another domain.
"""

import argparse
import pathlib
from dataclasses import asdict

import numpy as np
from intervals import KINDS
from settings import SETTINGS, Setting

from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.stats.confusion import FEW_LABELLED
from evenhand.stats.means import FEW
from evenhand.training.run_directory import versions

OUT = pathlib.Path(__file__).parents[2] / "results" / "bench-coverage.json"


def coverage(setting: Setting, simulated: int, seed: int) -> dict[str, float]:
    """Share of intervals that hold the truth, their mean width, and refused worlds."""
    rng = np.random.default_rng([seed, *map(ord, setting.kind + setting.world)])
    hits, widths, refused = [], [], 0
    for _ in range(simulated):
        try:
            found = KINDS[setting.kind](setting, rng)
        except UserError:
            refused += 1
            continue
        known = [(e.low, e.high, t) for e, t in found if e.low is not None and e.high is not None]
        # six digits, as reports hold them
        hits += [low - 1e-6 <= t <= high + 1e-6 for low, high, t in known]
        widths += [high - low for low, high, _ in known]
    return {
        "coverage": round(float(np.mean(hits)), 4) if hits else 0.0,
        "mean_width": round(float(np.mean(widths)), 4) if widths else 0.0,
        "refused": refused,
    }


def said(s: Setting) -> bool:
    """Whether a report of such a run says in a sentence what its intervals suppose.

    Few concepts (or wordings of one), few labelled images of a class, a judge that is not
    corrected, a calibration of another domain.
    """
    rows = s.wordings if s.prompts == 1 else s.prompts
    seen = s.labelled / 10 if s.judge == "misses one class" else s.labelled
    few_labelled = "corrected" in s.kind and seen < FEW_LABELLED
    return 1 < rows < FEW or few_labelled or s.kind == "raw" or s.judge == "another domain"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--only", default="", help="kinds whose name begins so")
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    args = parser.parse_args()
    rows = []
    print(
        f"{'interval':24} {'world':15} {'K':>2} {'judge':16} {'right':>5} {'labels':>6} "
        f"{'prompts':>8} {'images':>6} {'coverage':>8} {'width':>6}"
    )
    for s in (s for s in SETTINGS if s.kind.startswith(args.only)):
        found = coverage(s, args.worlds, args.seed)
        rows.append({**asdict(s), **found, "said": said(s)})
        prompts = f"{s.prompts}x{s.wordings}" if s.wordings > 1 else str(s.prompts)
        print(
            f"{s.kind:24} {s.world:15} {s.classes:2} {s.judge:16} {s.accuracy:5.2f} "
            f"{s.labelled:6} {prompts:>8} {s.images:6} {found['coverage']:8.3f} "
            f"{found['mean_width']:6.2f}"
            + ("  said" if said(s) else "")
            + (f"  ({found['refused']} refused)" if found["refused"] else ""),
            flush=True,
        )
    values = {"worlds": args.worlds, "seed": args.seed, "versions": versions(), "rows": rows}
    write_json(args.out, values)


if __name__ == "__main__":
    main()
