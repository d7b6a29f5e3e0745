"""Folders to and from the Hub: one commit a push, and nothing uploaded twice.

The client is huggingface_hub's, and so are the token and its store. A push looks at what the
repository holds, uploads what differs, and commits all of it at once on top of the commit that it
saw. When the answer to a request is lost, it looks again before it tries again.
"""

import hashlib
import pathlib
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download

from evenhand.core.adapter_sets import is_set
from evenhand.core.adapters import find_adapter
from evenhand.core.errors import UserError
from evenhand.core.references import FOLDER
from evenhand.core.requests import LOGIN, NotThere, Say, refuse_without_token, tried
from evenhand.core.schema import read_json
from evenhand.publish import space
from evenhand.publish.ready import refuse_unready

KEPT = {".gitattributes"}  # the Hub's own
MARK = {  # by which a push knows its own kind
    "model": ("adapter.json", "set.json", "classifier.json", "classifier.yaml"),
    "space": (space.MARK,),
    "dataset": ("report.json", "dataset.json"),
}
REPORT = ("README.md", "report.json", "report.html", "run.json", "records.jsonl")
SET = ("README.md", "dataset.json", "dataset.html", "run.json", "stages.json")


@dataclass(frozen=True)
class Difference:
    """What a push has to do.

    Attributes:
        name: of the repository, with its owner.
        head: the commit that was looked at; None where there is no repository yet.
        add: files to upload, by their path in the repository.
        delete: paths of the repository that the folder does not hold.
        same: how many files are there already.
    """

    name: str
    head: str | None
    add: dict[str, pathlib.Path]
    delete: list[str]
    same: int


def contents(folder: pathlib.Path) -> tuple[str, dict[str, pathlib.Path]]:
    """What of a folder is pushed: the kind of repository, and its files by path.

    An adapter, a set of them, or a classifier goes to a `model`; a report with its records and
    images to a `dataset`, and so does an image set with its shards; what `write_space` wrote to a
    `space`.

    Raises:
        UserError: the folder holds none of these, or an adapter without a card.
    """
    kind = "model"
    if (folder / space.MARK).is_file():
        kind = "space"
        files = [p for p in folder.rglob("*") if "__pycache__" not in p.parts]
    elif (folder / "adapter.json").is_file():
        find_adapter(str(folder.resolve()))  # refuses one that is not complete
        if not (folder / "README.md").is_file():
            raise UserError(
                f"{folder}: the adapter has no card (README.md); `evenhand verify {folder}` "
                "measures it and writes one"
            )
        files = [p for p in (*folder.iterdir(), *folder.glob(f"{FOLDER}/*")) if p.name[0] != "."]
    elif is_set(folder):
        from evenhand.publish.sets import files_of_set

        files = files_of_set(folder)
    elif any((folder / name).is_file() for name in ("classifier.json", "classifier.yaml")):
        files = [p for p in folder.iterdir() if p.name[0] != "."]
    elif (folder / "dataset.json").is_file():
        kind = "dataset"
        shards = read_json(folder / "dataset.json", what="a set's report").get("shards", [])
        paths = [folder / shard["path"] for shard in shards]
        files = [folder / name for name in SET]
        files += [file for path in paths for file in ([path, *path.glob("*")])]
    elif (folder / "report.json").is_file():
        kind = "dataset"
        files = [*(folder / name for name in REPORT), *folder.glob("images/**/*")]
    else:
        raise UserError(
            f"{folder}: holds no adapter (adapter.json), no classifier (classifier.json, "
            "classifier.yaml), no set of adapters (set.json), no report (report.json) and no "
            "image set (dataset.json)"
        )
    return kind, {p.relative_to(folder).as_posix(): p for p in sorted(files) if p.is_file()}


def compare(folder: pathlib.Path, repo: str, *, force: bool = False) -> Difference:
    """What a push would do; asks the Hub and changes nothing.

    Raises:
        UserError: as `push`.
    """
    kind, files = contents(folder)
    if not force:
        refuse_unready(folder)
    refuse_without_token()
    api = HfApi()
    name = repo if "/" in repo else f"{tried(repo, api.whoami)['name']}/{repo}"
    try:
        return tried(name, lambda: _difference(api, name, kind, files))
    except NotThere:
        return Difference(name, None, files, [], 0)


def push(
    folder: pathlib.Path,
    repo: str,
    *,
    private: bool = False,
    force: bool = False,
    say: Say = lambda _: None,
) -> str:
    """Makes a repository of the Hub hold exactly what a folder holds.

    It can be repeated after any failure: what is there is not uploaded again, and a repository that
    holds everything gets no commit.

    Args:
        folder: of an adapter, a classifier, a report or an image set.
        repo: `name` or `owner/name`; made when it is not there.
        private: of a repository that is made.
        force: push an adapter that is not verified, or whose card was changed.
        say: called with what happens.

    Returns:
        the address of the repository at the commit that holds it.

    Raises:
        UserError: what the folder lacks; a repository that holds something else; or what the Hub
            refuses, in one line.
    """
    kind, files = contents(folder)
    if not force:
        refuse_unready(folder)
    refuse_without_token()
    api = HfApi()
    made = tried(repo, lambda: _made(api, repo, kind, private), say=say)
    name = made.repo_id

    def once() -> str:
        left = _difference(api, name, kind, files)
        if not left.add and not left.delete:
            say(f"{name} holds all {left.same} files")
            return f"{made}/tree/{left.head}"
        say(f"{name}: {len(left.add)} files to upload, {left.same} are there already")
        found = api.create_commit(
            name,
            [
                *(CommitOperationAdd(path, file) for path, file in left.add.items()),
                *(CommitOperationDelete(path) for path in left.delete),
            ],
            commit_message="Pushed by evenhand",
            repo_type=kind,
            parent_commit=left.head,
        )
        return f"{made}/tree/{found.oid}"

    return tried(name, once, say=say)


def _made(api: HfApi, repo: str, kind: str, private: bool) -> Any:
    """The address of a repository, which is made where it is not there."""
    sdk = "gradio" if kind == "space" else None
    return api.create_repo(repo, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk)


def pull(repo: str, folder: pathlib.Path, *, revision: str | None = None, say: Say = print) -> str:
    """Downloads a repository that `push` made; a cut download goes on.

    Args:
        repo: `owner/name`.
        folder: that will hold its files.
        revision: branch, tag or commit; `main` when None.
        say: called with what happens.

    Returns:
        the commit that was downloaded.

    Raises:
        UserError: there is no such repository or revision, or the Hub refuses.
    """
    api = HfApi()
    for kind in ("model", "dataset"):
        try:
            info = tried(
                repo,
                lambda kind=kind: api.repo_info(repo, repo_type=kind, revision=revision),
                say=say,
            )
        except NotThere:
            continue
        tried(
            repo,
            lambda kind=kind, info=info: snapshot_download(
                repo,
                repo_type=kind,
                revision=info.sha,
                local_dir=folder,
                ignore_patterns=sorted(KEPT),
            ),
            say=say,
        )
        return str(info.sha)
    raise NotThere(
        f"{repo}: the Hub has no model and no dataset of this name"
        f"{f' and revision {revision!r}' if revision else ''}, or it is private: {LOGIN}"
    )


def _difference(api: HfApi, name: str, kind: str, files: dict[str, pathlib.Path]) -> Difference:
    head = api.repo_info(name, repo_type=kind).sha
    tree = api.list_repo_tree(name, repo_type=kind, revision=head, recursive=True)
    there: dict[str, Any] = {f.path: f for f in tree if hasattr(f, "blob_id")}
    add = {p: file for p, file in files.items() if p not in there or not _equal(file, there[p])}
    delete = [p for p in there if p not in files and p not in KEPT]
    if delete and not any(mark in there for mark in MARK[kind]):
        raise UserError(
            f"{name} holds something else ({', '.join(delete[:3])}, but no "
            f"{' or '.join(MARK[kind])}), which a push would delete; name another repository"
        )
    return Difference(name, head, add, delete, len(files) - len(add))


def _equal(file: pathlib.Path, there: Any) -> bool:
    """Whether a file is the one in the repository, by its digest there."""
    header = b"blob %d\0" % file.stat().st_size
    with file.open("rb") as stream:  # of a set's shard, gigabytes
        if there.lfs:
            return hashlib.file_digest(stream, "sha256").hexdigest() == there.lfs.sha256
        found = hashlib.file_digest(stream, lambda: hashlib.sha1(header))
        return found.hexdigest() == there.blob_id
