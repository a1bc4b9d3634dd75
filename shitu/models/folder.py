"""Model folders: found by path or name, and opened into a record."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from shitu import resources
from shitu.digest import sha256_of
from shitu.errors import ModelError
from shitu.models.model_yaml import DETECTION, MODEL_YAML, RECOGNITION, ModelCard, Program, read_model_yaml

AGREES = 0.99  # the least cosine to fp32 with which a program of another precision searches the same gallery
AGREES_BOXES = 0.95  # the least share of boxes with a twin, with which a detector's int8 is taken for its fp32
_KEYS = {DETECTION: "Global.det_inference_model_dir", RECOGNITION: "Global.rec_inference_model_dir"}


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk: where it is, and what its model.yaml says."""

    path: Path
    card: ModelCard

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def programs(self) -> tuple[Program, ...]:
        """The card's, with whole paths."""
        return tuple(
            replace(each, program=self.path / each.program, params=each.params and self.path / each.params)
            for each in self.card.programs
        )

    def find(self, engine: str, precision: str = "fp32", *, raw: bool = False) -> Program | None:
        """The program for an engine; `raw`: the one of a detector that ends before its NMS."""
        wanted = (engine, precision, raw)
        return next((each for each in self.programs if (each.engine, each.precision, each.raw) == wanted), None)

    @property
    def program(self) -> Path:
        """The first program's file."""
        return self.programs[0].program

    @property
    def params(self) -> Path:
        """The file with the first program's weights."""
        return self.programs[0].files[-1]

    def fingerprint(self, program: Program | None = None) -> str:
        """SHA-256 over a program, by default the first, and then its params."""
        return sha256_of(*(program or self.programs[0]).files)

    def vectors(self, program: Program, preprocessing: str) -> str:
        """What names the vectors that `program` makes: those of one name may stand in one gallery.

        The card's word (`vectors`) where it holds: the files are those on record, and a program of another precision
        was measured to agree. Else the bytes of the first program, where this one agrees with it, or of its own, and
        what the images go through.
        """
        agrees = program.precision == "fp32" or (program.cosine or 0.0) >= AGREES
        agrees = agrees and all(self._on_record(path) for path in program.files)
        if self.card.vectors and agrees:
            return self.card.vectors
        return f"{self.fingerprint(None if agrees else program)} {preprocessing}"

    def apart(self, program: Program) -> str:
        """Why the vectors of `program` are not those that the card names; "" where they are, or it names none."""
        if not self.card.vectors:
            return ""
        if program.precision != "fp32" and (program.cosine or 0.0) < AGREES:
            measured = "was not measured" if program.cosine is None else f"is {program.cosine}, below {AGREES}"
            return f"the smallest cosine between vectors in {program.precision} and in fp32 {measured}"
        return "" if all(map(self._on_record, program.files)) else f"{program.program.name} is not the file on record"

    def _on_record(self, path: Path) -> bool:
        record = self.card.files.get(path.relative_to(self.path).as_posix())
        return record is not None and record.sha256 == sha256_of(path)


def enough(agreement: float, task: str | None) -> bool:
    """Whether what was measured lets a program stand for the fp32 one: a cosine, of a detector a share of boxes."""
    return agreement >= (AGREES_BOXES if task == DETECTION else AGREES)


def downloads_home() -> Path:
    """Where downloaded models live: $SHITU_HOME/models, or the cache folder of the user."""
    if home := os.environ.get("SHITU_HOME"):
        return Path(home).expanduser() / "models"
    return resources.user_cache() / "models"


def model_homes() -> tuple[Path, Path]:
    """The two places where a name is looked for, in this order: bundled, downloaded."""
    return resources.bundled("models"), downloads_home()


def model_folders(home: Path) -> list[Path]:
    """The folders of models in a home; hidden ones are downloads under way."""
    if not home.is_dir():
        return []
    return sorted(path for path in home.iterdir() if path.is_dir() and not path.name.startswith("."))


def open_model(name_or_path: str, *, task: str) -> ModelFolder:
    """Find a model and check that it fits `task`, "detection" or "recognition".

    Taken is the first of: the folder at that path; the bundled model of that name; the downloaded model of that name.
    The name is the last component of the path, so that `./models/NAME_infer/` of a PaddleClas YAML is found too.
    """
    folder = open_folder(find_folder(name_or_path, task))
    evident = folder.card.task
    if evident not in (None, task):
        raise ModelError(
            f"{folder.path} is a {evident} model; {_KEYS[task]} wants a {task} model; "
            f"you may have swapped the two ({_KEYS[DETECTION]} and {_KEYS[RECOGNITION]})"
        )
    return folder


def find_folder(name_or_path: str, task: str | None = None) -> Path:
    """The folder that a path or a name stands for; `task` only makes the error more telling."""
    text = str(name_or_path).strip()
    if not text:
        where = f"{_KEYS[task]} is" if task else "the name of a model is"
        raise ModelError(f"{where} empty; wanted the folder or the name of a model: see `shitu models list`")
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return path
        if path.exists():
            raise ModelError(f"{path} is a file; wanted the folder of a model: did you mean {path.parent}?")
        for home in model_homes():
            # A broken folder is found too: the error about it says more than "not found".
            if (home / path.name).is_dir():
                return home / path.name
    except (OSError, RuntimeError) as error:  # a name too long, a folder closed to us, ~nobody
        raise ModelError(f"{text[:200]}: no usable path of a model: {error}; see `shitu models list`") from error
    from shitu.models.missing import not_found

    here = [[folder.name for folder in model_folders(home)] for home in model_homes()]
    raise ModelError(not_found(path, task, *model_homes(), here))


def open_folder(path: Path) -> ModelFolder:
    """The model in an existing folder, with a model.yaml or as Paddle's exporters leave it."""
    if not path.is_dir():
        raise ModelError(f"{path} is not a folder; wanted the folder of a model")
    try:
        if not (path / MODEL_YAML).is_file():
            from shitu.models.exported import inferred_card

            return ModelFolder(path, inferred_card(path))
        card = read_model_yaml(path / MODEL_YAML)
        files = {file.as_posix() for each in card.programs for file in each.files}
        if missing := sorted(name for name in files if not (path / name).is_file()):
            raise ModelError(f"{path}: {' and '.join(missing)} is missing, which its {MODEL_YAML} names; copy all")
        return ModelFolder(path, card)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
