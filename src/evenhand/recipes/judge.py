"""The schema of attribute classifiers, `eval/judges/*.yaml`."""

import pathlib
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from evenhand.core.attributes import Attribute, attributes_of
from evenhand.core.errors import UserError
from evenhand.core.files import digest_of
from evenhand.core.resources import find_yaml, is_path, locate
from evenhand.core.schema import Count, Share, Strict, check, read_yaml


class FaceSearch(Strict):
    """Face detection in front of a classifier: the largest face, cut out square.

    An image without one is not seen.

    Attributes:
        margin: added to the longer side of the face's box, as a share of it; below 0 the crop is
            narrower than the box. A network perceives best what is cut out as the faces were that
            it was trained on.
        confidence: least of the detector's.
    """

    margin: float = Field(default=0.5, ge=-0.5, le=4)
    confidence: Share = 0.9


class Faces(FaceSearch):
    """`FaceSearch`, and the size of what is cut out.

    Attributes:
        size: of the crop, pixels.
    """

    size: Count = 224


class Network(Strict):
    """An image classifier of transformers for one attribute.

    Attributes:
        path: folder or Hub name.
        revision: of a Hub name.
        labels: `{its label: our class}`; labels left out are dropped, several may mean one class.
    """

    path: str
    revision: str | None = None
    labels: dict[str, str]


OF_ALL = ("kind", "attributes", "licence")  # settings of every judge
OF_KIND = {
    "emoji": ("path", "concept", "seen"),
    "clip": ("model", "weights", "templates", "descriptions", "faces", "mirror"),
    "hub": ("networks", "faces", "mirror"),
    "vlm": ("model", "questions"),
}


class JudgeConfig(Strict):
    """An attribute classifier: `eval/judges/*.yaml`.

    Attributes:
        kind: `emoji` (the embedded world's), `clip` (zero-shot), `hub` (image classifiers of
            transformers), `vlm` (a vision-language model of transformers that is asked; it judges
            only, no gradient passes).
        attributes: what it perceives, by name.
        licence: of its weights, for the cards of adapters; None where it is not known.
        path: `emoji`: folder or `package:...`.
        concept: `emoji`: the attribute that names a prompt's concept, for prompt fidelity.
        seen: `emoji`: least probability of the concept's best class at which an image counts as
            seen.
        model: `clip` and `vlm`: Hub name or folder; with `weights`, an architecture of open_clip;
            `local-dir:FOLDER`, all that open_clip needs.
        weights: `clip`: of open_clip, tag or file.
        templates: `clip`: sentences with `{}` over which a description's embedding is averaged.
        descriptions: `clip`: `{attribute: {class: [description, ...]}}`.
        networks: `hub`: by attribute.
        questions: `vlm`: by attribute; the classes and "unclear" follow as options.
        faces: face detection in front; the whole image is judged without it.
        mirror: `clip` and `hub`: the mean of the probabilities of an image and of its mirror image.
    """

    kind: Literal["emoji", "clip", "hub", "vlm"]
    attributes: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    licence: str | None = None
    path: str = ""
    concept: str | None = None
    seen: Share = 0.0
    model: str = "openai/clip-vit-large-patch14"
    weights: str | None = None
    templates: Annotated[list[str], Field(min_length=1)] = ["{}"]
    descriptions: dict[str, dict[str, Annotated[list[str], Field(min_length=1)]]] = {}
    networks: dict[str, Network] = {}
    questions: dict[str, str] = {}
    faces: Faces | None = None
    mirror: bool = False
    _name: str = PrivateAttr("")

    @property
    def name(self) -> str:
        """What it was found by: a name that ships, its YAML, or its folder."""
        return self._name

    def digest(self, weights: dict[str, list[str]]) -> str:
        """Twelve hex digits of all that decides its answers: weights, classes and settings.

        The place and the name of its files are not among them, nor what only reports use.

        Args:
            weights: digests of its networks, by what is judged with them.
        """
        decides = {"kind", "templates", "descriptions", "questions", "faces", "mirror"}
        return digest_of(
            {
                **self.model_dump(mode="json", include=decides),
                "classes": {name: attribute.classes for name, attribute in self.known.items()},
                "labels": {name: network.labels for name, network in self.networks.items()},
                "weights": weights,
            }
        )

    @property
    def known(self) -> dict[str, Attribute]:
        """The attributes by name."""
        return attributes_of(self.attributes)

    def beside(self, file: str) -> pathlib.Path | None:
        """A file that lies beside its weights, if it does."""
        folders = [self.path, *(n.path for n in self.networks.values())]
        found = [pathlib.Path(folder) / file for folder in folders if folder]
        return next((path for path in found if path.is_file()), None)

    @model_validator(mode="after")
    def _check(self) -> "JudgeConfig":
        known = attributes_of(self.attributes)
        for name, field in type(self).model_fields.items():
            if name in OF_ALL or name in OF_KIND[self.kind]:
                continue
            if getattr(self, name) != field.default:
                raise ValueError(
                    f"{name}: a judge of kind {self.kind} takes none; it takes "
                    f"{', '.join(OF_KIND[self.kind])}"
                )
        for template in self.templates:
            if "{}" not in template or set("{}") & set(template.replace("{}", "")):
                raise ValueError(f"templates: {template!r} has no {{}}, or other braces beside it")
        if self.kind == "emoji":
            if not self.path:
                raise ValueError("path: names no folder of a network")
            return self
        if self.kind == "vlm":
            if self.questions.keys() != known.keys():
                raise ValueError(
                    f"questions are of {sorted(self.questions)}, attributes of {sorted(known)}"
                )
            return self
        given = (
            self.descriptions
            if self.kind == "clip"
            else {a: set(n.labels.values()) for a, n in self.networks.items()}
        )
        place = "descriptions" if self.kind == "clip" else "networks"
        if given.keys() != known.keys():
            raise ValueError(f"{place} are of {sorted(given)}, attributes of {sorted(known)}")
        for name, attribute in known.items():
            if set(given[name]) != set(attribute.classes):
                raise ValueError(
                    f"{place}.{name}: of {sorted(given[name])}, the classes are {attribute.classes}"
                )
        return self


def find_judge(name: str) -> JudgeConfig:
    """A judge by name, by the path of its YAML, or by the folder with its `classifier.yaml`.

    The one place where names become files: the paths that it returns are absolute, or Hub names.
    A path in a YAML is taken from the YAML's folder, else from the working directory.

    Raises:
        UserError: unknown name, or every problem of the file.
    """
    folder = pathlib.Path(name)
    if is_path(name) and folder.is_dir():
        path = folder / "classifier.yaml"
        if not path.is_file():
            raise UserError(f"{name}: is no judge's folder: it holds no classifier.yaml")
    else:
        path = find_yaml("eval/judges", name)
    config = check(JudgeConfig, read_yaml(path), where=path.name)

    def found(place: str) -> str:
        return _found(place, path.parent)

    networks = {a: n.model_copy(update={"path": found(n.path)}) for a, n in config.networks.items()}
    config = config.model_copy(
        update={
            "path": found(config.path),
            "model": config.model if config.weights else found(config.model),
            "weights": found(config.weights) if config.weights else None,
            "networks": networks,
        }
    )
    config._name = name
    return config


def _found(place: str, beside: pathlib.Path) -> str:
    """The absolute path of a file or folder that a YAML names; anything else as it is."""
    scheme = "local-dir:" if place.startswith("local-dir:") else ""
    name = locate(place.removeprefix(scheme))
    there = next((p for p in (beside / name, pathlib.Path(name)) if name and p.exists()), None)
    return f"{scheme}{there.resolve()}" if there else place
