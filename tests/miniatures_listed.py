"""Miniatures of the sets whose classes stand in text files, tables and JSON."""

from __future__ import annotations

import json

from tests.miniature import Miniature

_INAT_2017 = [(7, "Plantae/Abies/1b2c3d4e"), (5, "Aves/Ciconia/5f607182")]
_TRAIN_VEHICLES = ("00001/000001", "00001/000002", "00010/000003", "00002/000004")
_VEHICLES = (*_TRAIN_VEHICLES, "00030/000005", "00030/000006", "00004/000007")

LISTED = {
    "gldv2": Miniature(
        """
        train/0/0/0/000a1b2c3d4e5f60.jpg
        train/f/0/1/f01a1b2c3d4e5f60.jpg
        train/6/e/1/6e158a47eb2ca3f6.jpg
        """,
        {
            "train": """
            train/6/e/1/6e158a47eb2ca3f6.jpg|0
            train/0/0/0/000a1b2c3d4e5f60.jpg|1
            train/f/0/1/f01a1b2c3d4e5f60.jpg|1
            """
        },
        {"train_clean.csv": "landmark_id,images\n7,6e158a47eb2ca3f6\n12,000a1b2c3d4e5f60 f01a1b2c3d4e5f60\n"},
    ),
    "veri-wild": Miniature(
        "".join(f"images/{name}.jpg\n" for name in _VEHICLES),
        {
            "train": """
            images/00001/000001.jpg|0
            images/00001/000002.jpg|0
            images/00010/000003.jpg|2
            images/00002/000004.jpg|1
            """,
            "query": "images/00030/000005.jpg|1|105",
            "gallery": """
            images/00030/000006.jpg|1|106
            images/00004/000007.jpg|0|107
            """,
            "query-3000": "images/00030/000005.jpg|0|105",
            "gallery-3000": "images/00030/000006.jpg|0|106",
            "query-5000": "images/00030/000005.jpg|0|105",
            "gallery-5000": "images/00030/000006.jpg|0|106",
        },
        {
            "train_test_split/train_list.txt": "".join(f"{name}\n" for name in _TRAIN_VEHICLES),
            "train_test_split/test_10000_query.txt": "00030/000005\n",
            "train_test_split/test_10000.txt": "00030/000006\n00004/000007\n",
            **{f"train_test_split/test_{size}_query.txt": "00030/000005\n" for size in (3000, 5000)},
            **{f"train_test_split/test_{size}.txt": "00030/000006\n" for size in (3000, 5000)},
            "train_test_split/vehicle_info.txt": "id/image;Camera ID;Time;Model;Type;Color\n"
            + "".join(f"{name};10{name[-1]};2018-03-11 01:23:45;Unknown;SUV;White\n" for name in _VEHICLES),
        },
    ),
    "sop": Miniature(
        """
        Stanford_Online_Products/bicycle_final/111085122871_0.JPG
        Stanford_Online_Products/bicycle_final/111085122871_1.JPG
        Stanford_Online_Products/cabinet_final/221573_0.JPG
        Stanford_Online_Products/chair_final/351_0.JPG
        Stanford_Online_Products/chair_final/351_1.JPG
        """,
        {
            "train": """
            Stanford_Online_Products/bicycle_final/111085122871_0.JPG|0
            Stanford_Online_Products/bicycle_final/111085122871_1.JPG|0
            Stanford_Online_Products/cabinet_final/221573_0.JPG|1
            """,
            "test": """
            Stanford_Online_Products/chair_final/351_0.JPG|0|0
            Stanford_Online_Products/chair_final/351_1.JPG|0|1
            """,
        },
        {
            "Stanford_Online_Products/Ebay_train.txt": "image_id class_id super_class_id path\n"
            "1 1 1 bicycle_final/111085122871_0.JPG\n"
            "2 1 1 bicycle_final/111085122871_1.JPG\n"
            "3 2 2 cabinet_final/221573_0.JPG\n",
            "Stanford_Online_Products/Ebay_test.txt": "image_id class_id super_class_id path\n"
            "4 11319 3 chair_final/351_0.JPG\n"
            "5 11319 3 chair_final/351_1.JPG\n",
        },
    ),
    "inshop": Miniature(
        """
        img/WOMEN/Dresses/id_00000002/02_1_front.jpg
        img/WOMEN/Dresses/id_00000002/02_2_side.jpg
        img/MEN/Denim/id_00000080/01_1_front.jpg
        img/MEN/Denim/id_00000080/01_2_side.jpg
        img/MEN/Denim/id_00000007/01_1_front.jpg
        """,
        {
            "train": """
            img/WOMEN/Dresses/id_00000002/02_1_front.jpg|0
            img/WOMEN/Dresses/id_00000002/02_2_side.jpg|0
            """,
            "query": "img/MEN/Denim/id_00000080/01_1_front.jpg|1",
            "gallery": """
            img/MEN/Denim/id_00000080/01_2_side.jpg|1
            img/MEN/Denim/id_00000007/01_1_front.jpg|0
            """,
        },
        {
            "Eval/list_eval_partition.txt": "5\n"
            "image_name                                    item_id      evaluation_status\n"
            "img/WOMEN/Dresses/id_00000002/02_1_front.jpg  id_00000002  train\n"
            "img/WOMEN/Dresses/id_00000002/02_2_side.jpg   id_00000002  train\n"
            "img/MEN/Denim/id_00000080/01_1_front.jpg      id_00000080  query\n"
            "img/MEN/Denim/id_00000080/01_2_side.jpg       id_00000080  gallery\n"
            "img/MEN/Denim/id_00000007/01_1_front.jpg      id_00000007  gallery\n"
        },
    ),
    "fashion-product-images": Miniature(
        """
        images/15970.jpg
        images/39386.jpg
        images/1163.jpg
        """,
        {
            "train": """
            images/15970.jpg|1
            images/39386.jpg|0
            images/1163.jpg|0
            images/12347.jpg|2
            """
        },
        {
            "styles.csv": "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,"
            "productDisplayName\n"
            "15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt\n"
            "39386,Men,Apparel,Bottomwear,Jeans,Blue,Summer,2012,Casual,Peter England Jeans, slim, blue\n"
            "1163,Men,Apparel,Topwear,Tshirts,Blue,Summer,2011,Sports,Nike Team India Jersey\n"
            "12347,Women,Footwear,Shoes,Heels,Red,Winter,2010,,Catwalk Heels\n"
        },
    ),
    "inaturalist": Miniature(
        """
        train_val2019/Plants/400/d1322d13ccd856eb.jpg
        train_val2019/Birds/71/abcdef0123456789.jpg
        train_val2019/Birds/71/0000000000000001.jpg
        train_val_images/Plantae/Abies/1b2c3d4e.jpg
        train_val_images/Aves/Ciconia/5f607182.jpg
        """,
        {
            "train-2017": """
            train_val_images/Plantae/Abies/1b2c3d4e.jpg|1
            train_val_images/Aves/Ciconia/5f607182.jpg|0
            """,
            "val-2017": "train_val_images/Aves/Ciconia/5f607182.jpg|0|0",
            "train": """
            train_val2019/Plants/400/d1322d13ccd856eb.jpg|1
            train_val2019/Birds/71/abcdef0123456789.jpg|0
            """,
            "val": "train_val2019/Birds/71/0000000000000001.jpg|0|0",
        },
        {
            **{
                f"{split}2017.json": json.dumps(
                    {
                        "images": [{"id": n, "file_name": f"train_val_images/{name}.jpg"} for n, name in images],
                        "annotations": [{"id": n, "image_id": n, "category_id": n} for n, _ in images],
                        "categories": [{"id": 5, "name": "Ciconia ciconia", "supercategory": "Aves"}],
                    }
                )
                for split, images in (("train", _INAT_2017), ("val", _INAT_2017[1:]))
            },
            "train2019.json": json.dumps(
                {
                    "images": [
                        {"id": 0, "file_name": "train_val2019/Plants/400/d1322d13ccd856eb.jpg", "width": 8},
                        {"id": 1, "file_name": "train_val2019/Birds/71/abcdef0123456789.jpg", "width": 8},
                    ],
                    "annotations": [
                        {"id": 0, "image_id": 0, "category_id": 400},
                        {"id": 1, "image_id": 1, "category_id": 71},
                    ],
                    "categories": [{"id": 400, "name": "400"}, {"id": 71, "name": "Ciconia ciconia"}],
                }
            ),
            "val2019.json": json.dumps(
                {
                    "images": [{"id": 9, "file_name": "train_val2019/Birds/71/0000000000000001.jpg"}],
                    "annotations": [{"id": 9, "image_id": 9, "category_id": 71}],
                }
            ),
        },
    ),
    "products-10k": Miniature(
        """
        train/0.jpg
        train/1.jpg
        train/2.jpg
        test/9.jpg
        """,
        {
            "train": """
            train/0.jpg|0
            train/1.jpg|1
            train/2.jpg|0
            """,
            "test": "test/9.jpg|0|0",
        },
        {
            "train.csv": "name,class,group\n0.jpg,2,1\n1.jpg,10,1\n2.jpg,2,1\n",
            "test_kaggletest.csv": "name,class,Usage\n9.jpg,10,Public\n",
        },
    ),
    "compcars": Miniature(
        """
        data/image/78/1/2014/3ac218c0c6c378.jpg
        data/image/78/1/2012/0a0a0a0a0a0a0a.jpg
        data/image/9/1700/2013/bbbbbbbbbbbbbb.jpg
        data/image/9/1700/2013/cccccccccccccc.jpg
        """,
        {
            "train": """
            data/image/78/1/2014/3ac218c0c6c378.jpg|1
            data/image/78/1/2012/0a0a0a0a0a0a0a.jpg|1
            data/image/9/1700/2013/bbbbbbbbbbbbbb.jpg|0
            """,
            "test": "data/image/9/1700/2013/cccccccccccccc.jpg|0|0",
        },
        {
            "data/train_test_split/classification/train.txt": "78/1/2014/3ac218c0c6c378.jpg\n"
            "78/1/2012/0a0a0a0a0a0a0a.jpg\n9/1700/2013/bbbbbbbbbbbbbb.jpg\n",
            "data/train_test_split/classification/test.txt": "9/1700/2013/cccccccccccccc.jpg\n",
        },
    ),
}
