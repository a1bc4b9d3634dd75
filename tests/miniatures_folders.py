"""Miniatures of the sets that come as a folder per class."""

from __future__ import annotations

from tests.miniature import Miniature

FOLDERS = {
    "aliproduct": Miniature(
        """
        train/00000/1.jpg
        train/00000/2.jpg
        train/00001/3.jpg
        train/00010/4.jpg
        val/00000/5.jpg
        val/00010/6.jpg
        """,
        {
            "train": """
            train/00000/1.jpg|0
            train/00000/2.jpg|0
            train/00001/3.jpg|1
            train/00010/4.jpg|2
            """,
            "val": """
            val/00000/5.jpg|0|0
            val/00010/6.jpg|1|1
            """,
        },
        {"train.json": "{}", "val.json": "{}", "product_tree.json": "{}"},
    ),
    "logodet-3k": Miniature(
        """
        LogoDet-3K/Clothes/Yonex/1.jpg
        LogoDet-3K/Clothes/Yonex/10.jpg
        LogoDet-3K/Food/A&W/1.jpg
        LogoDet-3K/Food/可口可乐/1.jpg
        """,
        {
            "train": """
            LogoDet-3K/Clothes/Yonex/1.jpg|0
            LogoDet-3K/Clothes/Yonex/10.jpg|0
            LogoDet-3K/Food/A&W/1.jpg|1
            LogoDet-3K/Food/可口可乐/1.jpg|2
            """
        },
        {"LogoDet-3K/Food/A&W/1.xml": "<annotation><object><name>A&amp;W</name></object></annotation>"},
    ),
    "bird400": Miniature(
        """
        train/ABBOTTS BABBLER/001.jpg
        train/ABBOTTS BABBLER/002.jpg
        train/ZEBRA DOVE/001.jpg
        valid/ZEBRA DOVE/1.jpg
        test/ABBOTTS BABBLER/1.jpg
        """,
        {
            "train": """
            train/ABBOTTS BABBLER/001.jpg|0
            train/ABBOTTS BABBLER/002.jpg|0
            train/ZEBRA DOVE/001.jpg|1
            """,
            "val": "valid/ZEBRA DOVE/1.jpg|0|0",
            "test": "test/ABBOTTS BABBLER/1.jpg|0|0",
        },
        {"birds.csv": "class id,filepaths,labels,data set\n"},
        tabs=True,
    ),
    "104flowers": Miniature(
        """
        train/0/003882deb.jpeg
        train/103/0043a5b2a.jpeg
        train/9/00a1b2c3d.jpeg
        val/103/00b1c2d3e.jpeg
        """,
        {
            "train": """
            train/0/003882deb.jpeg|0
            train/9/00a1b2c3d.jpeg|1
            train/103/0043a5b2a.jpeg|2
            """,
            "val": "val/103/00b1c2d3e.jpeg|0|0",
        },
    ),
    "cars": Miniature(
        """
        train/Audi A4/a.jpg
        train/Audi A4/b.jpg
        train/BMW X5/c.png
        test/BMW X5/d.jpg
        """,
        {
            "train": """
            train/Audi A4/a.jpg|0
            train/Audi A4/b.jpg|0
            train/BMW X5/c.png|1
            """,
            "test": "test/BMW X5/d.jpg|0|0",
        },
        tabs=True,
    ),
    "flowerrecognition": Miniature(
        """
        train/aster/1.jpg
        train/aster/2.jpg
        train/rose/1.jpg
        """,
        {
            "train": """
            train/aster/1.jpg|0
            train/aster/2.jpg|0
            train/rose/1.jpg|1
            """
        },
    ),
    "food-101": Miniature(
        """
        food-101/images/apple_pie/1005649.jpg
        food-101/images/apple_pie/1014775.jpg
        food-101/images/waffles/971843.jpg
        """,
        {
            "train": """
            food-101/images/apple_pie/1005649.jpg|0
            food-101/images/apple_pie/1014775.jpg|0
            food-101/images/waffles/971843.jpg|1
            """
        },
        {"food-101/meta/train.txt": "apple_pie/1005649\n", "food-101/meta/classes.txt": "apple_pie\nwaffles\n"},
    ),
    "fruits-262": Miniature(
        """
        Fruit-262/abiu/0.jpg
        Fruit-262/abiu/1.jpg
        Fruit-262/zucchini/0.jpg
        """,
        {
            "train": """
            Fruit-262/abiu/0.jpg|0
            Fruit-262/abiu/1.jpg|0
            Fruit-262/zucchini/0.jpg|1
            """
        },
    ),
    "indoor-scenes": Miniature(
        """
        indoorCVPR_09/Images/airport_inside/airport_inside_0001.jpg
        indoorCVPR_09/Images/winecellar/bodega_12_11_flickr.jpg
        """,
        {
            "train": """
            indoorCVPR_09/Images/airport_inside/airport_inside_0001.jpg|0
            indoorCVPR_09/Images/winecellar/bodega_12_11_flickr.jpg|1
            """
        },
        {"TrainImages.txt": "airport_inside/airport_inside_0001.jpg\n", "indoorCVPR_09annotations/a.xml": "<a/>"},
    ),
}
