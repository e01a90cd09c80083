"""The door in: image files become a table of items, and the table becomes batches of pixels."""

from accord.data._archives import unpack
from accord.data._augment import Augment, AugmentOptions
from accord.data._benchmarks import read_benchmark
from accord.data._decode import Facts, decode, facts, load_image, prepare
from accord.data._faces import FacePairs, names_a_face, read_pairs
from accord.data._groups import with_groups
from accord.data._hard_batches import ClassTable, HardClassBatches
from accord.data._inspect import Problem, inspect_folder, inspect_manifest, no_manifest, readable
from accord.data._manifest import ClassMap, fingerprint, manifest_from_json, manifest_to_json
from accord.data._names import printable
from accord.data._open import LAYOUTS, read_images, read_table
from accord.data._orl_faces import orl_faces
from accord.data._parquet import parquet_file
from accord.data._peek import encode_jpeg, loose_images, shorter_sides
from accord.data._related import GROUPS_NOTE, read_related, split_related, with_relations
from accord.data._relation_batches import RelationBatches
from accord.data._relations import relation_kind
from accord.data._sampling import BatchPlan, PKBatches, RelationPlan, TrainingBatches, generator_for
from accord.data._scan import BUILTIN, builtin, scan
from accord.data._split import check_leaks, default_folds, fold_classes, split_classes
from accord.data._table import ImageTable
from accord.data._tabular import manifest_to_csv

__all__ = [
    "BUILTIN",
    "GROUPS_NOTE",
    "LAYOUTS",
    "Augment",
    "AugmentOptions",
    "BatchPlan",
    "ClassMap",
    "ClassTable",
    "FacePairs",
    "Facts",
    "HardClassBatches",
    "ImageTable",
    "PKBatches",
    "Problem",
    "RelationBatches",
    "RelationPlan",
    "TrainingBatches",
    "builtin",
    "check_leaks",
    "decode",
    "default_folds",
    "encode_jpeg",
    "facts",
    "fingerprint",
    "fold_classes",
    "generator_for",
    "inspect_folder",
    "inspect_manifest",
    "load_image",
    "loose_images",
    "manifest_from_json",
    "manifest_to_csv",
    "manifest_to_json",
    "names_a_face",
    "no_manifest",
    "orl_faces",
    "parquet_file",
    "prepare",
    "printable",
    "read_benchmark",
    "read_images",
    "read_pairs",
    "read_related",
    "read_table",
    "readable",
    "relation_kind",
    "scan",
    "shorter_sides",
    "split_classes",
    "split_related",
    "unpack",
    "with_groups",
    "with_relations",
]
