"""`evenhand push` and `evenhand pull`: adapters and reports on the Hub."""

import tempfile
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Repo = Annotated[str, Argument(help="Repository on the Hub: NAME of yours, or OWNER/NAME.")]


def push(
    what: Annotated[
        Path, Argument(help="Folder of an adapter, a classifier, a report or an image set.")
    ],
    repo: Repo,
    private: Annotated[
        bool, Option("--private", help="Make the repository private, if it is made.")
    ] = False,
    force: Annotated[
        bool,
        Option("--force", help="Push an adapter that is not verified, or whose card was changed."),
    ] = False,
    as_space: Annotated[
        bool,
        Option(
            "--space",
            help="Push the adapter with the app around it, as a Space that anybody may try.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say what would be uploaded, and upload nothing.")
    ] = False,
) -> None:
    """Upload an adapter, a classifier, a report or an image set to the Hub, in one commit.

    It can be repeated after any failure: what is there is not uploaded again. An adapter that is
    not verified (`evenhand verify`), or in whose card a number was typed over, is refused. It and
    a classifier go to a model repository; a report with its records and images, and an image set
    with its shards, go to a dataset repository. With --space an adapter goes to a Space, with the
    app and all that it needs around it: anybody may try it there. The token is the one that
    `hf auth login` keeps, or HF_TOKEN. **A report embeds the images it shows**: look at it before
    you share it.

    Examples:
        evenhand push runs/train/dft/gender-sd15/adapter my-adapter --dry-run

        evenhand push runs/measure/sd15-occupations my-organisation/sd15-occupations --private

        evenhand push runs/generate/emoji-balanced my-organisation/emoji-balanced

        evenhand push runs/classify/celeba-ffr/ffr/seed-0/classifier my-organisation/smiles

        evenhand push runs/train/dft/gender-sd15/adapter my-app --space
    """
    if not as_space:
        _push(what, repo, private=private, force=force, dry_run=dry_run)
        return
    from evenhand.publish.ready import refuse_unready
    from evenhand.publish.space import write_space

    if not force:
        refuse_unready(what)
    with tempfile.TemporaryDirectory() as place:
        write_space(what, Path(place))
        _push(Path(place), repo, private=private, force=force, dry_run=dry_run)


def _push(what: Path, repo: str, *, private: bool, force: bool, dry_run: bool) -> None:
    """Pushes a folder, or says what a push would do."""
    from evenhand.cli.show import console
    from evenhand.publish import hub

    if not dry_run:
        address = hub.push(
            what, repo, private=private, force=force, say=lambda line: console.print(line)
        )
        print(address)
        return
    left = hub.compare(what, repo, force=force)
    for path, file in left.add.items():
        print(f"upload  {path}  ({file.stat().st_size:,} bytes)")
    for path in left.delete:
        print(f"delete  {path}")
    made = "" if left.head else ", which would be made"
    print(f"{left.name}{made}: {len(left.add)} to upload, {left.same} there already")


def pull(
    repo: Annotated[
        str, Argument(help="Repository on the Hub: OWNER/NAME, or OWNER/NAME@REVISION.")
    ],
    out: Annotated[
        Path | None, Option(help="Folder for its files; the repository's name when not given.")
    ] = None,
) -> None:
    """Download an adapter, a classifier, a report or an image set that `evenhand push` uploaded.

    A cut download goes on.

    Examples:
        evenhand pull my-organisation/my-adapter

        evenhand measure sd15 --prompts occupations --split test --adapter ./my-adapter
    """
    from evenhand.publish import hub

    name, _, revision = repo.partition("@")
    folder = out or Path(name.split("/")[-1])
    commit = hub.pull(name, folder, revision=revision or None)
    print(f"{folder}: {name} at commit {commit}")
