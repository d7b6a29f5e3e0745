"""The app: a page in which people draw, compare and count without typing commands."""

from evenhand.app.settings import App

__all__ = ["App", "serve"]


def serve(**settings: object) -> None:
    """Serves the app until it is interrupted.

    Args:
        settings: of `App`, such as `models=["emoji"]`.

    Raises:
        UserError: settings that are none, a model that cannot be loaded, or a port that is taken.
    """
    from evenhand.app.server import run
    from evenhand.core.schema import check

    run(check(App, settings, where="evenhand app"))
