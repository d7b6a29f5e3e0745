"""What transfer to a reference set does before its first step, for a dry run: to count, to cut."""

import pathlib

from evenhand.adapt.fairtl.own_images import ASKED, own_prompts
from evenhand.adapt.fairtl.scores import MOST, steps_of
from evenhand.core.schema import read_json
from evenhand.recipes.fairtl import FairTl, LinearProbing


def work_before(recipe: FairTl, run: pathlib.Path) -> tuple[int, int]:
    """Steps that find the first layers, and images that the model draws of its own.

    Args:
        recipe: of the training.
        run: folder of a run of it, which says how many reference images there are.
    """
    images = recipe.critic.rounds * recipe.critic.images if recipe.critic else 0
    if _draws_own(recipe):
        own = len(own_prompts(recipe))
        images += own + (min(ASKED, own) if recipe.said and recipe.judge else 0)
    probing = _unknown_layers(recipe)
    if not probing:
        return 0, images
    reference = read_json(run / "reference.json", what="a run's reference set")
    return steps_of(probing), images + min(MOST, reference["images"])


def without_work_before(recipe: FairTl, images: int) -> FairTl:
    """The recipe without probing, and with about so many images of the model's own."""
    short = recipe.model_copy(update={"probing": None})
    if recipe.critic:
        few = {"rounds": 1, "images": min(images, recipe.critic.images), "steps": 1}
        short = short.model_copy(update={"critic": recipe.critic.model_copy(update=few)})
    if recipe.own is None or not _draws_own(recipe):
        return short
    prompts = own_prompts(recipe)
    concepts = list(dict.fromkeys(prompt.concept for prompt in prompts))
    wordings = len(prompts) // (recipe.own.each * len(concepts))
    some = concepts[: max(1, images // wordings)]
    each = min(recipe.own.each, max(1, images // (wordings * len(some))))
    few = recipe.own.model_copy(update={"each": each, "concepts": some})
    return short.model_copy(update={"own": few})


def _draws_own(recipe: FairTl) -> bool:
    return recipe.own is not None and bool(recipe.said or recipe.keep)


def _unknown_layers(recipe: FairTl) -> LinearProbing | None:
    """How a recipe finds out which layers are trained first; None where it need not."""
    given = recipe.probing and recipe.probing.scores
    return None if given and pathlib.Path(given).is_file() else recipe.probing
