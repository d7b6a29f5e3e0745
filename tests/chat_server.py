"""A service on this machine that speaks OpenAI's chat protocol, and its faults.

    with Chat(["in a park", 429, "slow", ...]) as chat: ...  # chat.url ends with /v1

Answers are taken from the list, one a request: a text is the answer; a number a status; `slow` an
answer that comes too late; `nonsense` a page of HTML; `empty` JSON without choices. The last one
is repeated. `asked` holds every question.
"""

import contextlib
import http.server
import json
import threading
import time


class Chat(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answers: list[str | int]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.answers = list(answers)
        self.asked: list[dict] = []
        self.keys: list[str | None] = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Chat

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers.get("Authorization"))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == "slow":
            time.sleep(1)
        status = answer if isinstance(answer, int) else 200
        body: object = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
        if isinstance(answer, int):
            key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            body = {"error": {"message": f"status {answer} for key {key}"}}
        if answer == "empty":
            body = {"choices": []}
        content = b"<html>oops</html>" if answer == "nonsense" else json.dumps(body).encode()
        self.send_response(status)
        if answer == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(content)
