"""Market-1501's folders and CompCars' boxes, as PaddleClas reads them; TopkAcc of images whose classes are trained."""

from __future__ import annotations

from pathlib import Path

import paddle
import pytest
from paddle import nn
from PIL import Image

from shitu.errors import ConfigError
from shitu.training.rec.eval_lists import ClassSet, open_eval
from shitu.training.rec.evaluate import check_metrics, evaluate
from shitu.training.rec.image_list import read_image_list
from shitu.training.rec.schema import Metric, Recallk, TopkAcc, TrainConfig
from shitu.training.rec.schema_data import (
    CompCars,
    Data,
    DataLoader,
    Dataset,
    DistributedBatchSampler,
    EvalData,
    ImageNetDataset,
    Loader,
    Market1501,
)

WHAT = "DataLoader.Train.dataset"
PLAIN = ({"ResizeImage": {"size": 4}}, {"NormalizeImage": {"scale": 1.0, "mean": [0] * 3, "std": [1] * 3, "order": ""}})


def picture(path: Path, colour: int = 0, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour,) * 3).save(path)


def test_market_1501(tmp_path: Path) -> None:
    """Junk (person -1) is left out, distractors (person 0) stay; the ids are cameras."""
    home = tmp_path / "market1501/Market-1501-v15.09.15/bounding_box_test"
    for name in ("0007_c3s1_000451_03", "-1_c1s1_000401_03", "0000_c2s1_000001_00", "0007_c1s2_000451_01"):
        picture(home / f"{name}.jpg")
    (home / "Thumbs.db").write_bytes(b"")
    images = read_image_list(Market1501(image_root=str(tmp_path), cls_label_path="bounding_box_test"), what=WHAT)
    assert [Path(images.path(row)).name[:7] for row in range(3)] == ["0000_c2", "0007_c1", "0007_c3"]
    assert images.original_labels.tolist() == [0, 7]
    assert images.labels.tolist() == [0, 1, 1]
    assert images.ids is not None
    assert images.ids.tolist() == [2, 1, 3]


@pytest.mark.parametrize(("made", "message"), [(False, "unpack Market-1501 below"), (True, "no photo in .* is called")])
def test_market_1501_that_is_not_there(tmp_path: Path, made: bool, message: str) -> None:
    if made:
        picture(tmp_path / "market1501/Market-1501-v15.09.15/query/a.jpg")
    with pytest.raises(ConfigError, match=message):
        read_image_list(Market1501(image_root=str(tmp_path), cls_label_path="query"), what=WHAT)


def compcars(folder: Path, **keys: object) -> CompCars:
    (folder / "list.txt").write_text("1/2/a.jpg 0\n1/2/b.jpg 1\n", encoding="utf-8")
    values = {"cls_label_path": str(folder / "list.txt"), "image_root": str(folder), "bbox_crop": True, **keys}
    return CompCars(**{"label_root": str(folder), **values})  # type: ignore[arg-type]


def test_compcars_shows_the_box(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "1/2" / f"{name}.jpg", size=(40, 30))
    (tmp_path / "1/2/a.txt").write_text("-1\n1\n5 6 25 16 \n", encoding="utf-8")
    (tmp_path / "1/2/b.txt").write_text("-1\n1\n0 0 400 300\n", encoding="utf-8")
    images = read_image_list(compcars(tmp_path), what=WHAT)
    assert [images.read(row).shape for row in range(2)] == [(10, 20, 3), (30, 40, 3)]
    assert read_image_list(compcars(tmp_path, bbox_crop=False), what=WHAT).read(0).shape == (30, 40, 3)
    (tmp_path / "1/2/b.txt").unlink()
    with pytest.raises(ConfigError, match=r"1 of 2 images have no file with a box.*b\.txt; mend these"):
        read_image_list(compcars(tmp_path), what=WHAT)
    with pytest.raises(ConfigError, match="the folder of the boxes is wanted"):
        compcars(tmp_path, label_root=None)


class Brightness(nn.Layer):
    """Outputs 1 at the class that the image's grey names, 0.5 at the one after it, else 0."""

    def forward(self, images: paddle.Tensor) -> dict[str, paddle.Tensor]:
        grey = images.mean(axis=[1, 2, 3]).round().astype("int64")
        first, second = (nn.functional.one_hot((grey + step) % 6, 6) for step in (0, 1))
        return {"logits": first + 0.5 * second}


def classes(folder: Path, rows: str, *, topk: tuple[int, ...] = (1, 2, 4)) -> TrainConfig:
    (folder / "val.txt").write_text(rows, encoding="utf-8")
    dataset = ImageNetDataset(str(folder), str(folder / "val.txt"), transform_ops=PLAIN, check_files=False)
    data = EvalData(dataset=dataset, sampler=DistributedBatchSampler(2), loader=Loader(0))
    return TrainConfig(DataLoader=DataLoader(Eval=data), Metric=Metric(Eval=(TopkAcc(topk=topk),)))


def test_top_k_accuracy(tmp_path: Path) -> None:
    """Of grey 0, 2, 3: right, second, and fourth at the most: equal outputs go by their order. One is missing."""
    for grey in (0, 2, 3):
        picture(tmp_path / f"{grey}.png", grey)
    config = classes(tmp_path, "0.png 0\n2.png 3\n3.png 1\nnone.png 2\n")
    found = evaluate(Brightness(), config.DataLoader.Eval, config)  # type: ignore[arg-type]
    assert found == pytest.approx({"top1": 1 / 3, "top2": 2 / 3, "top4": 1, "queries": 3, "bad_images": 1})


def test_labels_are_outputs_of_the_head(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    config = classes(tmp_path, "0.png 6\n")
    opened = open_eval(config.DataLoader.Eval)
    assert isinstance(opened, ClassSet)
    assert opened.image_count == 1
    with pytest.raises(ConfigError, match="has the label 6, the head 6 outputs"):
        evaluate(Brightness(), opened, config)
    with pytest.raises(ConfigError, match="numbers from 0 on are wanted"):
        open_eval(classes(tmp_path, "0.png -2\n").DataLoader.Eval)


def test_metrics_go_with_the_lists(tmp_path: Path) -> None:
    side = Data(Dataset.__subclasses__()[0]())
    for data, metric in (
        (EvalData(Query=side, Gallery=side), TopkAcc()),
        (EvalData(dataset=ImageNetDataset()), Recallk()),
    ):
        config = TrainConfig(DataLoader=DataLoader(Eval=data), Metric=Metric(Eval=(metric,)))
        with pytest.raises(ConfigError, match=r"TopkAcc is worked out with DataLoader\.Eval\.dataset"):
            check_metrics(config)
    assert check_metrics(classes(tmp_path, "")) == (TopkAcc(topk=(1, 2, 4)),)
