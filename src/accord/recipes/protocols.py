"""The published evaluation protocols of the field: what each table measures, how it asks, and what we know of it."""

from dataclasses import dataclass

from accord.errors import UnknownNameError
from accord.types import Json

ONE_TO_EIGHT = ("recall@1", "recall@2", "recall@4", "recall@8")
ONE_TO_THOUSAND = ("recall@1", "recall@10", "recall@100", "recall@1000")
CENTRE_CROP = "shorter side to 256 pixels, centre crop of 227"


@dataclass(frozen=True)
class Protocol:
    """What a paper's or data set's tables report.

    `metrics` have a value per query; `clusters` are the ones from k-means that its tables show, averaged over
    `nmi_seeds` runs with as many groups as classes. `asks` is `leave-one-out` (each test image among all others) or
    `query/gallery` (published lists). `images` is how test images are brought to size, where we know; `embedding` the
    sizes its tables compare at. `split` says what is tested on, `table` names a section of figures that are no
    retrieval and stand beside it. `source` is where the protocol is published, and `recalled` lists what of all this
    was written down from memory and not read in a source.
    """

    name: str
    summary: str
    source: str
    metrics: tuple[str, ...]
    asks: str = "leave-one-out"
    exclude: str = "self"
    clusters: tuple[str, ...] = ()
    knn: int = 3
    nmi_seeds: int = 10
    images: str = ""
    embedding: str = ""
    split: str = ""
    table: str = ""
    recalled: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()

    def as_json(self) -> Json:
        """The protocol as plain data, for a report."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


_TABLE = (
    Protocol(
        "cub",
        "CUB-200-2011: R@1, 2, 4, 8 and NMI on classes 101 to 200",
        "Oh Song et al., CVPR 2016, and the tables since",
        ONE_TO_EIGHT,
        clusters=("nmi",),
        split="classes 1-100 train, 101-200 test (5,864 / 5,924 images)",
        recalled=("the numbers of images",),
    ),
    Protocol(
        "cars",
        "Cars196: R@1, 2, 4, 8 and NMI on classes 99 to 196",
        "Oh Song et al., CVPR 2016, and the tables since",
        ONE_TO_EIGHT,
        clusters=("nmi",),
        split="classes 1-98 train, 99-196 test (8,054 / 8,131 images)",
        recalled=("the numbers of images",),
    ),
    Protocol(
        "sop",
        "Stanford Online Products: R@1, 10, 100, 1000 and NMI on 11,316 classes",
        "Oh Song et al., CVPR 2016, and the tables since",
        ONE_TO_THOUSAND,
        clusters=("nmi", "f1"),
        split="Ebay_train.txt / Ebay_test.txt: 11,318 / 11,316 classes, 59,551 / 60,502 images",
        recalled=("that F1 stands in its tables, too",),
    ),
    Protocol(
        "in_shop",
        "In-Shop Clothes Retrieval: R@1, 10, 20, 30, 40, 50, queries against the gallery",
        "Liu et al., CVPR 2016 (DeepFashion)",
        tuple(f"recall@{k}" for k in (1, 10, 20, 30, 40, 50)),
        asks="query/gallery",
        split="list_eval_partition.txt: 14,218 queries, 12,612 gallery images of 3,985 classes; 25,882 of 3,997 train",
        recalled=("the list of k",),
    ),
    Protocol(
        "mlrc",
        "A Metric Learning Reality Check: P@1, R-precision and MAP@R",
        "Musgrave, Belongie, Lim, ECCV 2020",
        ("recall@1", "r_precision", "map@r"),
        images=CENTRE_CROP,
        embedding="128, or 512 by joining the four models of the folds",
        split="second half of the classes; settings are chosen by 4 class-disjoint folds of the first",
        recalled=("the size of the crop",),
        deviations=("its P@1 is our recall@1: with one neighbour the two are one",),
    ),
    Protocol(
        "proxy_nca",
        "Proxy-NCA: R@1, 2, 4, 8 and NMI of 64-d embeddings",
        "Movshovitz-Attias et al., ICCV 2017",
        ONE_TO_EIGHT,
        clusters=("nmi",),
        images=CENTRE_CROP,
        embedding="64",
        split="first half of the classes trains, second half is tested (CUB, Cars); Ebay_train / Ebay_test (SOP)",
        recalled=("the size of the embedding and of the crop",),
        deviations=("its published R@4 and R@8 do not fit its own R@1 and R@2; re-implementations reach more",),
    ),
    Protocol(
        "n_pair",
        "N-pair: verification, identification, recognition, F1, NMI (mean of 10 k-means runs) and R@1, 2, 4, 8",
        "Sohn, NIPS 2016",
        (*ONE_TO_EIGHT, "knn_accuracy"),
        clusters=("f1", "nmi"),
        split="classes never seen in training; Cars196, CUB-200 and LFW, or any other",
        table="n_pair",
        recalled=("that scores are cosines, averaged over crops and flips: here there is one crop",),
        deviations=(
            "recognition and verification against k negatives are of classes never seen, not of trained ones as there",
            "folds of pairs and galleries are drawn from the classes at hand; figures for LFW need its own lists",
        ),
    ),
    Protocol(
        "n_pair_sop",
        "N-pair on Stanford Online Products: F1, NMI and R@1, 10, 100, 1000",
        "Sohn, NIPS 2016",
        ONE_TO_THOUSAND,
        clusters=("f1", "nmi"),
        split="Ebay_train.txt / Ebay_test.txt",
        recalled=("that scores are cosines, averaged over crops and flips: here there is one crop",),
    ),
    Protocol(
        "ensemble",
        "Ensemble of losses: R@1, 2, 4, 8, NMI and 3-nearest-neighbour accuracy",
        "Zabihzadeh, Alitbi, Mousavirad, MTAP 2023; settings from the code of its first author",
        (*ONE_TO_EIGHT, "knn_accuracy"),
        clusters=("nmi",),
        images=CENTRE_CROP,
        embedding="64 per loss, joined; 128 compressed",
        split="first half of the classes trains, second half is tested",
        deviations=(
            "it ranks by Euclidean distance, not the cosine: one order where the joined embedding has unit length",
            "its figures are of the best epoch on the test classes; here the epoch is chosen on validation classes",
        ),
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _TABLE}


def find_protocol(name: str) -> Protocol:
    """A protocol by its name; a wrong one gets a suggestion."""
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
