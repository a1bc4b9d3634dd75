"""What goes in and comes out, as the OpenAPI document tells it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from shitu.serve.settings import NAME

GalleryName = Annotated[str, Field(pattern=NAME, examples=["drinks"])]
Label = Annotated[str, Field(min_length=1, max_length=200, examples=["green tea"])]
BoxIn = Annotated[list[float], Field(min_length=4, max_length=4, examples=[[12, 30, 240, 410]])]
BoxOut = Annotated[list[int], Field(examples=[[12, 30, 240, 410]])]
Id = Annotated[int, Field(ge=0, lt=2**63)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=100_000, examples=[[17, 18]])]


_MATCH = {"label": "green tea", "score": 0.71, "id": 17, "image": "green tea/1.jpg"}
_FOUND = {"bbox": [12, 30, 240, 410], "rec_docs": "green tea", "rec_scores": 0.71, "det_score": 0.9}
_FOUND |= {"matches": [_MATCH]}
_PHOTO = {"image": "shelf.jpg", "width": 900, "height": 675}
_GALLERY = {"name": "drinks", "entries": 160, "labels": 80, "model": "efficientnet_lite0_512", "writable": True}
_GALLERY |= {"managed": True, "default": True}
_ITEM = {"id": 17, "label": "green tea", "image": "green tea/1.jpg", "bbox": [12, 30, 240, 410], "sha256": "9f86d0…"}


def example(**values: Any) -> ConfigDict:
    """What one looks like, for the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [values]})


class In(BaseModel):
    """Unknown keys are a mistake that is told."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(BaseModel):
    code: str = Field(examples=["gallery_not_found"])
    message: str = Field(examples=["there is no gallery 'tea'; there are: drinks. Make it by POST /v1/galleries"])


class Error(BaseModel):
    error: ErrorBody


class Match(BaseModel):
    label: str
    score: float
    id: int
    image: str


class Found(BaseModel):
    bbox: BoxOut
    rec_docs: str = Field(description="The name")
    rec_scores: float
    det_score: float
    matches: list[Match]


class Nameless(BaseModel):
    bbox: BoxOut
    det_score: float
    matches: list[Match]


class Answer(BaseModel):
    answer: str | None = Field(None, description="By which a region is taught, for some minutes; none where unreadable")
    image: str
    width: int
    height: int
    regions: list[Found]
    unnamed: list[Nameless] | None = None
    error: str | None = None


class Answers(BaseModel):
    model_config = example(
        answers=[{"answer": "3q2-7wAAAAAAAAAA", **_PHOTO, "regions": [{**_FOUND, "matches": [_MATCH]}]}]
    )

    answers: list[Answer]


class Detected(BaseModel):
    bbox: BoxOut
    det_score: float


class Objects(BaseModel):
    image: str
    width: int
    height: int
    regions: list[Detected]
    error: str | None = None


class AllObjects(BaseModel):
    model_config = example(answers=[{**_PHOTO, "regions": [{"bbox": [12, 30, 240, 410], "det_score": 0.9}]}])

    answers: list[Objects]


class Vector(BaseModel):
    bbox: BoxOut
    vector: list[float]


class Embedded(BaseModel):
    image: str
    width: int
    height: int
    vectors: list[Vector] = []
    error: str | None = None


class AllEmbedded(BaseModel):
    model_config = example(answers=[{**_PHOTO, "vectors": [{"bbox": [0, 0, 900, 675], "vector": [0.01, -0.04]}]}])

    answers: list[Embedded]


class Base64Image(In):
    """The file of a picture in Base64, or as a data: address."""

    base64: str = Field(examples=["/9j/4AAQSkZJRgABAQ..."])
    name: str | None = Field(None, max_length=255)


class UrlImage(In):
    """A picture behind an address of a host that the service was allowed to fetch from."""

    url: str = Field(max_length=4096, examples=["https://shop.example/tea.jpg"])
    name: str | None = Field(None, max_length=255)


ImageIn = Base64Image | UrlImage


class ImagesIn(In):
    images: list[ImageIn] = Field(min_length=1)


class SearchIn(In):
    vectors: list[list[float]] = Field(min_length=1, max_length=1000, examples=[[[0.01, -0.04]]])
    k: int = Field(5, ge=1, le=1000)


class SearchOut(BaseModel):
    model_config = example(results=[[_MATCH]])

    results: list[list[Match]]


class GalleryIn(In):
    name: GalleryName


class GalleryOut(BaseModel):
    model_config = example(**_GALLERY)

    name: str
    entries: int
    labels: int
    model: str | None
    writable: bool
    managed: bool = Field(description="Lies in the service's own folder: may be renamed and deleted")
    default: bool = Field(description="Meant by who names none")
    error: str | None = None


class Galleries(BaseModel):
    model_config = example(galleries=[_GALLERY])

    galleries: list[GalleryOut]


class GalleryInfo(GalleryOut):
    model_config = example(**_GALLERY, info={"dimension": 512, "index_method": "HNSW32"}, settings={"score_thres": 0.4})

    info: dict[str, Any] = Field(description="As `shitu gallery info`, without its path")
    settings: dict[str, Any] = Field(description="What a request may set otherwise")


class ItemOut(BaseModel):
    id: int
    label: str
    image: str
    bbox: BoxOut | None
    sha256: str


class Items(BaseModel):
    model_config = example(items=[_ITEM], next=17)

    items: list[ItemOut]
    next: int | None = Field(description="`after` of the next page; null at the end")


class RegionIn(In):
    """A region of an answer, or a box in its picture, becomes an entry."""

    label: Label
    answer: str = Field(max_length=100, examples=["3q2-7wAAAAAAAAAA"])
    region: int | None = Field(None, ge=0, description="Its place in `regions`, then `unnamed`, of the answer")
    bbox: BoxIn | None = None


class ImagesWithLabel(ImagesIn):
    label: Label
    bbox: BoxIn | None = None


class Teaching(RootModel[RegionIn | ImagesWithLabel]):
    """Either of the two."""


class Taught(BaseModel):
    model_config = example(ids=[161], already_there=0, relabelled=0, entries=162)

    ids: list[int]
    already_there: int
    relabelled: int = 0
    entries: int


class Relabel(In):
    ids: Ids
    label: Label


class Remove(In):
    ids: Ids


class Changed(BaseModel):
    model_config = example(ids=[162, 163], entries=162)

    ids: list[int] = Field(description="The new ids, in the order of the old")
    entries: int


class Removed(BaseModel):
    model_config = example(removed=2, entries=160)

    removed: int
    entries: int


class LabelOut(BaseModel):
    label: str
    count: int
    first: int
    newest: int


class Labels(BaseModel):
    model_config = example(
        labels=[{"label": "green tea", "count": 2, "first": 17, "newest": 18}], total=80, next="green tea"
    )

    labels: list[LabelOut]
    total: int
    next: str | None = None


class Rename(In):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: Label = Field(alias="from")
    to: Label
    merge: bool = False


class Undone(BaseModel):
    model_config = example(entries=160)

    entries: int


class Status(BaseModel):
    model_config = example(status="ok")

    status: Literal["ok", "stopping"] = "ok"


class Version(BaseModel):
    version: str
    api: str = "v1"
