"""PP-LCNetV2 learns the recogniser's features, then metric learning on what has labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from research.gpu_job.job.half import Half, autocast
from research.gpu_job.job.losses import class_means, cosine_softmax, distillation, triplet_angular_margin
from research.gpu_job.job.packed import CHOOSE, TRAIN
from research.gpu_job.job.state import Learner
from research.gpu_job.job.teacher import Teacher, folded, load_teacher
from research.gpu_job.job.tuning import unsearched
from research.gpu_job.job.views import Views
from research.pplcnetv2.network import DIMENSION, PPLCNetV2

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet
RELATIONS = 0.5  # weight of the loss over pairs
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


STAGES = (Stage(0.4, 128, 192), Stage(0.72, 160, 192), Stage(0.82, 224, 224), Stage(1.0, 192, 224, labels=True))
SMOKE_STAGES = (Stage(0.6, 64, 64), Stage(1.0, 64, 64, labels=True))


class Student(nn.Module):
    """PP-LCNetV2 and the class weights of the metric stage."""

    def __init__(self, classes: int):
        super().__init__()
        self.backbone = PPLCNetV2()
        self.head = nn.Parameter(torch.randn(DIMENSION, classes) * 0.05)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w), RGB, 0 to 255 -> (n, 512)."""
        return self.backbone((x - self.mean) / self.std)


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
        with unsearched():
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
    warmup, max_norm, measure_every = 400, 5.0, 0.2

    def make(self, lr: float, seed: int) -> Learner:
        self.prepare(seed)
        self.stages = SMOKE_STAGES if self.smoke else STAGES
        self.teacher = load_teacher(self._teacher_weights()).to(self.device, memory_format=torch.channels_last)
        student = Student(self.pack.about["classes"]).to(self.device).train()
        student.to(memory_format=torch.channels_last)
        self.stage: Stage | None = None
        return Learner(self.name, student, lr=lr, decay=0.03, ema=0.9995)

    def _teacher_weights(self) -> dict[str, Tensor]:
        """The refined recogniser's, where there is one, or the bundled one's."""
        path = self.out / "teacher.pt"
        if not path.is_file():
            return self.pack.start("teacher")
        self.log.line("recogniser: its teacher is teacher.pt")
        return folded(torch.load(path, weights_only=True, map_location="cpu")["tensors"])

    def begin(self, progress: float) -> None:
        """The stage; class weights begin with the metric stage, unless a resume has brought them."""
        stage = next((s for s in self.stages if progress < s.until), self.stages[-1])
        resumed = self.stage is None and self.learner.step > 0
        if stage.labels and stage is not self.stage and not resumed:
            self.begin_head([self.learner.network, self.learner.average])
        if stage is not self.stage:
            self.log.line(f"recogniser: {progress:.0%} {stage}")
        self.stage = stage

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        stage = self.stage
        assert stage is not None  # begin() came first
        few = self.batch // 2 if stage.labels else 0
        labelled, labels = self.classes(few)
        rows = torch.cat([labelled, self.views.pick(self.photos, self.batch - len(labelled))])
        seen = self.views(self.pack.images[rows[len(labelled) :]], stage.teacher_side, smallest=0.12, blend=True)
        if len(labelled):  # labels hold for what is whole and not mixed
            whole = self.views(self.pack.images[labelled], stage.teacher_side, smallest=0.4, blend=False)
            seen = torch.cat([whole, seen])
        small = seen
        if stage.side != stage.teacher_side:
            small = functional.interpolate(seen, (stage.side, stage.side), mode="bilinear", antialias=True)
        with torch.no_grad(), autocast(self.device):
            wanted = self.teacher(seen.contiguous(memory_format=torch.channels_last))
        with autocast(self.device):
            found = self.learner.network(small)
        cosine, pairs = distillation(found, wanted)
        loss, entropy, triplet = cosine + RELATIONS * pairs, cosine.new_zeros(()), cosine.new_zeros(())
        if len(labelled):
            unit = functional.normalize(found[: len(labelled)].float())
            entropy = cosine_softmax(unit, self.learner.network.head, labels)
            triplet = triplet_angular_margin(unit, labels)
            loss = loss + 0.1 * entropy + 0.3 * triplet
        return loss, {"cosine": cosine, "pairs": pairs, "CE": entropy, "triplet": triplet}


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
