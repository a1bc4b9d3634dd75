"""Keys that do not exist and values that do not fit: what the author of each is told."""

from __future__ import annotations

import pytest

from tests.conftest import Write, refusal

# --- wrong keys and values -------------------------------------------------------------------------------------

A_SECTION = "a section is wanted, that is a mapping of keys to values"
OPERATORS = "a list of operators is wanted, each a mapping with one key, such as {ResizeImage: {size: 224}}"
AT_LEAST_1 = "a number of at least 1 is wanted"
UP_TO_1 = "a number between 0 and 1 is wanted"
AN_INT = "an int is wanted"
NO_BOOL = "text is wanted; YAML reads an unquoted no, yes, on, off, true or false as a bool: put it in quotes"
ELSE_DEFAULT = "; leave it out for the default"

UNKNOWN = [
    ("Global: {treshold: 0.2}", "key Global.treshold", "did you mean Global.threshold?"),
    ("Global: {Threshold: 0.2}", "key Global.Threshold", "did you mean Global.threshold?"),
    ("Global: {rec_nms_threshold: 1}", "key Global.rec_nms_threshold", "did you mean Global.rec_nms_thresold?"),
    ("Global: {index_dir: a}", "key Global.index_dir", "did you mean IndexProcess.index_dir?"),
    ("Globl: {}", "section Globl", "did you mean Global?"),
    ("PreProcess: {}", "section PreProcess", "did you mean RecPreProcess?"),
    ("return_k: 3", "section return_k", "did you mean IndexProcess.return_k?"),
    (
        "source: x",
        "section source",
        "the sections there are: Global, DetPreProcess, DetPostProcess, RecPreProcess, "
        "RecPostProcess, IndexProcess, Eval",
    ),
    ("Eval: {qqq: x}", "key Eval.qqq", "the keys of Eval: name, image_root, cls_label_path, output_dir"),
    ("Eval: {no: x}", "key Eval.False", "the keys of Eval: name, image_root, cls_label_path, output_dir"),
    ("DetPostProcess: {nms: 1}", "key DetPostProcess.nms", "DetPostProcess takes no keys: write DetPostProcess: {}"),
    (
        "RecPostProcess: {main_indicator: Binarize, Binarize: {mode: sign}}",
        "key RecPostProcess.Binarize.mode",
        "did you mean RecPostProcess.Binarize.method?",
    ),
    ("DetPreProcess: {ops: []}", "key DetPreProcess.ops", "the keys of DetPreProcess: transform_ops"),
]


@pytest.mark.parametrize(("text", "what", "advice"), UNKNOWN)
def test_unknown(text: str, what: str, advice: str, write: Write) -> None:
    assert refusal(write(text)) == f"Unknown {what} in x.yaml; {advice}"


OTHER_FILES = [
    ("Global: {inference_model_dir: ./models, batch_size: 1}", "PaddleClas's image classification (predict_cls.py)"),
    ("pipeline_name: PP-ShiTuV2\nindex: None\ndet_threshold: 0.5", "that is a pipeline of PaddleX"),
    ("Global: {model: PP-ShiTuV2_rec, mode: train}", "a configuration of a PaddleX module"),
    ("Global: {checkpoints: null, device: gpu}\nArch: {name: RecModel}", "that is a training configuration"),
]


@pytest.mark.parametrize(("text", "named"), OTHER_FILES)
def test_a_file_of_another_kind_is_named_as_such(text: str, named: str, write: Write) -> None:
    """Before, `did you mean Global.rec_inference_model_dir?` led who gave inference_cls.yaml on."""
    assert named in refusal(write(text))
    assert named not in refusal(write("Global: {}"), "Global.inference_model_dir=x", "Global.mode=x", "Arch=x")


BAD_VALUES = [
    ("Global: 5", "Global", "5 (int)", A_SECTION),
    ("Global: [a]", "Global", "['a'] (list)", A_SECTION),
    ("RecPostProcess: Binarize", "RecPostProcess", "'Binarize' (text)", A_SECTION),
    ("Global: {batch_size: many}", "Global.batch_size", "'many' (text)", AN_INT),
    ("Global: {batch_size: true}", "Global.batch_size", "True (bool)", AN_INT),
    ("Global: {batch_size: 1.5}", "Global.batch_size", "1.5 (float)", AN_INT),
    ("Global: {batch_size: }", "Global.batch_size", "null", "an int is wanted" + ELSE_DEFAULT),
    ("Global: {batch_size: 0}", "Global.batch_size", "0 (int)", "a number between 1 and 1024 is wanted"),
    ("Global: {batch_size: [1]}", "Global.batch_size", "[1] (list)", AN_INT),
    ("Global: {threshold: yes}", "Global.threshold", "True (bool)", "a number is wanted"),
    ("Global: {threshold: 1/2}", "Global.threshold", "'1/2' (text)", "a number is wanted"),
    ("Global: {threshold: 1.01}", "Global.threshold", "1.01 (float)", UP_TO_1),
    ("Global: {threshold: .nan}", "Global.threshold", "nan (float)", UP_TO_1),
    ("Global: {threshold: nan}", "Global.threshold", "nan (float)", UP_TO_1),
    (f"Global: {{threshold: 0x{'f' * 5000}}}", "Global.threshold", "something very long (int)", "a number is wanted"),
    ("Global: {rec_nms_thresold: -0.1}", "Global.rec_nms_thresold", "-0.1 (float)", UP_TO_1),
    ("Global: {max_det_results: 0}", "Global.max_det_results", "0 (int)", AT_LEAST_1),
    ("Global: {cpu_num_threads: 0}", "Global.cpu_num_threads", "0 (int)", AT_LEAST_1),
    ("Global: {use_gpu: 2}", "Global.use_gpu", "2 (int)", "true or false is wanted"),
    ("Global: {use_gpu: maybe}", "Global.use_gpu", "'maybe' (text)", "true or false is wanted"),
    ("Global: {label_list: [cup, no]}", "Global.label_list.1", "False (bool)", NO_BOOL),
    ("Global: {label_list: [7]}", "Global.label_list.0", "7 (int)", "text is wanted: put it in quotes"),
    ("Global: {label_list: [null]}", "Global.label_list.0", "null", "text is wanted" + ELSE_DEFAULT),
    ("Global: {label_list: cup}", "Global.label_list", "'cup' (text)", "a list is wanted, written [a, b], each text"),
    ("Global: {label_list: []}", "Global.label_list", "[] (list)", "at least one name is wanted, such as [foreground]"),
    ("Global: {image_shape: [3, 640]}", "Global.image_shape", "[3, 640] (list)", "[channels, height, width] is wanted"),
    ("Global: {image_shape: [3, 0, 640]}", "Global.image_shape", "(3, 0, 640) (list)", AT_LEAST_1),
    (
        "Global: {infer_imgs: 2024-01-02}",
        "Global.infer_imgs",
        "datetime.date(2024, 1, 2) (date)",
        "text is wanted: put it in quotes",
    ),
    ("Global: {infer_imgs: [a, b]}", "Global.infer_imgs", "['a', 'b'] (list)", "text is wanted"),
    ('Global: {infer_imgs: "a\\0b"}', "Global.infer_imgs", "'a\\x00b' (text)", "a path is wanted"),
    ("Global: {output_dir: None}", "Global.output_dir", "'None' (text)", "a path is wanted"),
    ("Global: {output_dir: ' '}", "Global.output_dir", "' ' (text)", "a path is wanted"),
    (
        "Global: {whole_image: sometimes}",
        "Global.whole_image",
        "'sometimes' (text)",
        "one of always, compete, fallback, never is wanted",
    ),
    ("RecPreProcess: {transform_ops: {a: 1}}", "RecPreProcess.transform_ops", "{'a': 1} (mapping)", OPERATORS),
    (
        "RecPreProcess: {transform_ops: [{a: 1, b: 2}]}",
        "RecPreProcess.transform_ops.0",
        "{'a': 1, 'b': 2} (mapping)",
        OPERATORS,
    ),
    (
        "RecPreProcess: {transform_ops: [ToCHWImage]}",
        "RecPreProcess.transform_ops.0",
        "'ToCHWImage' (text)",
        OPERATORS + "; write ToCHWImage: with a colon",
    ),
    (
        "RecPostProcess: {main_indicator: Topk}",
        "RecPostProcess.main_indicator",
        "'Topk' (text)",
        "one of Binarize is wanted",
    ),
    (
        "RecPostProcess: {Binarize: {method: sign}}",
        "RecPostProcess.main_indicator",
        "null",
        "Binarize is wanted, since RecPostProcess.Binarize is given",
    ),
    (
        "IndexProcess: {dist_type: cosine}",
        "IndexProcess.dist_type",
        "'cosine' (text)",
        "one of IP, L2, hamming is wanted",
    ),
    (
        "IndexProcess: {dist_type: hamming, embedding_size: 500}",
        "IndexProcess.embedding_size",
        "500 (int)",
        "a multiple of 8 is wanted, since dist_type hamming packs 8 bits into a byte",
    ),
    (
        "IndexProcess: {delimiter: ''}",
        "IndexProcess.delimiter",
        "'' (text)",
        'what stands between image and label in a line is wanted, such as "\\t"',
    ),
    (
        "IndexProcess: {score_thres: 50}",
        "IndexProcess.score_thres",
        "50.0 (float)",
        "a cosine (-1 to 1) is wanted with dist_type IP",
    ),
    (
        "IndexProcess: {dist_type: L2, score_thres: -1}",
        "IndexProcess.score_thres",
        "-1.0 (float)",
        "a squared distance (0 or more) is wanted with dist_type L2",
    ),
    (
        "IndexProcess: {hamming_radius: -1}",
        "IndexProcess.hamming_radius",
        "-1 (int)",
        "a number of at least 0 is wanted",
    ),
    ("IndexProcess: {return_k: 0}", "IndexProcess.return_k", "0 (int)", AT_LEAST_1),
    ("IndexProcess: {efSearch: 0}", "IndexProcess.efSearch", "0 (int)", AT_LEAST_1),
    (
        "IndexProcess: {index_method: ''}",
        "IndexProcess.index_method",
        "'' (text)",
        "auto, HNSW32, IVF or Flat is wanted",
    ),
]


@pytest.mark.parametrize(("text", "key", "shown", "wanted"), BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_bad_value(text: str, key: str, shown: str, wanted: str, write: Write) -> None:
    assert refusal(write(text)) == f"{key} is {shown} in x.yaml; {wanted}"
