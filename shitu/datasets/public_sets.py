"""The 17 public sets of PP-ShiTuV2's extractor: what they are, how they are read, and how large they should be.

Counts of the train splits, homepages: the table in PaddleClas, docs/zh_CN/training/PP-ShiTu/feature_extraction.md
(develop), section 4; three of its homepages belong to other sets, see docs/datasets. Other counts: the sets' papers.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shitu.datasets.layouts.annotations import read_cars, read_inaturalist
from shitu.datasets.layouts.folders import read_class_folders, read_flowers, read_image_folder
from shitu.datasets.layouts.tables import (
    read_compcars,
    read_fashion,
    read_gldv2,
    read_inshop,
    read_products10k,
    read_sop,
    read_veri_wild,
)
from shitu.datasets.rows import Row
from shitu.datasets.write_list import Third
from shitu.errors import UsageError

Reader = Callable[[Path], Iterator[Row]]
ColumnReader = Callable[[Path, str], Iterator[Row]]


@dataclass(frozen=True)
class Split:
    """One list of a set. `third` is its third column; `counts` are the published (images, classes), if any."""

    read: Reader
    counts: tuple[int, int] | None = None
    third: Third = "none"
    numbered_with: tuple[str, ...] = ()  # the splits that share one numbering of classes


@dataclass(frozen=True)
class PublicSet:
    name: str
    title: str
    homepage: str
    splits: dict[str, Split]
    read_column: ColumnReader | None = None  # where the user may choose the class's column

    @property
    def counts(self) -> tuple[int, int]:
        """(images, classes) of PaddleClas's table."""
        counts = self.splits["train"].counts
        assert counts
        return counts


def _classes(*candidates: str, depth: int = 1) -> Reader:
    return lambda root: read_class_folders(root, *candidates, depth=depth)


def _images(*candidates: str) -> Reader:
    return lambda root: read_image_folder(root, *candidates)


def _veri_wild() -> dict[str, Split]:
    splits = {"train": Split(partial(read_veri_wild, name="train_list"), (277_797, 30_671))}
    for ending, size in (("", 10_000), ("-3000", 3_000), ("-5000", 5_000)):
        together = (f"query{ending}", f"gallery{ending}")
        for split, file, counts in zip(
            together, (f"test_{size}_query", f"test_{size}"), ((size, size), None), strict=True
        ):
            splits[split] = Split(partial(read_veri_wild, name=file), counts, "camera", together)
    return splits


def _inshop() -> dict[str, Split]:
    together = ("query", "gallery")
    return {
        "train": Split(partial(read_inshop, split="train"), (25_882, 3_997)),
        "query": Split(partial(read_inshop, split="query"), (14_218, 3_985), numbered_with=together),
        "gallery": Split(partial(read_inshop, split="gallery"), (12_612, 3_985), numbered_with=together),
    }


def _set(name: str, title: str, homepage: str, read_column: ColumnReader | None = None, **splits: Split) -> PublicSet:
    return PublicSet(name, title, homepage, splits, read_column)


PUBLIC_SETS = (
    _set(
        "aliproduct",
        "Aliproduct",
        "https://retailvisionworkshop.github.io/recognition_challenge_2020/",
        train=Split(_classes("train"), (2_498_771, 50_030)),
        val=Split(_classes("val"), third="serial"),
    ),
    _set(
        "gldv2",
        "GLDv2",
        "https://github.com/cvdfoundation/google-landmark",
        train=Split(read_gldv2, (1_580_470, 81_313)),
    ),
    PublicSet("veri-wild", "VeRI-Wild", "https://github.com/PKU-IMRE/VERI-Wild", _veri_wild()),
    _set(
        "logodet-3k",
        "LogoDet-3K",
        "https://github.com/Wangjing1551/LogoDet-3K-Dataset",
        train=Split(_classes("LogoDet-3K", ".", depth=2), (155_427, 3_000)),
    ),
    _set(
        "sop",
        "SOP",
        "https://cvgl.stanford.edu/projects/lifted_struct/",
        train=Split(partial(read_sop, split="train"), (59_551, 11_318)),
        test=Split(partial(read_sop, split="test"), (60_502, 11_316), "serial"),
    ),
    PublicSet("inshop", "Inshop", "http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html", _inshop()),
    _set(
        "bird400",
        "bird400",
        "https://www.kaggle.com/datasets/gpiosenka/100-bird-species",
        train=Split(_classes("train"), (58_388, 400)),
        val=Split(_classes("valid"), third="serial"),
        test=Split(_classes("test"), third="serial"),
    ),
    _set(
        "104flowers",
        "104flowers",
        "https://www.kaggle.com/c/flower-classification-with-tpus",
        train=Split(partial(read_flowers, split="train"), (12_753, 104)),
        val=Split(partial(read_flowers, split="val"), third="serial"),
    ),
    _set(
        "cars",
        "Cars",
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        train=Split(partial(read_cars, split="train"), (58_315, 112)),
        test=Split(partial(read_cars, split="test"), third="serial"),
    ),
    _set(
        "fashion-product-images",
        "Fashion Product Images",
        "https://www.kaggle.com/datasets/paramaggarwal/fashion-product-images-dataset",
        train=Split(read_fashion, (44_441, 47)),
        read_column=read_fashion,
    ),
    _set(
        "flowerrecognition",
        "flowerrecognition",
        "https://www.kaggle.com/datasets/aymenktari/flowerrecognition",
        train=Split(_images("train"), (24_123, 59)),
    ),
    _set(
        "food-101",
        "food-101",
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        train=Split(_classes("images"), (101_000, 101)),
    ),
    _set(
        "fruits-262",
        "fruits-262",
        "https://www.kaggle.com/datasets/aelchimminut/fruits262",
        train=Split(_images("Fruit-262"), (225_639, 262)),
    ),
    _set(
        "inaturalist",
        "iNaturalist",
        "https://github.com/visipedia/inat_comp/tree/master/2019",
        train=Split(partial(read_inaturalist, split="train"), (265_213, 1_010)),
        val=Split(partial(read_inaturalist, split="val"), (3_030, 1_010), "serial"),
    ),
    _set(
        "indoor-scenes",
        "indoor-scenes",
        "https://www.kaggle.com/datasets/itsahmad/indoor-scenes-cvpr-2019",
        train=Split(_images("indoorCVPR_09/Images", "Images"), (15_588, 67)),
    ),
    _set(
        "products-10k",
        "Products-10k",
        "https://products-10k.github.io/",
        train=Split(partial(read_products10k, split="train"), (141_931, 9_691)),
        test=Split(partial(read_products10k, split="test"), third="serial"),
    ),
    _set(
        "compcars",
        "CompCars",
        "http://mmlab.ie.cuhk.edu.hk/datasets/comp_cars/",
        train=Split(partial(read_compcars, split="train"), (16_016, 431)),
        test=Split(partial(read_compcars, split="test"), (14_939, 431), "serial"),
    ),
)


def public_set(name: str) -> PublicSet:
    """The set of that name, however it is written: `Products_10K` is `products-10k`. Raises UsageError."""
    sets = {known.name: known for known in PUBLIC_SETS}
    plain = "-".join(name.lower().replace("_", " ").replace("-", " ").split())
    if plain not in sets:
        near = difflib.get_close_matches(plain, sets, n=1)
        hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(sets)
        raise UsageError(f"no public set {name!r}; {hint} (`shitu dataset convert --list`)")
    return sets[plain]
