"""Train on your own terms: the same rooms as `accord train`, without its recipe. Prints R@1 on unseen classes.

python examples/own_loop.py            # about a minute on 2 cores
python examples/own_loop.py --quick    # a few steps, to see that it runs
"""

import sys

import torch

from accord.data import Augment, AugmentOptions, ImageTable, PKBatches, TrainingBatches, builtin, split_classes
from accord.evaluation import evaluate
from accord.losses import TripletMargin
from accord.models import Embedder, LinearHead, build_backbone, build_pool, embed, freeze_batch_norm
from accord.runs import packaged_weights
from accord.training import Rates, parameter_groups, train, warmup_cosine
from accord.types import Preprocessing


def main(*, steps: int) -> float:
    """Semi-hard triplets on `objects`; any callable (embeddings, labels) -> scalar could stand in the loss's place."""
    manifest = split_classes(builtin("objects"), validation=0.0)
    look = Preprocessing(size=64)
    backbone = build_backbone("efficientnet_lite0")
    backbone.load_state_dict(packaged_weights("efficientnet_lite0"))
    freeze_batch_norm(backbone)
    torch.manual_seed(0)
    model = Embedder(backbone, build_pool("average"), {"triplet": LinearHead(backbone.width, 64)}, preprocessing=look)
    loss = TripletMargin(mining="semi_hard")

    table = ImageTable(manifest.only("train"), look, oversize=1.15)
    plan = PKBatches(table.labels, classes_per_batch=16, per_class=4, seed=0)
    batches = TrainingBatches(table, plan, Augment(AugmentOptions(), look.size), seed=0)
    optimizer = torch.optim.AdamW(parameter_groups(model, loss, rates=Rates(), weight_decay=1e-4))
    for step in train(
        model,
        loss,
        batches,
        optimizer,
        steps=steps,
        steps_per_epoch=len(plan),
        schedule=lambda number: warmup_cosine(number, steps=steps, warmup=0.05),
    ):
        if step.number % 20 == 0:
            print(f"step {step.number}: loss {float(step.loss):.3f}")

    unseen = ImageTable(manifest.only("test"), look)
    found = evaluate(embed(model, unseen.batches(), device="cpu"), clusters=False)
    print(f"R@1 on {found.counts['classes']} classes never seen: {found.metrics['recall@1']:.3f}")
    return found.metrics["recall@1"]


if __name__ == "__main__":
    main(steps=3 if "--quick" in sys.argv else 150)
