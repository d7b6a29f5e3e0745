"""What a recipe of direct fine-tuning names, found once; what cannot work is refused here.

Nothing is loaded, and nothing written, before all of it is known.
"""

from dataclasses import dataclass

from evenhand.core.errors import UserError, unknown
from evenhand.core.prompts import Prompt, PromptSet, load_prompts
from evenhand.recipes.dft import Dft
from evenhand.recipes.judge import JudgeConfig, find_judge
from evenhand.recipes.model import Model, load_model


@dataclass(frozen=True)
class Plan:
    """A recipe, with the model, the judge that it trains against, and its prompt sets by name."""

    recipe: Dft
    model: Model
    judge: JudgeConfig
    sets: dict[str, PromptSet]

    @property
    def neutral(self) -> list[Prompt]:
        """Training prompts that leave the class open."""
        return [p for s in self.sets.values() for p in s.prompts(["train"])]

    @property
    def explicit(self) -> list[Prompt]:
        """Training prompts that say a class of one of the targets' attributes, if any are drawn."""
        if not self.recipe.explicit_images:
            return []
        targets = (self.recipe.target, *self.recipe.targets.values())
        attributes = list(dict.fromkeys(a for target in targets for a in target.attributes))
        return [p for s in self.sets.values() for p in s.explicit_prompts(attributes, ["train"])]


def plan(recipe: Dft) -> Plan:
    """Finds what a recipe names.

    Raises:
        UserError: unknown names, classes and prompt families; a judge through which no gradient
            passes; a prompt set without training prompts, or without prompts that say a class where
            the recipe draws some.
    """
    names = [recipe.prompts] if isinstance(recipe.prompts, str) else list(recipe.prompts)
    sets = {name: load_prompts(name) for name in names}
    found = Plan(recipe, load_model(recipe.model), find_judge(recipe.classifier), sets)
    if found.model.endpoint:
        raise UserError(f"model {recipe.model!r} is a service: it can be measured, not trained")
    if found.model.offload != "none" or found.model.quantise:
        raise UserError(
            f"model {recipe.model!r}: offload and quantise are for drawing; train without them "
            "(gradient.offload and gradient.batch save memory there)"
        )
    if found.judge.kind == "vlm":
        raise UserError(
            f"classifier {recipe.classifier!r} is asked in words: it can judge, but no gradient "
            "passes through it"
        )
    families = [s.family for s in sets.values()]
    for family in recipe.targets:
        if family not in families:
            raise unknown("prompt family", family, families, where="targets")
    for target in (recipe.target, *recipe.targets.values()):
        target.check(found.judge.known)
    for s in sets.values():
        recipe.targets.get(s.family, recipe.target).check_concepts(
            prompt.concept for prompt in s.prompts(["train"])
        )
    for prompt in found.explicit:
        for a, cls in prompt.states.items():
            known = found.judge.known[a].classes
            if cls not in known:
                raise unknown("class", cls, known, where=f"prompt {prompt.text!r}")
    if recipe.explicit_images and not found.explicit:
        raise UserError(
            "explicit_images: the prompt sets have no prompts that say a class of the target; "
            "set it to 0"
        )
    return found
