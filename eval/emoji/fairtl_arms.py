"""The arms of the benchmark of transfer: what differs from the recipe that ships."""

from dataclasses import dataclass, field

DENOISER = [
    "lora={part: denoiser, rank: 8}",
    "steps=100",
    "optimisation.schedule_options={num_decay_steps: 30}",
]
WEIGHTS = [
    "lora=null",
    "weights={part: denoiser}",
    "optimisation.learning_rate=3e-4",
    *DENOISER[1:],
]
PLUS = ["feedback={asked: said, share: 0.4}", "probing={steps: 40, seeds: 3}"]
NO_KEEP = "keep=null"
CRITIC = [
    "critic={rounds: 4}",
    "steps=120",
    "optimisation.warmup=3",
    "optimisation.schedule_options={num_decay_steps: 9}",
]


@dataclass(frozen=True)
class Arm:
    """A training: its recipe's changes, the reference images, the seed.

    Attributes:
        recipe: that ships.
        changes: of it.
        images: of the reference set; 0 without one.
        seed: of the training and of the set.
        skewed: whether the set is as skewed as the world.
        start: arm whose adapter is the beginning.
    """

    recipe: str = "fairtl/emoji"
    changes: list[str] = field(default_factory=list)
    images: int = 1000
    seed: int = 1
    skewed: bool = False
    start: str | None = None


def arms() -> dict[str, Arm]:
    """All arms, the most important first."""
    found = {"encoder-1000-1": Arm()}
    found["weights-50"] = Arm(changes=[*WEIGHTS, NO_KEEP], images=50)
    twice = ["steps=200", "optimisation.schedule_options={num_decay_steps: 60}"]
    found["weights-50-twice"] = Arm(changes=[*WEIGHTS[:3], *twice, NO_KEEP], images=50)
    found["control-same"] = Arm(changes=[*DENOISER, "feedback={asked: same, share: 0.4}", NO_KEEP])
    found |= {f"encoder-1000-{s}": Arm(seed=s) for s in (2, 3)}
    for n in (200, 50):
        found |= {
            f"encoder-{n}-1": Arm(images=n),
            f"encoder-plus-{n}-1": Arm(changes=PLUS, images=n),
        }
    found["denoiser-1000-1"] = Arm(changes=DENOISER)
    found["dft-after"] = Arm("dft/emoji-gender", ["steps=30"], start="encoder-1000-1")
    found["skewed"] = Arm(skewed=True)
    found["encoder-no-keep"] = Arm(changes=[NO_KEEP])
    found["words-only"] = Arm(
        changes=["images=null", "held_out=null", "feedback={asked: said, share: 1}"], images=0
    )
    found["importance-200"] = Arm(
        changes=[
            "importance={images: {path: BIASED}, features: {kind: classifier}, "
            "judge: emoji-trainer}"
        ],
        images=200,
    )
    found["critic-1000"] = Arm(changes=CRITIC)
    found["dft"] = Arm("dft/emoji-gender")
    for s in (2, 3):
        for n in (200, 50):
            found[f"encoder-{n}-{s}"] = Arm(images=n, seed=s)
            found[f"encoder-plus-{n}-{s}"] = Arm(changes=PLUS, images=n, seed=s)
        found[f"denoiser-1000-{s}"] = Arm(changes=DENOISER, seed=s)
    for s in (1, 2, 3):
        found |= {f"denoiser-{n}-{s}": Arm(changes=DENOISER, images=n, seed=s) for n in (200, 50)}
    return found
