"""The DataLoader section of a training configuration: list files, augmentation, samplers, workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from shitu.config.keys import Choice, FilePath, Flag, Maybe, Number, Operators, Several, Text, Whole
from shitu.config.values import BadValueError, Section, within
from shitu.config.variants import ByName


@dataclass(frozen=True)
class Dataset(ByName):
    """A list file, `path label` or `path label unique_id`, with the images below image_root."""

    no_effect = frozenset({"backend"})

    image_root: FilePath = "."
    cls_label_path: Maybe[FilePath] = None
    delimiter: Text = " "  # a TAB where the lines hold one
    relabel: Flag = False  # number the labels 0, 1, 2 ... in ascending order of their values
    transform_ops: Operators = ()
    check_files: Flag = True  # ours: refuse to start where a listed file is missing

    def check(self) -> None:
        if not self.delimiter:
            raise BadValueError("delimiter", self.delimiter, "what stands between the columns is wanted")


@dataclass(frozen=True)
class ImageNetDataset(Dataset):
    """Two columns."""


@dataclass(frozen=True)
class VeriWild(Dataset):
    """Three columns; the third, an image's own id, keeps a query from finding itself in the gallery. Or two."""


@dataclass(frozen=True)
class ICartoonDataset(Dataset):
    """Two columns."""


@dataclass(frozen=True)
class Market1501(Dataset):
    """The folder of Market-1501 that cls_label_path names; cameras are the ids."""


@dataclass(frozen=True)
class CompCars(Dataset):
    """Two columns; of each image the box in its file below label_root is cut out first."""

    label_root: Maybe[FilePath] = None
    bbox_crop: Flag = False

    def check(self) -> None:
        super().check()
        if self.bbox_crop and self.label_root is None:
            raise BadValueError("label_root", None, "the folder of the boxes is wanted, for bbox_crop")


@dataclass(frozen=True)
class Sampler(ByName):
    """Without a name, PaddleClas's plain one."""

    batch_size: Whole = within(64, 1)  # per card
    drop_last: Flag = False
    shuffle: Flag = False

    @classmethod
    def split(cls, value: Any) -> tuple[Any, Any]:
        unnamed = isinstance(value, dict) and "name" not in value
        return ("DistributedBatchSampler", value) if unnamed else super().split(value)


@dataclass(frozen=True)
class DistributedBatchSampler(Sampler):
    @classmethod
    def in_editors(cls, schema: dict[str, Any]) -> dict[str, Any]:
        return {**schema, "required": []}


@dataclass(frozen=True)
class PKSampler(Sampler):
    drop_last: Flag = True
    sample_per_id: Whole = within(4, 1)  # K; P = batch_size / K
    shuffle: Flag = True
    sample_method: Choice[Literal["id_avg_prob", "sample_avg_prob"]] = "sample_avg_prob"
    id_list: Several[Whole] = ()  # pairs of class ids, both ends included
    ratio: Several[Number] = ()  # one factor per pair
    total_epochs: Whole = within(100, 1)  # PaddleClas seeds with it; no meaning here

    def check(self) -> None:
        if self.batch_size % self.sample_per_id:
            wanted = f"a multiple of sample_per_id ({self.sample_per_id}) is wanted"
            raise BadValueError("batch_size", self.batch_size, wanted)
        if len(self.id_list) != 2 * len(self.ratio):
            raise BadValueError("id_list", list(self.id_list), "two class ids for each ratio are wanted")


@dataclass(frozen=True)
class DistributedRandomIdentitySampler(Sampler):
    num_instances: Whole = within(4, 1)
    shuffle: Flag = True
    max_iters: Maybe[Whole] = within(None, 1)


@dataclass(frozen=True)
class Loader(Section):
    no_effect = frozenset({"prefetch_factor"})

    num_workers: Whole = within(4, 0)
    use_shared_memory: Flag = True


_Dataset = Dataset
_Sampler = Sampler
_Loader = Loader


@dataclass(frozen=True)
class Data(Section):
    """One of DataLoader.Train, DataLoader.Eval.Query, DataLoader.Eval.Gallery."""

    dataset: _Dataset = field(default_factory=ImageNetDataset)
    sampler: _Sampler = field(default_factory=DistributedBatchSampler)
    loader: _Loader = field(default_factory=Loader)


@dataclass(frozen=True)
class EvalData(Section):
    """Query and Gallery for retrieval; a dataset of the classes that are trained for TopkAcc."""

    dataset: Maybe[_Dataset] = None
    sampler: _Sampler = field(default_factory=DistributedBatchSampler)
    loader: _Loader = field(default_factory=Loader)
    Query: Maybe[Data] = None
    Gallery: Maybe[Data] = None


@dataclass(frozen=True)
class DataLoader(Section):
    Train: Maybe[Data] = None
    Eval: Maybe[EvalData] = None
