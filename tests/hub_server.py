"""A Hub on this machine that takes pushes: the routes that huggingface_hub 2.4 uses, and faults.

    with Hub() as hub: ...  # hub.url is its HF_ENDPOINT

With a `cas` it has Xet storage beside LFS: `local:///a/folder`, in which the Xet client keeps what
it uploads (undocumented). Files that will come by Xet are told to the server before (`expects`),
since they pass it by: that the store holds them is shown by pulling them.

Repositories lie in memory. A fault is taken from a list at each request that matches: a status, or
`drop` (the connection is closed without an answer), or `lost` (the request is done, its answer is
not sent). `log` holds every request, with whether it carried the token.
"""

import base64
import collections
import hashlib
import http.server
import json
import pathlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

TOKEN = "hf_thetokenofthetests"


@dataclass
class Repo:
    """Commits, oldest first: the content of each by path."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    lfs: set[str] = field(default_factory=set)

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits.append((sha, files))
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        found = [c for c in self.commits if c[0] == revision]
        return self.commits[-1] if revision == "main" else next(iter(found), None)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """The server, in a thread of its own while the context is open."""

    daemon_threads = True

    def __init__(self, cas: str | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url, self.cas = f"http://127.0.0.1:{self.server_port}", cas
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}  # LFS, by sha256
        self.xet: dict[str, tuple[str, bytes]] = {}  # Xet hash and content, by sha256
        self.faults: dict[tuple[str, str], list[int | str]] = {}  # (method, pattern of the path)
        self.log: list[tuple[str, str, bool]] = []
        self.uploads: collections.Counter[str] = collections.Counter()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def expects(self, folder: pathlib.Path) -> None:
        """Tells of the files of a folder that may come by Xet."""
        import hf_xet

        files = [str(p) for p in folder.rglob("*") if p.is_file()]
        for file, found in zip(files, hf_xet.hash_files(files), strict=True):
            content = pathlib.Path(file).read_bytes()
            self.xet[hashlib.sha256(content).hexdigest()] = found.hash, content

    def fault(self, method: str, path: str) -> int | str | None:
        for (verb, pattern), left in self.faults.items():
            if verb == method and left and re.search(pattern, path):
                return left.pop(0)
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def handle_one(self) -> None:
        path = unquote(urlsplit(self.path).path)
        size = self.headers.get("Content-Length")
        self.body = self.rfile.read(int(size)) if size else self.chunks()
        self.authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.server.log.append((self.command, path, "Authorization" in self.headers))
        fault = self.server.fault(self.command, path)
        if isinstance(fault, int):
            extra = {"Retry_After": "1"} if fault == 429 else {}
            return self.answer(fault, {"error": f"fault {fault}"}, **extra)
        if fault == "drop":
            return self.hang_up()
        if fault == "lost":
            self.answer, really = lambda *_, **__: None, self.answer
            self.route(path)
            self.answer = really
            return self.hang_up()
        return self.route(path)

    do_GET = do_HEAD = do_POST = do_PUT = handle_one

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def route(self, path: str) -> None:
        if path.startswith("/lfs/"):  # another origin in the real Hub: no token may come here
            self.server.objects[path.removeprefix("/lfs/")] = self.body
            self.server.uploads[path.removeprefix("/lfs/")] += 1
            return self.answer(200, {})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path in {"/api/whoami-v2", "/api/repos/create"} and not self.authorised:
            return self.answer(401, {"error": "Invalid username or password."})
        if path == "/api/whoami-v2":
            return self.answer(200, {"type": "user", "name": "tester", "orgs": [], "auth": {}})
        if path == "/api/repos/create":
            return self.create(json.loads(self.body))
        if found := re.fullmatch(
            r"/(?:datasets/|spaces/)?(.+?/.+?)\.git/info/lfs/objects/batch", path
        ):
            return self.batch(json.loads(self.body))
        if found := re.fullmatch(
            r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/([^/]+)/([^/]+))?", path
        ):
            return self.api(*found.groups())
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, file = found.groups()
            return self.resolve("dataset" if kind else "model", name, revision, file)
        return self.answer(404, {"error": "Not Found"})

    def create(self, asked: dict) -> None:
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        key = asked.get("type") or "model", name
        url = f"{self.server.url}/{'' if key[0] == 'model' else key[0] + 's/'}{name}"
        if key in self.server.repos:
            return self.answer(409, {"error": "You already created this repo", "url": url})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.server.repos[key] = Repo(private=private)
        self.server.repos[key].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        return self.answer(200, {"url": url, "id": name})

    def batch(self, asked: dict) -> None:
        objects = []
        for entry in asked["objects"]:
            if entry["oid"] not in self.server.objects:
                entry["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{entry['oid']}"}}
            objects.append(entry)
        return self.answer(200, {"transfer": "basic", "objects": objects})

    def api(self, kind: str, name: str, what: str | None, revision: str | None) -> None:
        repo = self.server.repos.get((kind, name))
        if repo is None or (repo.private and not self.authorised):
            return self.answer(404, {"error": "Repo not found"}, X_Error_Code="RepoNotFound")
        writes = what in {"preupload", "commit", "xet-write-token"}
        if writes and not self.authorised:
            return self.answer(403, {"error": "Forbidden: no write access"})
        found = repo.at(revision or "main")
        if found is None:
            return self.answer(404, {"error": "no"}, X_Error_Code="RevisionNotFound")
        sha, files = found
        if what == "preupload":
            return self.answer(200, {"files": [self.mode(f, files) for f in self.asked()["files"]]})
        if what == "commit":
            return self.commit(repo, kind, name)
        if what == "tree":
            return self.answer(200, [self.entry(repo, p, c) for p, c in files.items()])
        if what and what.startswith("xet"):
            token = {"X_Xet_Cas_Url": self.server.cas or "", "X_Xet_Access_Token": "xet"}
            late = str(int(time.time()) + 30)  # so soon that no token is kept
            given = {"casUrl": self.server.cas, "exp": int(late), "accessToken": "xet"}
            return self.answer(200, given, **token, X_Xet_Token_Expiration=late)
        info = {"id": name, "sha": sha, "private": repo.private, "tags": [], "downloads": 0}
        return self.answer(200, {**info, "siblings": [{"rfilename": path} for path in files]})

    def asked(self) -> dict:
        return json.loads(self.body)

    def mode(self, asked: dict, files: dict[str, bytes]) -> dict:
        lfs = asked["path"].endswith((".safetensors", ".png", ".jpg"))
        old = files.get(asked["path"])
        oid = None if old is None else hashlib.sha256(old).hexdigest() if lfs else git_oid(old)
        kind = "lfs" if lfs else "regular"
        return {"path": asked["path"], "uploadMode": kind, "shouldIgnore": False, "oid": oid}

    def entry(self, repo: Repo, path: str, content: bytes) -> dict:
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
        if path in repo.lfs:
            oid = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
            if oid in self.server.xet:
                entry["xetHash"] = self.server.xet[oid][0]
        return entry

    def commit(self, repo: Repo, kind: str, name: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        parent = lines[0]["value"].get("parentCommit")
        if parent and parent != repo.commits[-1][0]:
            return self.answer(412, {"error": "a commit has happened since"})
        files = dict(repo.commits[-1][1])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                self.server.uploads[value["path"]] += 1
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects.get(value["oid"], b"")
                if not files[value["path"]] and self.server.cas:
                    files[value["path"]] = self.server.xet[value["oid"]][1]
                repo.lfs.add(value["path"])
            else:
                del files[value["path"]]
        sha = repo.commit(files)
        place = name if kind == "model" else f"{kind}s/{name}"
        url = f"{self.server.url}/{place}/commit/{sha}"
        return self.answer(200, {"commitOid": sha, "commitUrl": url, "success": True})

    def resolve(self, kind: str, name: str, revision: str, file: str) -> None:
        repo = self.server.repos.get((kind, name))
        if repo is None or (repo.private and not self.authorised):
            return self.answer(404, {"error": "Repo not found"}, X_Error_Code="RepoNotFound")
        if repo.gated and not self.authorised:
            return self.answer(403, {"error": "gated"}, X_Error_Code="GatedRepo")
        found = repo.at(revision)
        if found is None or file not in found[1]:
            return self.answer(404, {"error": "no entry"}, X_Error_Code="EntryNotFound")
        content = found[1][file]
        etag = hashlib.sha256(content).hexdigest() if file in repo.lfs else git_oid(content)
        told = {"X_Repo_Commit": found[0], "ETag": f'"{etag}"'}
        if self.server.cas and etag in self.server.xet:
            route = f"{self.server.url}/api/{kind}s/{name}/xet-read-token/{found[0]}"
            told |= {"X_Xet_Hash": self.server.xet[etag][0], "X_Xet_Refresh_Route": route}
        return self.answer(200, content, **told)
