"""`evenhand list`: what ships."""


def catalogue() -> None:
    """Name the models, classifiers, prompt sets, recipes and adapters that ship.

    Example:
        evenhand list
    """
    from evenhand.resources import ROOT, names

    kinds = {"models": "eval/models", "classifiers": "eval/classifiers", "prompt sets": "prompts",
             "protocols": "eval/protocols", "recipes": "train"}
    for title, kind in kinds.items():
        print(f"{title}: {', '.join(names(kind))}")
    print(f"adapters: {', '.join(sorted(p.parent.name for p in (ROOT / 'adapters').glob('*/adapter.json')))}")
