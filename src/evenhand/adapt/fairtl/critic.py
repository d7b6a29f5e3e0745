"""An evolving critic: it tells the reference images from the model's own, and the model follows.

With a perfect critic log d/(1 - d) is the log ratio of two densities: of the reference images and
of the model's own, both with noise. Its gradient, added to the model's score, gives the score of
the reference images. So the model need not be shown one of them: it learns its own prediction,
moved along that gradient, and where d is one half it stays. (The gradient of a discriminator as a
correction of the score: Kim et al., ICML 2023, arXiv 2211.17091; there at sampling time.)
"""

import pathlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.own_weights import Before
from evenhand.diffusion.trainable import Trainable
from evenhand.recipes.fairtl import FairTl
from evenhand.training.checkpoints import step_generator
from evenhand.training.denoise import grid_step
from evenhand.training.examples import Examples, Teacher, drawn
from evenhand.training.run_directory import Progress

HALF = 32  # images of each of the two sets in a batch of the critic's
HELD_OUT = 5  # one in so many of each set is held out
LOOKS = 8  # at the held-out images, of which the best is kept
WIDTH = 64
LEAST = 1e-3  # of the image's factor in x_t: below it x_t is noise alone, with nothing to see


def with_critic(
    recipe: FairTl,
    terms: dict[str, Examples],
    denoising: Denoising,
    trainable: Trainable,
    folder: pathlib.Path,
    tell: Progress,
) -> None:
    """Adds the term `critic` to the terms of a round's loss.

    Draws images of the reference set's captions with the model as it is, and trains a critic of
    them. Writes `critic.json` into the folder: the critic's loss on held-out images, which is .693,
    log 2, where it cannot tell the two sets apart.

    Args:
        recipe: whose `critic` says how.
        terms: of which `loss` is the reference set's.
        denoising: the model.
        trainable: what is trained in it.
        folder: of the round.
        tell: called with (0, `{"drawn": n}`).

    Raises:
        UserError: a reference set of one image, of which none can be held out.
    """
    wanted, reference = recipe.critic, terms.pop("loss")
    assert wanted is not None
    if len(reference) < 2:
        raise UserError("critic: a reference set of one image leaves none to be held out; add some")
    generator = step_generator(recipe.seed, "critic", "captions")
    order = torch.randperm(len(reference), generator=generator).tolist()
    captions = [reference.captions[order[i % len(order)]] for i in range(wanted.images)]
    file = folder / "current.safetensors"
    current = Examples(drawn(captions, recipe, denoising, file, "critic", tell), captions)
    critic, loss = trained_critic(
        reference, current, denoising, steps=wanted.steps, early=recipe.early, seed=recipe.seed
    )
    write_json(
        folder / "critic.json",
        {"held_out_loss": round(loss, 4), "images": [len(reference), len(current)]},
    )

    def push(group: list[int], noised: Tensor, step: int) -> Tensor:
        texts = [captions[i] for i in group]
        return wanted.strength * correction(critic, denoising, texts, noised, step)

    now = Before(trainable.parameters).restored
    teacher = Teacher(captions, as_it_was=now, push=push)
    terms["critic"] = Examples(current.latents, captions, wanted.share, teacher, dropout=0.0)
    if wanted.share < 1:
        terms["loss"] = Examples(reference.latents, reference.captions, 1 - wanted.share)


@dataclass(frozen=True)
class TrainedCritic:
    """Tells noised images of two sets apart.

    Attributes:
        network: from latents `[N, *shape]` of unit size, places of captions `[N]` and a step of
            the grid to log d/(1 - d), `[N]`.
        captions: that it knows, and their places.
    """

    network: nn.Module
    captions: dict[str, int]

    def __call__(
        self, denoising: Denoising, captions: list[str], noised: Tensor, step: int
    ) -> Tensor:
        """Log d/(1 - d) `[N]` of noised latents before a step of the grid."""
        a, s = denoising.mixture(step)
        known = torch.tensor([self.captions[text] for text in captions], device=noised.device)
        return self.network(noised.float() / (a * a + s * s) ** 0.5, known, step)


class CriticNetwork(nn.Module):
    """A small network on latents; caption and noise level decide what it looks for.

    Args:
        shape: of an image's latents: `[channels, ...]`, or `[tokens, channels]`.
        captions, steps: how many there are.
    """

    def __init__(self, shape: tuple[int, ...], captions: int, steps: int) -> None:
        super().__init__()
        if len(shape) == 2:
            self.look = nn.Sequential(
                nn.Linear(shape[1], WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()
            )
        else:
            self.look = nn.Sequential(
                nn.Conv2d(shape[0], WIDTH, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1),
                nn.SiLU(),
                nn.AdaptiveAvgPool2d(4),
            )
        self.caption, self.step = nn.Embedding(captions, WIDTH), nn.Embedding(steps, WIDTH)
        self.join = nn.Sequential(
            nn.Linear(16 * WIDTH + WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, 1)
        )

    def forward(self, latents: Tensor, captions: Tensor, step: int) -> Tensor:
        """Log d/(1 - d) `[N]`."""
        if latents.dim() == 3:
            seen = F.adaptive_avg_pool1d(self.look(latents).transpose(1, 2), 16)
        else:
            seen = self.look(latents.flatten(2, -2))
        at = self.caption(captions) + self.step(torch.full_like(captions, step))
        return self.join(torch.cat([seen.flatten(1), at], 1)).squeeze(1)


def trained_critic(
    reference: Examples,
    current: Examples,
    denoising: Denoising,
    *,
    steps: int,
    early: float | None,
    seed: int,
) -> tuple[TrainedCritic, float]:
    """A critic of two sets of images, and its loss on those of them that are held out.

    The weights with the least held-out loss are kept. The random numbers of the process stay as
    they are.

    Args:
        reference: of which d is the probability.
        current: of the model's own images.
        denoising: the model, for its grid of steps and its noise.
        steps: of the training.
        early: as of a recipe.
        seed: of weights and noise.
    """
    captions = {x: i for i, x in enumerate(dict.fromkeys(reference.captions + current.captions))}
    device = denoising.diffusion.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_generator(seed, "critic").initial_seed() % 2**63)
        network = CriticNetwork(denoising.shape, len(captions), len(denoising)).to(device)
    critic = TrainedCritic(network, captions)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    sets = [(reference, 1.0), (current, 0.0)]

    def loss(held_out: bool, number: int, n: int) -> Tensor:
        generator = step_generator(seed, "critic", held_out, number)
        step, total = grid_step(len(denoising), early, generator), torch.zeros((), device=device)
        for examples, label in sets:
            apart = torch.arange(len(examples)) % HELD_OUT == 0
            places = (apart if held_out else ~apart).nonzero().flatten()
            chosen = places[torch.randint(len(places), (n,), generator=generator)]
            latents = examples.latents[chosen, 0]
            noise = torch.randn(latents.shape, generator=generator)
            noised = denoising.noised(latents.to(device), noise.to(device), step)
            texts = [examples.captions[i] for i in chosen.tolist()]
            found = critic(denoising, texts, noised, step)
            total = total + F.binary_cross_entropy_with_logits(found, torch.full_like(found, label))
        return total / 2

    best, kept = float("inf"), network.state_dict()
    every = max(1, steps // LOOKS)
    for number in range(steps):
        optimizer.zero_grad()
        loss(False, number, HALF).backward()
        optimizer.step()
        if (number + 1) % every == 0:
            with torch.no_grad():
                found = sum(float(loss(True, k, 2 * HALF)) for k in range(16)) / 16
            if found < best:
                best, kept = found, {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(kept)
    return TrainedCritic(network.eval().requires_grad_(False), captions), best


def correction(
    critic: TrainedCritic, denoising: Denoising, captions: list[str], noised: Tensor, step: int
) -> Tensor:
    """What a perfect critic adds to a prediction to make it the reference set's.

    By Tweedie's formula a change of the score by g changes the noise in x_t = a x + s n by -s g
    and the image by s^2/a g; what the model predicts is linear in both.
    """
    a, s = denoising.mixture(step)
    if a < LEAST:
        return torch.zeros_like(noised)
    with torch.enable_grad():
        x = noised.detach().float().requires_grad_(True)
        (g,) = torch.autograd.grad(critic(denoising, captions, x, step).sum(), x)
    return denoising.target(s * s / a * g, -s * g, step)
