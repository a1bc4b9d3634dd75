"""A client of PaddleX's PP-ShiTuV2 service, of the calls and fields that its documents show; shitu is not imported.

python paddlex_client.py URL PICTURE...: the first three are indexed (two of a rabbit, one of a dog), the fourth, a dog,
is added, the entry of id 1 removed, and the last is asked about. Prints what came as JSON, writes out.jpg.
"""

import base64
import json
import sys

import requests

LABELS = ("rabbit", "rabbit", "dog", "dog")


def call(url, route, payload):
    answer = requests.post(f"{url}/{route}", json=payload)
    if answer.status_code != 200:
        print(f"{route} failed with status {answer.status_code}: {answer.json()}")
        sys.exit(1)
    return answer.json()["result"]


def encoded(path):
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode("ascii")


def main():
    url, *pictures = sys.argv[1:]
    pairs = [{"image": encoded(path), "label": label} for path, label in zip(pictures, LABELS, strict=False)]
    built = call(url, "shitu-index-build", {"imageLabelPairs": pairs[:3]})
    key, counts = built["indexKey"], [built["imageCount"]]
    counts += [call(url, "shitu-index-add", {"imageLabelPairs": pairs[3:], "indexKey": key})["imageCount"]]
    counts += [call(url, "shitu-index-remove", {"ids": [1], "indexKey": key})["imageCount"]]
    found = call(url, "shitu-infer", {"image": encoded(pictures[-1]), "indexKey": key})
    with open("out.jpg", "wb") as file:
        file.write(base64.b64decode(found["image"]))
    print(json.dumps({"key": key, "counts": counts, "objects": found["detectedObjects"]}))


main()
