"""Commands of `evenhand` in a process of its own, which lives as long as a module of tests.

The switches of huggingface_hub are read when it is imported, so its client cannot run in the
process of the tests; and an import takes longer than a push.

Each line read is `{"words": [...], "largest": bytes or null}`; each line written is the command's
exit code, output and errors. `largest` is the size at which files that are written end, as they do
on a full disk.
"""

import contextlib
import io
import json
import os
import pathlib
import resource
import subprocess
import sys

from hub_server import TOKEN, Hub


class Client:
    """The process, with a home and a temporary folder of its own."""

    def __init__(self, hub: Hub, home: pathlib.Path, *, xet: bool):
        self.home, self.errors = home, home / "stderr"
        (home / "tmp").mkdir(parents=True)
        given = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_XET_CLIENT_RETRY_BASE_DELAY": "100ms",
            "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "3",
        }
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=given,
            )

    def __call__(self, *words: object, largest: int | None = None) -> tuple[int, str, str]:
        """The exit code of a command, what it printed, and what it said of errors.

        Neither holds a traceback; neither they nor any file of the client's hold the token.
        """
        process = self.process
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps({"words": [*map(str, words)], "largest": largest}) + "\n")
        process.stdin.flush()
        code, out, err = json.loads(process.stdout.readline())
        assert TOKEN not in out + err and "Traceback" not in out + err, out + err
        for file in self.home.rglob("*"):
            assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
        return code, out, err

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()


def serve() -> None:
    """Runs the commands that come, until there are no more."""
    from evenhand.cli import main

    answers, sys.stdout = sys.stdout, sys.stderr  # nothing else gets among the answers
    for line in sys.stdin:
        asked = json.loads(line)
        sys.argv = ["evenhand", *asked["words"]]
        out, err, code = io.StringIO(), io.StringIO(), None
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest"] or before[0], before[1]))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = stop.code
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        answers.write(json.dumps([code or 0, out.getvalue(), err.getvalue()]) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
