"""The door in: image files become a table of items, and the table becomes batches of pixels."""

from accord.data._augment import Augment, AugmentOptions
from accord.data._decode import Facts, decode, facts, load_image, prepare
from accord.data._inspect import Problem, inspect_folder, readable
from accord.data._manifest import ClassMap, fingerprint, manifest_from_json, manifest_to_json
from accord.data._names import printable
from accord.data._peek import encode_jpeg, loose_images, shorter_sides
from accord.data._sampling import PKBatches, TrainingBatches, generator_for
from accord.data._scan import BUILTIN, builtin, scan
from accord.data._split import check_leaks, split_classes
from accord.data._table import ImageTable

__all__ = [
    "BUILTIN",
    "Augment",
    "AugmentOptions",
    "ClassMap",
    "Facts",
    "ImageTable",
    "PKBatches",
    "Problem",
    "TrainingBatches",
    "builtin",
    "check_leaks",
    "decode",
    "encode_jpeg",
    "facts",
    "fingerprint",
    "generator_for",
    "inspect_folder",
    "load_image",
    "loose_images",
    "manifest_from_json",
    "manifest_to_json",
    "prepare",
    "printable",
    "readable",
    "scan",
    "shorter_sides",
    "split_classes",
]
