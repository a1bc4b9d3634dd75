"""PP-LCNetV2 learns the recogniser's features, then metric learning on what has labels."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from research.common.autocast import autocast
from research.gpu_job.job.half import Half
from research.gpu_job.job.losses import class_means, cosine_distance, cosine_softmax, triplet_angular_margin
from research.gpu_job.job.packed import CHOOSE, TRAIN
from research.gpu_job.job.state import Learner
from research.gpu_job.job.teacher import FEATURES, MAPS, Teacher, folded, load_teacher
from research.gpu_job.job.views import Views
from research.pplcnetv2.network import DIMENSION, POOLED, PPLCNetV2
from research.pplcnetv2.network import STAGES as PARTS

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet
MILD = 0.1  # progress until which views show most of a photo, unmixed
FITTED = 1024  # photos by which the teacher's pooled features are centred and scaled
BANK = 64  # batches of views that are learnt from again
STRIDES = (4, 8, 16, 32)  # of the maps that are compared
MEASURE_SIDE = 224
PER_CLASS = 4
HELD = {"products": "products", "caltech": "caltech"}  # choosing sets measured by leaving one out


@dataclass(frozen=True)
class Stage:
    """Until which progress, sides of the student's and the teacher's images, and whether labels are used."""

    until: float
    side: int
    teacher_side: int
    labels: bool = False


@dataclass(frozen=True)
class Seen:
    """A batch: views (n, 3, side, side) uint8; the teacher's pooled features and maps; labels of the first rows."""

    views: Tensor
    pooled: Tensor
    maps: list[Tensor]
    labels: Tensor


STAGES = (Stage(0.5, 128, 192), Stage(0.78, 160, 224), Stage(1.0, 192, 224, labels=True))
SMOKE_STAGES = (Stage(0.6, 64, 64), Stage(1.0, 64, 64, labels=True))


class Student(nn.Module):
    """PP-LCNetV2 that ends in the teacher's pooled features and, after the teacher's own linear layer, in its 512.

    Two linear layers, which the way back makes one. The pooled features are what is learnt first: a few of their
    directions hold most of what differs between photos, where the 512 are whitened.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.backbone = PPLCNetV2()
        self.backbone.last_conv = nn.Identity()
        self.wide = nn.Linear(POOLED, FEATURES)
        self.hints = nn.ModuleList(nn.Conv2d(part[0], c, 1) for part, c in zip(PARTS, MAPS.values(), strict=True))
        self.head = nn.Parameter(torch.randn(DIMENSION, classes) * 0.05)
        self.register_buffer("linear_weight", torch.zeros(DIMENSION, FEATURES))
        self.register_buffer("linear_bias", torch.zeros(DIMENSION))
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def pooled(self, x: Tensor) -> Tensor:
        """(n, 3, h, w), RGB, 0 to 255 -> (n, 1280), as the teacher's."""
        return self.pooled_and_maps(x)[0]

    def pooled_and_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same, and after each stage what the teacher's maps are to be told from."""
        maps = self.backbone.maps((x - self.mean) / self.std)
        return self.wide(maps[-1].mean((2, 3))), maps

    def embedded(self, pooled: Tensor) -> Tensor:
        """(n, 1280) -> (n, 512)."""
        return functional.linear(pooled, self.linear_weight, self.linear_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w), RGB, 0 to 255 -> (n, 512)."""
        return self.embedded(self.pooled(x))


class LabelledHalf(Half):
    """What learns features of photos, some of which have labels."""

    teacher: Teacher

    def prepare(self, seed: int) -> None:
        """Views, photos and the photos of each class."""
        self.views = Views(self.device, seed)
        self.photos, self.labels = self.pack.rows(TRAIN).to(self.device), self.pack.label.to(self.device)
        self.by_class = self._by_class()

    def _by_class(self) -> Tensor:
        """(classes with two photos or more, most photos of one) rows; short classes repeat theirs."""
        rows = self.pack.rows(TRAIN)
        labels = self.pack.label[rows]
        groups = [rows[labels == c] for c in labels[labels >= 0].unique()]
        groups = [group for group in groups if len(group) > 1]
        most = max(len(group) for group in groups)
        return torch.stack([group.repeat(-(-most // len(group)))[:most] for group in groups]).to(self.device)

    def classes(self, n: int) -> tuple[Tensor, Tensor]:
        """P x K rows and their labels; none for n 0."""
        if not n:
            return self.photos[:0], self.photos[:0]
        classes = torch.randperm(len(self.by_class), device=self.device, generator=self.views.generator)[
            : n // PER_CLASS
        ]
        places = self.views.uniform(len(classes), self.by_class.shape[1]).argsort(1)[:, :PER_CLASS]
        rows = self.by_class[classes].gather(1, places)
        return rows.flatten(), self.labels[rows.flatten()]

    @torch.no_grad()
    def begin_head(self, networks: list[nn.Module]) -> None:
        """Class weights begin as the classes' mean features."""
        rows = self.pack.rows(TRAIN)
        rows = rows[self.pack.label[rows] >= 0].to(self.device)
        labels = self.labels[rows]
        means = class_means(self.embed(rows), labels, self.pack.about["classes"])
        for network in networks:
            network.head.copy_(means)
        self.log.line(f"{self.name}: metric learning begins, {len(rows)} photos of {len(means.T)} classes")

    @torch.no_grad()
    def embed(self, rows: Tensor, teacher: bool = False) -> Tensor:
        """(n, 512) unit features of whole photos, by the average weights or by the teacher."""
        side = 64 if self.smoke else MEASURE_SIDE
        found = []
        for some in rows.to(self.device).split(128):
            x = functional.interpolate(self.pack.images[some].float(), (side, side), mode="bilinear", antialias=True)
            x = x.contiguous(memory_format=torch.channels_last)
            with autocast(self.device):
                found.append((self.teacher(x) if teacher else self.learner.average(x)).float())
        return functional.normalize(torch.cat(found))

    def recalls(self, teacher: bool = False) -> dict[str, float]:
        """Recall@1 on the choosing sets: products and Caltech leave one out, juice against the training photos."""
        found = {}
        for name, source in HELD.items():
            rows = self.pack.rows(CHOOSE, source)
            if len(rows) > 1:
                rows = repeated(rows, self.pack.label)
                found[name] = recall(*[self.embed(rows, teacher)] * 2, *[self.pack.label[rows]] * 2, itself=True)
        queries, gallery = self.pack.rows(CHOOSE, "juice"), self.pack.rows(TRAIN, "juice")
        if len(queries):
            pair = self.embed(queries, teacher), self.embed(gallery, teacher)
            found["juice"] = recall(*pair, self.pack.label[queries], self.pack.label[gallery], itself=False)
        return found

    def figures(self) -> dict[str, float]:
        """Recalls; the teacher's stand beside the first."""
        if not any(point["half"] == "teacher" for point in self.log.curve):
            self.log.point("teacher", self.recalls(teacher=True))
        return self.recalls()


class Recogniser(LabelledHalf):
    """PP-LCNetV2, from nothing."""

    name = "recogniser"
    warmup, max_norm, measure_every = 400, 5.0, 0.25
    hints, used, muon = 100.0, 3, 0.02  # weight of maps at first; how often a view is learnt from; a learning rate

    def make(self, lr: float, seed: int) -> Learner:
        self.prepare(seed)
        self.stages = SMOKE_STAGES if self.smoke else STAGES
        self.teacher = load_teacher(self._teacher_weights()).to(self.device, memory_format=torch.channels_last)
        student = Student(self.pack.about["classes"]).to(self.device).train()
        self._begin_wide(student)
        student.to(memory_format=torch.channels_last)
        self.stage: Stage | None = None
        self.bank: deque[Seen] = deque(maxlen=BANK)
        return Learner(self.name, student, lr=lr, decay=0.03, ema=0.9995, muon=self.muon)

    @torch.no_grad()
    def _begin_wide(self, student: Student) -> None:
        """The teacher's linear layer, and the mean of its pooled features as the student's first answer."""
        side = 64 if self.smoke else MEASURE_SIDE
        found = []
        for some in self.views.pick(self.photos, 32 if self.smoke else FITTED).split(128):
            x = functional.interpolate(self.pack.images[some].float(), (side, side), mode="bilinear", antialias=True)
            with autocast(self.device):
                found.append(self.teacher.pooled(x).float())
        variance, mean = torch.var_mean(torch.cat(found), 0)
        self.spread = variance.sum()
        student.wide.bias.copy_(mean)
        student.linear_weight.copy_(self.teacher.linear.weight)
        student.linear_bias.copy_(self.teacher.linear.bias)

    def _teacher_weights(self) -> dict[str, Tensor]:
        """The refined recogniser's, where there is one, or the bundled one's."""
        path = self.out / "teacher.pt"
        if not path.is_file():
            return self.pack.start("teacher")
        self.log.line("recogniser: its teacher is teacher.pt")
        return folded(torch.load(path, weights_only=True, map_location="cpu")["tensors"])

    def begin(self, progress: float) -> None:
        """The stage; class weights begin with the metric stage, unless a resume has brought them."""
        self.mild, self.left = progress < MILD, 1 - progress
        stage = next((s for s in self.stages if progress < s.until), self.stages[-1])
        resumed = self.stage is None and self.learner.step > 0
        if stage.labels and stage is not self.stage and not resumed:
            self.begin_head([self.learner.network, self.learner.average])
        if stage is not self.stage:
            self.log.line(f"recogniser: {progress:.0%} {stage}")
            self.bank.clear()
        self.stage = stage

    def seen(self) -> Seen:
        """New views with what the teacher says of them, or, between these, some of the last ones again."""
        stage = self.stage
        assert stage is not None  # begin() came first
        if self.learner.step % self.used and self.bank:
            return self.bank[int(torch.randint(len(self.bank), ()))]
        labelled, labels = self.classes(self.batch // 2 if stage.labels else 0)
        photos = self.pack.images[self.views.pick(self.photos, self.batch - len(labelled))]
        views = self.views(photos, stage.teacher_side, smallest=0.5 if self.mild else 0.12, blend=not self.mild)
        if len(labelled):  # labels hold for what is whole and not mixed
            whole = self.views(self.pack.images[labelled], stage.teacher_side, smallest=0.4, blend=False)
            views = torch.cat([whole, views])
        with torch.no_grad(), autocast(self.device):
            pooled, maps = self.teacher.pooled_and_maps(views.contiguous(memory_format=torch.channels_last))
        if stage.side != stage.teacher_side:
            views = functional.interpolate(views, (stage.side, stage.side), mode="bilinear", antialias=True)
        maps = [fitting(m, -(-stage.side // stride)) for m, stride in zip(maps, STRIDES, strict=True)]
        new = Seen(views.round().byte().contiguous(memory_format=torch.channels_last), pooled, maps, labels)
        self.bank.append(new)
        return new

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        seen, network = self.seen(), self.learner.network
        with autocast(self.device):
            pooled, maps = network.pooled_and_maps(seen.views.float())
            hints = self.hinted(maps, seen.maps)
        found, wanted = network.embedded(pooled.float()), seen.pooled.float()
        missed = (pooled.float() - wanted).square().sum(1).mean() / self.spread
        cosine = cosine_distance(found, network.embedded(wanted))
        loss = missed + cosine + self.hints * self.left * hints
        entropy, triplet = cosine.new_zeros(()), cosine.new_zeros(())
        if len(seen.labels):
            unit = functional.normalize(found[: len(seen.labels)])
            entropy = cosine_softmax(unit, network.head, seen.labels)
            triplet = triplet_angular_margin(unit, seen.labels)
            loss = loss + 0.1 * entropy + 0.3 * triplet
        parts = {"hints": hints, "missed": missed, "cosine": cosine}
        return loss, parts | {"CE": entropy, "triplet": triplet}

    def hinted(self, mine: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """What of the teacher's maps cannot be told from the student's: a share of their variance, mean of stages."""
        losses = []
        for hint, x, theirs in zip(self.learner.network.hints, mine, wanted, strict=True):
            error = hint(fitting(x, theirs.shape[-1])).float() - theirs.float()
            losses.append(error.square().sum(1).mean() / theirs.float().var((0, 2, 3)).sum())
        return torch.stack(losses).mean()


def fitting(maps: Tensor, side: int) -> Tensor:
    """(n, c, side, side)."""
    return maps if maps.shape[-1] == side else functional.adaptive_avg_pool2d(maps, side)


def repeated(rows: Tensor, label: Tensor) -> Tensor:
    """Rows whose label another row has, too."""
    own = label[rows]
    return rows[(own[:, None] == own[None]).sum(1) > 1]


def recall(queries: Tensor, gallery: Tensor, of: Tensor, known: Tensor, *, itself: bool) -> float:
    """Share of queries whose nearest gallery row has their label; `itself`: gallery is the queries, self left out."""
    cosines = queries @ gallery.T
    if itself:
        cosines.fill_diagonal_(-2)
    return float((known[cosines.argmax(1).cpu()] == of).float().mean())
