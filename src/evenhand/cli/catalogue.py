"""`evenhand list`: what ships."""


def catalogue() -> None:
    """Name the models, classifiers, prompt sets, recipes and adapters that ship.

    Example:
        evenhand list
    """
    from evenhand.core.adapters import shipped_adapters
    from evenhand.core.resources import names

    kinds = {
        "models": "eval/models",
        "classifiers": "eval/judges",
        "prompt sets": "prompts",
        "protocols": "eval/protocols",
        "recipes": "train",
    }
    for title, kind in kinds.items():
        print(f"{title}: {', '.join(names(kind))}")
    print(f"adapters: {', '.join(shipped_adapters())}")
