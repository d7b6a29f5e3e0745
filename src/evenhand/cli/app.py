"""`evenhand app`: a page for people who type no commands."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evenhand.core.errors import UserError


def app(
    models: Annotated[
        list[str] | None,
        Argument(help="Models to choose from, as in `measure`; the first is loaded at the start."),
    ] = None,
    adapter: Annotated[
        list[str] | None, Option(help="Adapter to choose from; may be repeated.")
    ] = None,
    judge: Annotated[
        str | None, Option(help="Classifier that judges; each model's own when not given.")
    ] = None,
    runs: Annotated[
        Path | None,
        Option(
            help="Folder whose reports the page opens: runs, when not given and only this machine "
            "reaches the page."
        ),
    ] = None,
    host: Annotated[
        str,
        Option(
            help="Address to listen on: 0.0.0.0 lets others in, who may then use only the models "
            "and adapters that you name."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, Option(help="Port; 0 for any that is free.", min=0, max=65535)] = 7860,
) -> None:
    """Open a page in which a model is drawn with and without an adapter, and counted.

    Shares come with intervals that hold whenever you look. One visitor draws at a time; others see
    their place. Nothing is sent to anybody. The page listens to this machine alone unless --host
    says otherwise.

    Examples:
        evenhand app

        evenhand app sd15 --adapter runs/train/dft/gender-sd15/adapter

        evenhand app emoji --adapter emoji-gender --host 0.0.0.0
    """
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError("evenhand app needs gradio: pip install 'evenhand[app]'") from error
    from evenhand.app.server import run
    from evenhand.app.settings import App
    from evenhand.cli.show import only_our_bars
    from evenhand.core.schema import check

    values = {
        "models": models or [],
        "adapters": adapter or [],
        "judge": judge,
        "host": host,
        "port": port,
    }
    settings = check(App, values, where="evenhand app")
    only_our_bars()
    folder = runs or (Path("runs") if settings.alone else None)
    run(settings.model_copy(update={"runs": str(folder) if folder else None}))
