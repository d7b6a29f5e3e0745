import pathlib


def write_card(folder: pathlib.Path) -> None: ...
