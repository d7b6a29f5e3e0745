"""A service that draws by OpenAI's images protocol, on this machine, with faults.

    with Images() as service: ...  # service.url is what a model's YAML names

It answers with pictures of the embedded world. `answers` is what the next questions get instead: a
status, or a word of `Handler.route`. `asked` holds the questions, `keys` what each request carried.
"""

import base64
import http.server
import io
import json
import socket
import threading
import time

import torch
from PIL import Image

from evenhand.emoji.world import draw, sample_scene
from evenhand.images.tensors import to_uint8

KEY = "sk-thekeyofthetests"


def pictures(n: int) -> list[bytes]:
    """PNG files of the embedded world."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for pixels in to_uint8(draw(sample_scene(n, generator=generator), generator=generator)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        found.append(file.getvalue())
    return found


class Images(http.server.ThreadingHTTPServer):
    """The server, in a thread of its own while the context is open."""

    daemon_threads = True

    def __init__(self, answers: list[int | str] = ()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.answers, self.drawn = list(answers), 0
        self.asked: list[dict] = []
        self.keys: list[tuple[str, str | None]] = []
        self.pictures = pictures(8)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    server: Images

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: object, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.server.keys.append(("GET", self.headers.get("Authorization")))
        self.answer(200, self.server.pictures[0])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.append(("POST", self.headers.get("Authorization")))
        self.route(self.server.answers.pop(0) if self.server.answers else "draw")

    def route(self, answer: int | str) -> None:
        if isinstance(answer, int):
            error = {"message": f"fault {answer}, key {KEY}", "code": None}
            return self.answer(answer, {"error": error}, Retry_After="0")
        if answer == "refuse":
            error = {"message": "Against our policy.", "code": "content_policy_violation"}
            return self.answer(400, {"error": error})
        if answer == "drop":
            return self.connection.shutdown(socket.SHUT_RDWR)
        if answer == "slow":
            time.sleep(1)
        picture = self.server.pictures[self.server.drawn % len(self.server.pictures)]
        self.server.drawn += 1
        data = {
            "empty": [],
            "broken": [{"b64_json": "%%%"}],
            "no picture": [{"b64_json": base64.b64encode(b"nothing").decode()}],
            "neither": [{"revised_prompt": "a cat"}],
            "file": [{"url": "file:///etc/passwd"}],
            "url": [{"url": f"{self.server.url}/files/1.png"}],
        }
        drawn = [{"b64_json": base64.b64encode(picture).decode()}]
        body = b"nonsense" if answer == "nonsense" else {"data": data.get(answer, drawn)}
        self.answer(200, body)
