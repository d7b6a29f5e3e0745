"""The simulated settings, one a row of the table: mild worlds first, hard ones after."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        kind: which number has the interval (`intervals.KINDS`).
        world: how prompts differ (`worlds.PROMPTS`, `worlds.CHANGES`).
        classes: K.
        judge: how the judge errs (`worlds.errors`).
        accuracy: of the judge; 1 is a judge that never errs.
        labelled: images of each class in its calibration.
        prompts: concepts in a run.
        wordings: prompts of each concept.
        images: of each prompt, at most.
        width: of `--until`.
    """

    kind: str
    world: str = "mild"
    classes: int = 2
    judge: str = "uneven"
    accuracy: float = 1.0
    labelled: int = 500
    prompts: int = 1
    wordings: int = 1
    images: int = 30
    width: float = 0.1


def _judged(kind: str, k: int, a: float, labelled: int, p: int, n: int) -> Setting:
    return Setting(kind, "mild", k, "uneven", a, labelled, p, 1, n)


MILD = [
    *(
        _judged("corrected", k, a, m, 1, n)
        for k in (2, 4, 8)
        for a in (0.83, 0.99)
        for m, n in ((100, 30), (100, 250), (3000, 250))
    ),
    *(
        _judged("corrected", k, 0.9, m, p, 30)
        for k in (2, 4, 8)
        for m in (100, 3000)
        for p in (5, 50)
    ),
    *(
        _judged("corrected, probabilities", k, 0.83, m, p, n)
        for k in (2, 4, 8)
        for m, p, n in ((100, 1, 250), (3000, 1, 30), (100, 50, 30))
    ),
    *(_judged("raw", 2, a, 500, 1, 250) for a in (0.83, 0.9, 0.99)),
    *(_judged("CLEAM", 2, a, m, 1, 250) for a in (0.83, 0.99) for m in (100, 3000)),
    *(Setting("share", classes=k, prompts=p) for k in (2, 4, 8) for p in (1, 5, 20, 50)),
    *(Setting("gap", classes=k, prompts=p) for k in (2, 4) for p in (5, 20, 50)),
    *(Setting("distance", classes=k, prompts=p) for k in (2, 4) for p in (5, 20, 50)),
    *(
        Setting("change of gap", "pulled to even", k, prompts=p)
        for k in (2, 4)
        for p in (5, 20, 50)
    ),
    *(Setting("until", classes=k, images=400, width=w) for k in (2, 4, 8) for w in (0.05, 0.1)),
    *(_judged("until, corrected", 2, a, 500, 1, 400) for a in (0.83, 0.99)),
    *(Setting("any time", classes=k, images=480) for k in (2, 4, 8)),
]

HARD = [
    *(Setting("share", "heavy tail", prompts=p, images=48) for p in (6, 20, 50)),
    *(Setting("share", "exactly even", prompts=p, images=48) for p in (6, 20, 50)),
    *(
        Setting("share", "near the bound", prompts=p, images=n)
        for p in (6, 20, 50)
        for n in (8, 48)
    ),
    *(Setting("share", "all or nothing", prompts=1, wordings=w, images=24) for w in (5, 20)),
    *(Setting("share", "all or nothing", prompts=p, wordings=4, images=12) for p in (6, 20)),
    *(
        Setting(kind, world, k, prompts=p, images=n)
        for kind in ("gap",)
        for world in ("exactly even", "near even")
        for k in (2, 4)
        for p, n in ((6, 48), (20, 48), (50, 16))
    ),
    *(
        Setting(kind, world, prompts=p, images=48)
        for kind in ("gap",)
        for world in ("near the bound", "heavy tail")
        for p in (6, 20, 50)
    ),
    *(Setting("distance", "exactly even", k, prompts=20, images=48) for k in (2, 4)),
    *(
        Setting("change of gap", world, prompts=p, images=48)
        for world in ("95 to even", "95 to near even", "even to even", "95 to 95")
        for p in (6, 20, 50)
    ),
    *(
        Setting("change of kept share", world, prompts=p, images=n)
        for world in ("99 to 96", "99 to 99")
        for p, n in ((6, 4), (20, 4), (20, 16))
    ),
    *(
        _judged("corrected", k, a, m, p, n)
        for k in (2, 4)
        for a in (0.83, 0.95)
        for m in (20, 35, 50)
        for p, n in ((1, 250), (20, 30))
    ),
    *(
        Setting("corrected", "mild", 2, "misses one class", 0.95, m, p, 1, n)
        for m in (100, 500, 3000)
        for p, n in ((1, 250), (20, 60))
    ),
    *(Setting("corrected", "mild", 2, "another domain", 0.95, 500, p, 1, 100) for p in (1, 20)),
    *(
        Setting("corrected gap", world, k, "uneven", a, m, 20, 1, 48)
        for world in ("mild", "exactly even")
        for k in (2, 4)
        for a, m in ((0.85, 100), (0.85, 1000))
    ),
    *(
        Setting("corrected change of gap", world, 2, "uneven", 0.85, m, 20, 1, 48)
        for world in ("95 to even", "95 to near even", "even to even", "95 to 95")
        for m in (100, 1000)
    ),
    *(
        Setting("corrected change of share", world, 2, "uneven", 0.85, m, 20, 1, 48)
        for world in ("95 to even", "95 to 95")
        for m in (100, 1000)
    ),
    *(Setting("until, mean", "one in ten", prompts=p, images=96, width=0.1) for p in (20, 50, 200)),
    *(Setting("until, mean", "mild", k, prompts=100 // k, images=96, width=0.1) for k in (2, 4)),
    *(Setting("until, gap", world, prompts=50, images=96) for world in ("one in ten", "mild")),
    *(
        Setting("until, corrected mean", world, 2, "uneven", 0.9, 500, 50, 1, 96, 0.1)
        for world in ("one in ten", "mild")
    ),
    *(
        Setting("share, within reach", world, prompts=p, images=48)
        for world in ("heavy tail", "near the bound")
        for p in (6, 20)
    ),
]

SETTINGS = [*MILD, *HARD]
