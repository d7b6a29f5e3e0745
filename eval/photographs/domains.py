"""A calibration of another domain is noticed, the right one is not refused.

    python eval/photographs/domains.py utkface64.parquet

Judges the held-out images (`test`, of which none trained the head) once, as they are and, half of
them, degraded (14 x 14 pixels, enlarged again), by `evenhand measure --images-from`. Then, many
times and by chance: some of a domain's images are labelled and calibrate, others of the same or of
another domain are measured, with a known share of women. Counted is how often the calibration is
refused (`evenhand.stats.fit_of_calibration`), and how often the corrected interval that is printed,
or would have been, holds the truth. Writes eval/results/photographs-domains.json; the head, the
images and what was perceived stay in runs/photographs. Killed, it goes on where it was.
"""

import io
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from head import DOMAIN, arguments, part_of, runs_of, trained
from PIL import Image

from evenhand.core.attributes import Attribute
from evenhand.core.files import whole, write_json
from evenhand.core.records import read
from evenhand.images.labelled import digests, labelled, values
from evenhand.judges.calibrate import AnswerTable
from evenhand.measure import measure
from evenhand.recipes.measure import NO_CALIBRATION, Measure
from evenhand.stats.calibration import Calibration
from evenhand.stats.confusion import Confusion
from evenhand.stats.correction import corrected
from evenhand.stats.fit_of_calibration import fit_of
from evenhand.training.run_directory import versions

OUT = pathlib.Path(__file__).parents[1] / "results" / "photographs-domains.json"
SIDE = 14  # pixels that are left of a degraded image


class Judged(NamedTuple):
    """Images that were judged: probabilities `[N, K]`, which were seen, and what they show."""

    probs: np.ndarray
    seen: np.ndarray
    truth: np.ndarray  # class of gender, [N]
    age: np.ndarray
    race: np.ndarray
    name: np.ndarray  # of the image, the same for a degraded one


Domain = Callable[[Judged], np.ndarray]  # which images belong to it
DOMAINS: dict[str, Domain] = {
    "all": lambda x: np.ones(len(x.age), bool),
    "20 to 49 years": lambda x: (x.age >= 20) & (x.age < 50),
    "below 15 years": lambda x: x.age < 15,
    "60 years and more": lambda x: x.age >= 60,
    "white": lambda x: x.race == "white",
    "not white": lambda x: x.race != "white",
    "asian": lambda x: x.race == "asian",
    "black": lambda x: x.race == "black",
    "indian": lambda x: x.race == "indian",
}
# calibrated on, measured, whether these are degraded
SETTINGS = [
    ("all", "all", False),
    ("20 to 49 years", "20 to 49 years", False),
    ("white", "white", False),
    ("all", "all", True),
    ("20 to 49 years", "below 15 years", False),
    ("20 to 49 years", "60 years and more", False),
    ("white", "not white", False),
    ("white", "asian", False),
    ("white", "black", False),
    ("white", "indian", False),
]


def degraded(data: bytes) -> Image.Image:
    """The image as a camera far away would have taken it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def judged(data: str, recipe: str, worse: bool) -> Judged:
    """What the head perceives in all held-out images."""
    values_of, made = trained(recipe, 1, data)
    rows = labelled(data, split=values_of.split)["test"]
    rows = rows.select(range(0, len(rows), 2)) if worse else rows
    said = {name: np.array(values(rows, name, data)) for name in ("gender", "age", "race")}
    kind = "degraded" if worse else "plain"
    folder = runs_of(recipe) / kind
    names = [f"{i:05}.png" if worse else f"{i:05}.jpg" for i in range(len(rows))]
    for name, row in zip(names, rows, strict=True):
        if not (folder / name).exists():
            with whole(folder / name, durable=False) as temporary:
                content = row["image"]["bytes"]
                if worse:
                    degraded(content).save(temporary, format="PNG")
                else:
                    temporary.write_bytes(content)
    run = runs_of(recipe) / f"{kind}-judged"
    measure(
        Measure(
            images_from=str(folder),
            judge=str(made),
            attributes=["gender"],
            calibration=NO_CALIBRATION,
            batch=128,
            domain=DOMAIN,
        ),
        run,
    )
    records = {pathlib.Path(r.image).name: r for r in read(run / "records.jsonl")}
    labels = values_of.attributes["gender"]
    found = [records[name] for name in names]
    return Judged(
        np.array([[r.probs["gender"][c] for c in labels.names] for r in found]),
        np.array([r.seen for r in found]),
        np.array([labels.find(v) for v in said["gender"]]),
        said["age"].astype(int),
        said["race"],
        np.array(digests(rows)),
    )


def confusion_of(x: Judged, rows: np.ndarray, attribute: Attribute) -> Confusion:
    """What `evenhand calibrate` makes of these images."""
    table = AnswerTable(attribute.classes)
    truth = [attribute.classes[k] for k in x.truth[rows]]
    table.add(list(truth), x.probs[rows], x.seen[rows])
    return Calibration(
        classifier="head",
        digest="",
        domain="",
        data="",
        date="",
        attributes={attribute.name: table.counts},
        probabilities={attribute.name: table.answers()},
    ).confusion(attribute)


def split(
    known: Judged,
    x: Judged,
    pools: tuple[np.ndarray, np.ndarray],
    sizes: tuple[int, int],
    seed: int,
) -> dict:
    """One calibration and one folder, drawn by chance, without an image in both."""
    rng, attribute = np.random.default_rng(seed), Attribute(name="gender", classes=["woman", "man"])
    labelled_ones = rng.permutation(np.flatnonzero(pools[0]))[: sizes[0]]
    left = rng.permutation(np.flatnonzero(pools[1]))
    left = left[~np.isin(x.name[left], known.name[labelled_ones])]
    women, men = (left[x.truth[left] == k] for k in (0, 1))
    n = min(sizes[1], len(left))
    least, most = max(0.1, 1 - len(men) / n), min(0.9, len(women) / n)
    count = round(rng.uniform(least, most) * n)
    rows = np.append(women[:count], men[: n - count])
    confusion = confusion_of(known, labelled_ones, attribute)
    answers = x.probs[rows][x.seen[rows]]
    answers = answers / answers.sum(1, keepdims=True)
    fit, truth = fit_of(answers, confusion), count / len(rows)
    found = corrected(answers.sum(0), confusion)[0]
    assert fit and found.low is not None and found.high is not None
    return {
        "refused": not fit.holds,
        "z": fit.z,
        "covers": found.low <= truth <= found.high,
        "off": abs((found.value or 0.0) - truth),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--labelled", type=int, default=1500)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--splits", type=int, default=200)
    args = parser.parse_args()
    data = part_of(args.data, args.recipe, args.train)
    images = {worse: judged(data, args.recipe, worse) for worse in (False, True)}
    plain, table = images[False], []
    print(
        f"{'calibrated on':18} {'measured':28} {'labelled':>8} {'images':>6} {'refused':>7} "
        f"{'median z':>8} {'off':>6} {'covers':>6} {'printed, covers':>15}"
    )
    for calibrated, measured, worse in SETTINGS:
        x = images[worse]
        pools = DOMAINS[calibrated](plain), DOMAINS[measured](x)
        both = calibrated == measured and not worse  # one pool, of which each takes a part
        available = int(pools[0].sum()) if both else int(1e9)
        share = args.labelled / (args.labelled + args.images)
        sizes = (
            min(args.labelled, int(pools[0].sum()), int(available * share)),
            min(args.images, int(pools[1].sum() * 0.8), int(available * (1 - share) * 0.8)),
        )
        found = [split(plain, x, pools, sizes, args.seed + i) for i in range(args.splits)]
        printed = [f["covers"] for f in found if not f["refused"]]
        row = {
            "calibrated_on": calibrated,
            "measured": measured + (", degraded" if worse else ""),
            "labelled": sizes[0],
            "images": sizes[1],
            "not_seen": round(float(1 - x.seen[pools[1]].mean()), 4),
            "accuracy_calibrated": accuracy(plain, pools[0]),
            "accuracy_measured": accuracy(x, pools[1]),
            "refused": round(float(np.mean([f["refused"] for f in found])), 4),
            "median_z": round(float(np.median([f["z"] for f in found])), 2),
            "off": round(float(np.mean([f["off"] for f in found])), 4),
            "covers": round(float(np.mean([f["covers"] for f in found])), 4),
            "printed_covers": round(float(np.mean(printed)), 4) if printed else None,
        }
        table.append(row)
        last = "-" if not printed else f"{row['printed_covers']:.3f}"
        print(
            f"{calibrated:18} {row['measured']:28} {sizes[0]:8} {sizes[1]:6} {row['refused']:7.3f} "
            f"{row['median_z']:8.2f} {row['off']:6.3f} {row['covers']:6.3f} {last:>15}",
            flush=True,
        )
    write_json(
        OUT, {"splits": args.splits, "seed": args.seed, "versions": versions(), "settings": table}
    )


def accuracy(x: Judged, pool: np.ndarray) -> float:
    """Share of the images seen that are called right, the mean over both classes."""
    called = x.probs.argmax(1) == x.truth
    return round(float(np.mean([called[pool & x.seen & (x.truth == k)].mean() for k in (0, 1)])), 4)


if __name__ == "__main__":
    main()
