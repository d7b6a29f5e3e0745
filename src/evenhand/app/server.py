"""The app on a port of this machine."""

import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse, Response

from evenhand.app.desk import Desk
from evenhand.app.drawing import Memory, compare
from evenhand.app.html import Shown
from evenhand.app.page import STYLE, build
from evenhand.app.pages import page
from evenhand.app.settings import App, asked
from evenhand.app.studio import Studio
from evenhand.core.errors import UserError

ALONE = {  # of a report: it runs its own script, which reaches neither the app nor anything outside
    "Content-Security-Policy": "sandbox allow-scripts allow-popups",
    "Cache-Control": "no-store",
}


def run(app: App) -> None:
    """Loads the first model, then serves until it is interrupted.

    Raises:
        UserError: a model cannot be loaded, or the port is taken.
    """
    with listening(app) as place:
        studio = Studio(app)
        print(f"loading {studio.models[0]} …", flush=True)
        warm(studio)
        desk: Desk[Shown] = Desk(app.waiting)
        host, port = place.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        print(f"evenhand app: http://{name}:{port}  (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt), contextlib.closing(desk):
            server(app, studio, desk).run(sockets=[place])


def server(app: App, studio: Studio, desk: "Desk[Shown]") -> uvicorn.Server:
    """The server, ready to run on a socket."""
    config = uvicorn.Config(
        site(app, studio, desk), log_level="warning", timeout_graceful_shutdown=1, ws="none"
    )
    return uvicorn.Server(config)


def site(app: App, studio: Studio, desk: "Desk[Shown]") -> FastAPI:
    """The page and the reports."""
    import gradio
    from gradio.themes import Default

    made = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if app.alone:  # a page elsewhere whose name leads here does not get in
        made.add_middleware(
            TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", app.host]
        )

    @made.get("/reports/{name:path}")
    def report(name: str) -> Response:
        path = page(app.runs, name)
        return FileResponse(path, headers=ALONE) if path else Response("no such page", 404)

    return gradio.mount_gradio_app(
        made,
        build(app, studio, desk),
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        max_file_size=1024,
        show_error=False,
        theme=Default(primary_hue="blue", font="system-ui", font_mono="monospace"),
        css=STYLE,
    )


def warm(studio: Studio) -> None:
    """Loads the first model and draws with it once, so that no visitor waits for that.

    Raises:
        UserError: it cannot be loaded.
    """
    plan = studio.plan(asked(model=studio.models[0], prompt="a person", images=1))
    for _ in compare(plan, studio, Memory(), lambda: False):
        pass


@contextlib.contextmanager
def listening(app: App) -> Iterator[socket.socket]:
    """A socket that listens where the app is asked to.

    Raises:
        UserError: the port is taken, or the address is none of this machine.
    """
    try:
        kind, _, _, _, where = socket.getaddrinfo(app.host, app.port, type=socket.SOCK_STREAM)[0]
        place = socket.socket(kind, socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"--host {app.host}: {error.strerror or error}") from error
    with contextlib.closing(place):
        try:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind(where)
            place.listen(128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UserError(
                    f"port {app.port} is taken, perhaps by another app: name another with --port, "
                    "or --port 0 for any that is free"
                ) from error
            raise UserError(f"{app.host}, port {app.port}: {error.strerror}") from error
        yield place
