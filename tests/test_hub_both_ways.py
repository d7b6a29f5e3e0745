"""Push and pull by LFS and by Xet, with faults in both, by the real clients.

The Xet client stores into a folder here, because the test server tells it a `local:///...` address.
No document of the Xet client speaks of that address: where a later one refuses it, only the tests
whose names end in `[xet]` fail, and those of LFS say the rest.
"""

import itertools
import shutil

import pytest
from hub_client import Client
from hub_server import Hub

from evenhand.core.resources import ROOT

COMMIT, HEAD, GET = ("POST", "/commit/"), ("HEAD", "/resolve/"), ("GET", "/resolve/")
UPLOAD = {"xet": ("GET", "/xet-write-token/"), "lfs": ("PUT", "/lfs/")}
DOWNLOAD = {"xet": ("GET", "/xet-read-token/"), "lfs": GET}
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return shutil.copytree(ROOT / "adapters" / "emoji-gender", tmp_path_factory.mktemp("a") / "a")


@pytest.fixture(scope="module", params=["lfs", "xet"])
def way(request, adapter, tmp_path_factory):
    """How files are sent, the server, and the client."""
    folder = tmp_path_factory.mktemp(request.param)
    xet = request.param == "xet"
    with Hub(cas=f"local://{folder}/store" if xet else None) as hub:
        if xet:
            hub.expects(adapter)
        client = Client(hub, folder / "home", xet=xet)
        yield request.param, hub, client
        client.close()


@pytest.fixture
def name(way):
    """Of a repository that no other test uses; no fault is left over."""
    way[1].faults = {}
    return f"tester/r{next(NUMBERS)}"


def local(folder):
    files = (
        p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0][0] != "."
    )
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def held(hub, name):
    files = dict(hub.repos["model", name].commits[-1][1])
    files.pop(".gitattributes")
    return files


def test_a_push_is_one_commit_and_a_pull_gives_the_same_bytes(way, name, adapter, tmp_path):
    kind, hub, client = way
    code, out, err = client("push", "--force", adapter, name)
    assert code == 0, err
    repo = hub.repos["model", name]
    assert held(hub, name) == local(adapter) and len(repo.commits) == 2  # one is the Hub's own
    assert client("push", "--force", adapter, name)[1].startswith(
        f"{name} holds all {len(local(adapter))} files"
    )
    assert len(repo.commits) == 2
    assert client("pull", name, "--out", tmp_path / "there")[0] == 0
    assert local(tmp_path / "there") == local(adapter)
    asked = {path.split("/")[-2] for _, path, _ in hub.log if "/xet-" in path}
    assert asked == ({"xet-write-token", "xet-read-token"} if kind == "xet" else set())
    assert kind == "lfs" or not hub.objects  # no file went by LFS


@pytest.mark.parametrize("faults", [[500, "drop"], [429]], ids=str)
def test_after_faults_while_files_are_sent_the_repository_equals_the_folder(
    way, name, adapter, tmp_path, faults
):
    kind, hub, client = way
    if kind == "lfs":
        hub.objects.clear()  # else nothing would be sent again
    hub.faults = {UPLOAD[kind]: list(faults)}
    code, _, err = client("push", "--force", adapter, name)
    assert code == 0, err
    assert hub.faults == {UPLOAD[kind]: []}, "a fault that no request met"
    assert held(hub, name) == local(adapter) and len(hub.repos["model", name].commits) == 2
    assert client("pull", name, "--out", tmp_path / "there")[0] == 0
    assert local(tmp_path / "there") == local(adapter)


@pytest.mark.parametrize("faults", [["lost"], [503, 409]], ids=str)
def test_a_commit_whose_answer_is_lost_or_refused_is_made_once(way, name, adapter, faults):
    _, hub, client = way
    hub.faults = {COMMIT: list(faults)}
    code, _, err = client("push", "--force", adapter, name)
    assert code == 0, err
    assert hub.faults == {COMMIT: []}
    assert held(hub, name) == local(adapter) and len(hub.repos["model", name].commits) == 2


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "does not know the token: `hf auth login`"), (403, "the token may not write here")],
)
def test_what_is_refused_is_said_at_once_and_the_same_command_goes_on(
    way, name, adapter, status, message
):
    kind, hub, client = way
    hub.faults = {UPLOAD["xet"] if kind == "xet" else COMMIT: [status]}
    code, _, err = client("push", "--force", adapter, name)
    assert code == 2 and message in err and len(err.splitlines()) == 1
    assert not any(hub.faults.values())  # it was not tried again
    assert client("push", "--force", adapter, name)[0] == 0
    assert held(hub, name) == local(adapter) and len(hub.repos["model", name].commits) == 2


def test_a_hub_without_xet_is_said_with_what_to_do(way, name, adapter, tmp_path):
    kind, hub, client = way
    hub.faults = {UPLOAD["xet"]: [404], DOWNLOAD["xet"]: [404]}
    code, _, err = client("push", "--force", adapter, name)
    if kind == "lfs":  # nothing is asked of Xet
        assert code == 0 and hub.faults == {UPLOAD["xet"]: [404], DOWNLOAD["xet"]: [404]}
        return
    wanted = f"evenhand: {name}: this Hub has no Xet storage; set HF_HUB_DISABLE_XET=1\n"
    assert (code, err) == (2, wanted)
    assert client("push", "--force", adapter, name)[0] == 0
    assert client("pull", name, "--out", tmp_path / "there") == (2, "", wanted)


def test_a_pull_goes_on_after_faults(way, name, adapter, tmp_path):
    kind, hub, client = way
    assert client("push", "--force", adapter, name)[0] == 0
    hub.faults = {DOWNLOAD[kind]: [500, "drop"], HEAD: [500], ("GET", "/tree/"): [429]}
    code, _, err = client("pull", name, "--out", tmp_path / "there")
    assert code == 0, err
    assert not any(hub.faults.values()) and local(tmp_path / "there") == local(adapter)


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "does not know the token"), (403, "the token may not read this")],
)
def test_a_pull_that_is_refused_is_one_line(way, name, adapter, tmp_path, status, message):
    kind, hub, client = way
    assert client("push", "--force", adapter, name)[0] == 0
    hub.faults = {DOWNLOAD["xet"] if kind == "xet" else HEAD: [status] * 9}
    code, _, err = client("pull", name, "--out", tmp_path / "there")
    assert code == 2 and message in err and len(err.splitlines()) == 1


def test_a_full_disk_is_one_line_and_the_same_pull_goes_on(way, name, adapter, tmp_path):
    _, _, client = way
    assert client("push", "--force", adapter, name)[0] == 0
    code, _, err = client("pull", name, "--out", tmp_path / "there", largest=100_000)
    assert code == 1 and len(err.splitlines()) == 1
    assert err.endswith("File too large; free some space, the same command goes on from there\n")
    assert client("pull", name, "--out", tmp_path / "there")[0] == 0
    assert local(tmp_path / "there") == local(adapter)


def test_the_token_goes_to_the_hub_alone(way, name, adapter):
    _, hub, client = way
    hub.log.clear()
    assert client("push", "--force", adapter, name)[0] == 0
    sent = {path: token for _, path, token in hub.log}
    assert sent["/api/repos/create"] and not any(t for p, t in sent.items() if p[:5] == "/lfs/")
    # what Xet keeps, and every file of the client's home, is searched for it by `Client`
