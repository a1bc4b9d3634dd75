"""The DataLoader section of a training configuration: list files, augmentation, samplers, workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shitu.config.values import BadValueError, FilePath, Operators, Section, within
from shitu.config.variants import ByName


@dataclass(frozen=True)
class Dataset(ByName):
    """A list file, `path label` or `path label unique_id`, with the images below image_root."""

    no_effect = frozenset({"backend"})

    image_root: FilePath = "."
    cls_label_path: FilePath | None = None
    delimiter: str = " "  # a TAB where the lines hold one
    relabel: bool = False  # number the labels 0, 1, 2 ... in ascending order of their values
    transform_ops: Operators = ()
    check_files: bool = True  # ours: refuse to start where a listed file is missing

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.delimiter:
            raise BadValueError("dataset.delimiter", self.delimiter, "what stands between the columns is wanted")


@dataclass(frozen=True)
class ImageNetDataset(Dataset):
    """Two columns."""


@dataclass(frozen=True)
class VeriWild(Dataset):
    """Three columns; the third, an image's own id, keeps a query from finding itself in the gallery."""


@dataclass(frozen=True)
class Sampler(ByName):
    batch_size: int = within(64, 1)  # per card
    drop_last: bool = False
    shuffle: bool = False


@dataclass(frozen=True)
class DistributedBatchSampler(Sampler):
    pass


@dataclass(frozen=True)
class PKSampler(Sampler):
    sample_per_id: int = within(4, 1)  # K; P = batch_size / K
    shuffle: bool = True
    sample_method: Literal["id_avg_prob", "sample_avg_prob"] = "sample_avg_prob"
    id_list: tuple[int, ...] = ()  # pairs of class ids, both ends included
    ratio: tuple[float, ...] = ()  # one factor per pair
    total_epochs: int = within(100, 1)  # PaddleClas seeds with it; no meaning here

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.sample_per_id:
            wanted = f"a multiple of sample_per_id ({self.sample_per_id}) is wanted"
            raise BadValueError("sampler.batch_size", self.batch_size, wanted)
        if len(self.id_list) != 2 * len(self.ratio):
            raise BadValueError("sampler.id_list", list(self.id_list), "two class ids for each ratio are wanted")


@dataclass(frozen=True)
class DistributedRandomIdentitySampler(Sampler):
    num_instances: int = within(4, 1)
    shuffle: bool = True
    max_iters: int | None = within(None, 1)


@dataclass(frozen=True)
class Loader(Section):
    no_effect = frozenset({"prefetch_factor"})

    num_workers: int = within(4, 0)
    use_shared_memory: bool = True


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
    Query: Data | None = None
    Gallery: Data | None = None


@dataclass(frozen=True)
class DataLoader(Section):
    Train: Data | None = None
    Eval: EvalData | None = None
