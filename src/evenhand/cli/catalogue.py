"""`evenhand list`: what ships."""

KINDS = {
    "models": "eval/models",
    "judges and trainers (--judge, classifier:)": "eval/judges",
    "prompt sets (--prompts)": "prompts",
    "protocols (--protocol)": "eval/protocols",
    "targets by concept (--target)": "eval/targets",
    "recipes (train, generate, reference, classify, chain, classifier train)": "train",
}


def catalogue() -> None:
    """Name the models, judges, prompt sets, protocols, targets, recipes and adapters that ship.

    Example:
        evenhand list
    """
    from rich.table import Table

    from evenhand.cli.show import console
    from evenhand.core.adapters import find_adapter, shipped_adapters
    from evenhand.core.resources import about, names

    shipped = {
        title: [(name, about(kind, name)) for name in names(kind)] for title, kind in KINDS.items()
    }
    shipped["adapters (--adapter)"] = [
        (name, f"Made by the recipe {find_adapter(name).described.get('recipe')}")
        for name in shipped_adapters()
    ]
    for title, rows in shipped.items():
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for row in rows:
            table.add_row(*row)
        console.print(table)
