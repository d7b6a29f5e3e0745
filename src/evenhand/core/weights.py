"""The file that holds an adapter's weights, in a folder of the user or in a repository of the Hub.

Here a file is found and its kind told; no tensor is read.
"""

import glob
import os
import pathlib
import re
from collections.abc import Iterable

from evenhand.core.errors import UserError, loading
from evenhand.core.resources import is_path

LORA = "pytorch_lora_weights.safetensors"
SOFT_TOKENS = "soft_tokens.safetensors"
PEFT = "adapter_model.safetensors"
BESIDE = ("adapter.json", "adapter_config.json")  # notes that are read with the weights
ENDINGS = (".safetensors", ".bin", ".pt", ".pth")
OTHERS = {"optimizer", "scheduler", "scaler", "training_args", "random_states_0"}  # of a trainer
REPOSITORY = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(@(?P<revision>refs/[\w-]+/[\w-]+|[^/.][^/]*))?"
    rf"(/(?P<file>.+({'|'.join(map(re.escape, ENDINGS))})))?"
)


def with_file(name: str, file: str | None) -> str:
    """The name of one of several files of a folder or a repository, as `find_weights` reads it.

    Raises:
        UserError: the file lies outside, or the adapter ships: those hold one file.
    """
    if file is None:
        return name
    if ".." in pathlib.PurePath(file).parts or pathlib.PurePath(file).is_absolute():
        raise UserError(f"--weight-name {file!r}: leads out of {name!r}; name a file in it")
    if not is_path(name):
        raise UserError(f"adapter {name!r} ships with one file of weights: leave --weight-name out")
    return f"{name}/{file}"


def find_weights(name: str) -> tuple[pathlib.Path, str | None] | None:
    """The file of weights that a name means, and for one of the Hub `user/repo@commit`.

    Args:
        name: a file; a folder; or `user/repo`, `user/repo@revision`, each with `/FILE` behind it
            where it holds several. What lies here goes before the Hub.

    Returns:
        None where the name can mean neither.

    Raises:
        UserError: there is no such file, or there are several, or the Hub refuses.
    """
    path = pathlib.Path(name)
    if path.is_file():
        return path, None
    if path.is_dir():
        files = [p for depth in ("*", "*/*") for p in path.glob(depth) if p.is_file()]
        return path / choose((p.relative_to(path).as_posix() for p in files), None, name), None
    if path.suffix in ENDINGS and path.parent.is_dir():
        choose((p.name for p in path.parent.iterdir()), path.name, str(path.parent))
    match = REPOSITORY.fullmatch(name)
    return _fetch(match["repo"], match["revision"], match["file"]) if match else None


def choose(files: Iterable[str], wanted: str | None, where: str) -> str:
    """The one of a folder's files that holds the adapter.

    Args:
        files: paths in the folder, with "/".
        wanted: the file that the user names, if one.
        where: the folder, for the error.

    Raises:
        UserError: lists what there is instead.
    """
    paths = [pathlib.PurePosixPath(file) for file in files]
    known = sorted(
        str(p)
        for p in paths
        if p.suffix in ENDINGS and p.name.split(".")[0] not in OTHERS and ".." not in p.parts
    )
    top = [file for file in known if "/" not in file] or known
    best = [file for file in top if file.endswith(ENDINGS[0])] or top
    usual = [file for file in (LORA, SOFT_TOKENS, PEFT) if file in top]
    listed = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    if wanted is not None:
        if wanted not in known:
            raise UserError(f"adapter {where!r}: holds no {wanted!r}; it holds {listed or 'none'}")
        return wanted
    if usual or len(best) == 1:
        return (usual or best)[0]
    if known:
        raise UserError(
            f"adapter {where!r}: holds several files of weights ({listed}); name one of them with "
            f"--weight-name, or behind the name: {where}/{best[0]}"
        )
    raise UserError(
        f"adapter {where!r}: holds neither {LORA} nor {SOFT_TOKENS} nor any other file of weights "
        f"({', '.join(ENDINGS)})"
    )


def _fetch(repo: str, revision: str | None, file: str | None) -> tuple[pathlib.Path, str]:
    """Brings the weights and the notes beside them from the Hub into huggingface_hub's cache."""
    from huggingface_hub import HfApi, constants, snapshot_download

    from evenhand.core.requests import NotThere, tried

    if constants.HF_HUB_OFFLINE:
        folder = _cached(pathlib.Path(constants.HF_HUB_CACHE), repo, revision or "main")
        files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        return folder / choose(files, file, repo), f"{repo}@{folder.name}"
    try:
        info = tried(repo, lambda: HfApi().model_info(repo, revision=revision), tries=2)
    except NotThere as error:
        raise NotThere(f"adapter {error}; nor is there such a folder here") from None
    chosen = choose([entry.rfilename for entry in info.siblings or []], file, repo)
    beside = [str(pathlib.PurePosixPath(chosen).with_name(name)) for name in BESIDE]
    patterns = [glob.escape(path) for path in (chosen, *beside)]
    fetched = tried(
        repo, lambda: snapshot_download(repo, revision=revision, allow_patterns=patterns), tries=2
    )
    folder = pathlib.Path(fetched)
    return folder / chosen, f"{repo}@{folder.name}"


def _cached(cache: pathlib.Path, repo: str, revision: str) -> pathlib.Path:
    """The folder of huggingface_hub's cache that holds what was fetched of a revision.

    Its own look-up refuses repositories of which some files only were fetched, as here.

    Raises:
        UserError: there is none.
    """
    store = cache / f"models--{repo.replace('/', '--')}"
    branch = store / "refs" / revision
    commit = branch.read_text(encoding="utf-8").strip() if branch.is_file() else revision
    folder = store / "snapshots" / commit
    if not folder.is_dir():
        raise UserError(
            f"adapter {repo!r}: there is no such folder, HF_HUB_OFFLINE is set, and "
            "huggingface_hub's cache does not hold this repository and revision"
        )
    return folder


def is_pickled(weights: pathlib.Path) -> bool:
    """Whether a file was written by torch.save; never one that is called .safetensors."""
    with weights.open("rb") as file:
        header = file.read(9)[8:]  # of a safetensors file JSON, behind its length
    return weights.suffix != ENDINGS[0] and header != b"{"


def holds_lora(weights: pathlib.Path) -> bool:
    """Whether a file holds LoRA, or something of its kind; else it is soft tokens.

    The latter are at most two tensors, whose names are words; names of a LoRA's say so. A pickle is
    not opened: names stand in it as they are.

    Raises:
        UserError: it is no file of weights, or damaged, or holds nothing.
    """
    if is_pickled(weights):
        return b"lora" in weights.read_bytes()
    keys = keys_of(weights)
    return len(keys) > 2 or any("lora" in key for key in keys)


def keys_of(weights: pathlib.Path) -> list[str]:
    """Names of a safetensors file's tensors.

    Raises:
        UserError: it is none, is cut short, or holds nothing.
    """
    from safetensors import safe_open

    advice = "It is cut short, or no safetensors file: fetch it anew"
    with loading(str(weights), advice=advice), safe_open(os.fspath(weights), "np") as file:
        keys = list(file.keys())
    if not keys:
        raise UserError(f"{weights}: holds no tensor; fetch it anew")
    return keys
