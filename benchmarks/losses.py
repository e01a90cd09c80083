"""Every loss that accord and pytorch-metric-learning share, side by side: time, memory, distance to the floor.

    python benchmarks/losses.py                  # everything, about an hour; resumes where it was stopped
    python benchmarks/losses.py --only circle    # rows whose name has "circle" in it
    python benchmarks/losses.py --table          # only print the tables of docs/benchmarks.md

One thread. Each row runs in a child of its own: forward + backward of both sides interleaved, medians of 21 runs of CPU
time (fewer where a side needs more than 40 seconds, then said so), then the peak extra memory of one run of each side.
The floor is the time of the matrix products alone (three of 2·B²·d operations, or two of 2·B·C·d and one more for
tables), at the rate of this machine's product measured in the same child. `--path onednn` takes the path that
`accord.tune()` may choose. Results go to benchmarks/losses.jsonl, one line per row; `--results`
takes another name, for two processes at a time.
"""

import argparse
import ctypes
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
PAIR_SIZES = (32, 128, 1024, 4096)
TABLE_SIZES = (32, 128, 1024, 4096)
CLASS_COUNTS = (100, 11318)
LIMIT = 14 * 2**30  # address space of a child, so that a peer's cube ends in an error and not in the machine's

# name: (ours, peer), as code that is run in the child with `L` our losses, `P` theirs, `M` their miners, `D` distances
PAIRS = {
    "contrastive": ("L.Contrastive()", "P.ContrastiveLoss(pos_margin=0, neg_margin=0.5)"),
    "triplet, all": ("L.TripletMargin(mining='all')", "P.TripletMarginLoss(margin=0.2)"),
    "triplet, semi-hard": (
        "L.TripletMargin(mining='semi_hard')",
        "mined(P.TripletMarginLoss(margin=0.2), M.TripletMarginMiner(0.2, 'semihard'))",
    ),
    "triplet, hard": (
        "L.TripletMargin(mining='hard')",
        "mined(P.TripletMarginLoss(margin=0.2), M.TripletMarginMiner(0.2, 'hard'))",
    ),
    "triplet, batch-hard": (
        "L.TripletMargin(mining='batch_hard')",
        "mined(P.TripletMarginLoss(margin=0.2), M.BatchHardMiner())",
    ),
    "nt_xent": ("L.NTXent()", "P.NTXentLoss(0.07)"),
    "sup_con": ("L.SupCon()", "P.SupConLoss(0.1)"),
    "n_pair": ("L.NPair()", "P.NPairsLoss()"),
    "nca": ("L.NCA()", "P.NCALoss()"),
    "multi_similarity": ("L.MultiSimilarity(epsilon=None)", "P.MultiSimilarityLoss()"),
    "multi_similarity + miner": (
        "L.MultiSimilarity()",
        "mined(P.MultiSimilarityLoss(), M.MultiSimilarityMiner(0.1))",
    ),
    "lifted_structure": ("L.LiftedStructure()", "P.LiftedStructureLoss()"),
    "generalised_lifted": ("L.GeneralisedLifted()", "P.GeneralizedLiftedStructureLoss()"),
    "angular": ("L.Angular()", "P.AngularLoss(45)"),
    "histogram": ("L.Histogram()", "P.HistogramLoss(100)"),
    "circle": ("L.Circle()", "P.CircleLoss()"),
    "margin": ("L.Margin(average='triplets')", "P.MarginLoss(learn_beta=True)"),
    "signal_to_noise": ("L.SignalToNoise()", "P.SignalToNoiseRatioContrastiveLoss(pos_margin=0, neg_margin=0.5)"),
    "tuplet_margin": ("L.TupletMargin()", "P.TupletMarginLoss()"),
    "fast_ap": ("L.FastAP()", "P.FastAPLoss()"),
    "smooth_ap (the peer's is wrong)": ("L.SmoothAP()", "P.SmoothAPLoss()"),
    "pnp": ("L.PNP()", "P.PNPLoss()"),
    "cross-batch memory of 8192": (
        "filled(L.CrossBatchMemory(L.Contrastive(), size=8192, dim=DIM))",
        "filled(P.CrossBatchMemory(P.ContrastiveLoss(pos_margin=0, neg_margin=0.5), DIM, memory_size=8192))",
    ),
}
TABLES = {
    "proxy_nca": ("L.ProxyNCA(DIM, C)", "P.ProxyNCALoss(C, DIM, softmax_scale=9)"),
    "proxy_anchor": ("L.ProxyAnchor(DIM, C)", "P.ProxyAnchorLoss(C, DIM)"),
    "soft_triple": ("L.SoftTriple(DIM, C, centres=10, tau=0.0)", "P.SoftTripleLoss(C, DIM, centers_per_class=10)"),
    "normalised_softmax": ("L.NormalisedSoftmax(DIM, C)", "P.NormalizedSoftmaxLoss(C, DIM)"),
    "cos_face": ("L.CosFace(DIM, C)", "P.CosFaceLoss(C, DIM)"),
    "arc_face": ("L.ArcFace(DIM, C)", "P.ArcFaceLoss(C, DIM)"),
    "sub_centre_arc_face": ("L.SubCentreArcFace(DIM, C)", "P.SubCenterArcFaceLoss(num_classes=C, embedding_size=DIM)"),
    "sphere_face": ("L.SphereFace(DIM, C)", "P.SphereFaceLoss(C, DIM)"),
}
MILLION = {name: ours for name, (ours, _) in TABLES.items() if name not in ("soft_triple", "sub_centre_arc_face")}


def rows() -> list[dict]:
    """Every measurement there is."""
    found = [{"name": n, "kind": "pair", "size": s, "dim": 128} for n in PAIRS for s in PAIR_SIZES]
    found += [
        {"name": n, "kind": "table", "size": s, "dim": 512, "classes": c}
        for n in TABLES
        for c in CLASS_COUNTS
        for s in TABLE_SIZES
    ]
    found += [{"name": n, "kind": "large", "size": 16384, "dim": 128} for n in PAIRS]
    found += [{"name": n, "kind": "million", "size": 128, "dim": 128, "classes": 10**6} for n in MILLION]
    found += [{"name": "ensemble of 8", "kind": "ensemble", "size": 2048, "dim": dim} for dim in (128, 512)]
    return found


def key(row: dict) -> tuple:
    return row["name"], row["kind"], row["size"], row["dim"], row.get("classes"), row.get("path", "default")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name or kind contains this")
    parser.add_argument("--sizes", type=int, nargs="*", help="only these batch sizes")
    parser.add_argument("--again", action="store_true", help="measure finished rows again")
    parser.add_argument("--path", default="default", choices=["default", "onednn"])
    parser.add_argument("--table", action="store_true", help="print the tables and stop")
    parser.add_argument("--results", default="losses.jsonl", help="file beside this one to which results go")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(json.loads(arguments.child))))
        return
    results = HERE / arguments.results
    done = _read([results]) if results.exists() else {}
    if not arguments.table:
        wanted = [{**row, "path": arguments.path} for row in rows()]
        wanted = [row for row in wanted if arguments.only in row["name"] + " " + row["kind"]]
        wanted = [row for row in wanted if not arguments.sizes or row["size"] in arguments.sizes]
        for place, row in enumerate(wanted, 1):
            if key(row) not in done or arguments.again:
                done[key(row)] = _in_child(row)
                results.write_text("".join(json.dumps(row) + "\n" for row in done.values()))
                print(f"{place}/{len(wanted)} {_line(done[key(row)])}", flush=True)
    print(tables(list(_read(sorted(HERE.glob("losses*.jsonl"))).values())))


def _read(files: list[Path]) -> dict[tuple, dict]:
    return {key(row): row for file in files for row in map(json.loads, file.read_text().splitlines())}


def _in_child(row: dict) -> dict:
    run = [sys.executable, __file__, "--child", json.dumps(row)]
    out = subprocess.run(run, capture_output=True, text=True, check=False)
    if out.returncode:
        return {**row, "error": (out.stderr.strip().splitlines() or [f"exit {out.returncode}"])[-1][:200]}
    return json.loads(out.stdout.splitlines()[-1])


def measure(row: dict) -> dict:
    """One row, in this process."""
    import torch

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    from accord.losses._products import choose_product_path

    choose_product_path(row["path"])
    sides = _sides(row)
    x, y = _batch(row["size"], row["dim"], row.get("classes"))
    _warm(sides, row)
    if row["kind"] not in ("large", "million"):
        row = {**row, **_times(sides, x, y), "floor": _floor(row)}
    return {**row, **{f"{name}_mib": _peak(side, x, y) for name, side in sides.items()}}


def _sides(row: dict) -> dict:
    from accord.ensembles import Ensemble, FixedWeights

    scope = {"DIM": row["dim"], "C": row.get("classes"), "mined": _mined, "filled": _filled}
    import accord.losses

    scope["L"] = accord.losses
    if row["kind"] == "ensemble":
        names = (
            "contrastive",
            "triplet, semi-hard",
            "nt_xent",
            "sup_con",
            "generalised_lifted",
            "multi_similarity",
            "circle",
            "fast_ap",
        )
        members = [eval(PAIRS[name][0], scope) for name in names]
        together = Ensemble({f"m{place}": loss for place, loss in enumerate(members)}, weighting=FixedWeights())
        alone = FixedWeights()
        alone.bind([f"m{place}" for place in range(len(members))])
        return {"ours": together, "peer": lambda x, y: alone(_stack([loss(x, y) for loss in members]))}
    ours, peer = (PAIRS if row["kind"] in ("pair", "large") else TABLES)[row["name"]]
    built = {"ours": eval(ours, scope)}
    if row["kind"] in ("pair", "table"):
        from pytorch_metric_learning import losses, miners

        built["peer"] = eval(peer, {**scope, "P": losses, "M": miners})
    return built


def _stack(losses: list):
    import torch

    return torch.stack(losses)


def _mined(loss, miner):
    return lambda x, y: loss(x, y, miner(x, y))


def _filled(loss):
    """A memory that is full before the clock starts."""
    import torch

    with torch.no_grad():
        for start in range(0, 8192, 1024):
            loss(*(part.detach() for part in _batch(1024, loss_dim(loss), None, start // 4)))
    return loss


def loss_dim(loss) -> int:
    """The width of a memory, ours or theirs."""
    return next(buffer.shape[1] for buffer in loss.buffers() if buffer.ndim == 2)


def _batch(size: int, dim: int, classes: int | None, first: int = 0):
    import torch

    x = torch.randn(size, dim, requires_grad=True)
    labels = torch.arange(size) // 4 + first if classes is None else torch.randint(0, classes, (size,))
    return x, labels[torch.randperm(size)]


def _warm(sides: dict, row: dict) -> None:
    """Load what is loaded once, on a batch too small to matter."""
    x, y = _batch(16, row["dim"], row.get("classes"))
    for side in sides.values():
        if row["kind"] != "million":
            side(x, y).backward()


def _run(side, x, y) -> float:
    x.grad = None
    for parameter in side.parameters() if hasattr(side, "parameters") else ():
        parameter.grad = None
    begin = time.thread_time()
    side(x, y).backward()
    return time.thread_time() - begin


def _times(sides: dict, x, y) -> dict:
    """Medians in milliseconds; both sides in turn."""
    seconds: dict = {name: [] for name in sides}
    errors = {}
    spent = dict.fromkeys(sides, 0.0)
    for _ in range(21 + 2):
        for name, side in sides.items():
            if name in errors or (spent[name] > 40 and len(seconds[name]) > 3):
                continue
            try:
                seconds[name].append(_run(side, x, y))
                spent[name] += seconds[name][-1]
            except (MemoryError, RuntimeError, ValueError) as error:
                short = "out of memory" if "memory" in str(error).lower() else f"fails: {error}"[:80]
                errors[f"{name}_error"] = errors[name] = short
    out = {f"{name}_error": text for name, text in errors.items() if not name.endswith("_error")}
    for name, found in seconds.items():
        if name not in errors:
            kept = found[2:] if len(found) > 4 else found[1:] or found
            out |= {f"{name}_ms": median(kept) * 1e3, f"{name}_runs": len(kept)}
    return out


def _floor(row: dict) -> float:
    """Milliseconds of the products alone."""
    import torch

    from accord.losses._products import times

    items = row["size"] // 4 if row["name"] == "n_pair" else row["size"]  # a pair a class
    columns = row.get("classes") or items
    q, k = torch.randn(min(128, items), row["dim"]), torch.randn(min(columns, 20000), row["dim"])
    seconds = []
    for _ in range(15):
        begin = time.thread_time()
        times(q, k)
        seconds.append(time.thread_time() - begin)
    rate = len(q) * len(k) / median(seconds)
    return 3 * items * columns / rate * 1e3


def _peak(side, x, y) -> float | None:
    """MiB above what the process held before, gradients included."""
    x.grad = None
    for parameter in side.parameters() if hasattr(side, "parameters") else ():
        parameter.grad = None
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    try:
        side(x, y).backward()
    except (MemoryError, RuntimeError, ValueError):
        return None
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise LookupError(field)


def _line(row: dict) -> str:
    shown = {name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()}
    return " ".join(f"{name}={value}" for name, value in shown.items())


def tables(found: list[dict]) -> str:
    """All tables of the page."""
    parts = []
    for path in dict.fromkeys(row.get("path", "default") for row in found):
        here = [row for row in found if row.get("path", "default") == path]
        parts += [f"\n### Products by the {path} path\n", _pair_table(here), _class_table(here), _rest(here)]
    return "\n".join(part for part in parts if part)


def _pair_table(found: list[dict]) -> str:
    at = {(row["name"], row["size"]): row for row in found if row["kind"] == "pair"}
    large = {row["name"]: row for row in found if row["kind"] == "large"}
    if not at:
        return ""
    sizes = [size for size in PAIR_SIZES if any(key[1] == size for key in at)]
    head = ["loss", *(f"×, B={size}" for size in sizes), "floor ÷ ours, B=1024, 4096", "peer MiB, B=1024 → 4096"]
    head += ["our MiB, B=1024 → 4096", "our MiB, B=16384"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in dict.fromkeys(name for name, _ in at):
        cells = [_ratio(at.get((name, size))) for size in sizes]
        big = [at.get((name, size)) for size in (1024, 4096)]
        cells.append(
            " · ".join(f"{row['floor'] / row['ours_ms']:.0%}" if row and "ours_ms" in row else "–" for row in big)
        )
        cells += [" → ".join(_mib(row, f"{side}_mib") for row in big) for side in ("peer", "ours")]
        lines.append(f"| {name} | " + " | ".join([*cells, _mib(large.get(name), "ours_mib")]) + " |")
    return "\n".join(lines) + "\n"


def _class_table(found: list[dict]) -> str:
    at = {(row["name"], row["classes"], row["size"]): row for row in found if row["kind"] == "table"}
    million = {row["name"]: row for row in found if row["kind"] == "million"}
    if not at:
        return ""
    head = ["loss", "classes", *(f"×, B={size}" for size in TABLE_SIZES), "floor ÷ ours, B=4096", "peer MiB, B=4096"]
    head += ["our MiB, B=4096", "MiB beside weights and gradient, 1,000,000 × 128"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, classes in dict.fromkeys((name, classes) for name, classes, _ in at):
        cells = [_ratio(at.get((name, classes, size))) for size in TABLE_SIZES]
        last = at.get((name, classes, 4096))
        cells.append(f"{last['floor'] / last['ours_ms']:.0%}" if last and "ours_ms" in last else "–")
        cells += [_mib(last, "peer_mib"), _mib(last, "ours_mib")]
        many = million.get(name)
        gradient = 10**6 * 128 * 4 / 2**20
        beside = f"{many['ours_mib'] - gradient:.0f}" if many and many.get("ours_mib") and classes == 11318 else ""
        lines.append(f"| {name} | {classes:,} | " + " | ".join([*cells, beside]) + " |")
    return "\n".join(lines) + "\n"


def _rest(found: list[dict]) -> str:
    lines = [
        f"Eight losses at once, B=2048, d={row['dim']}: ×{row['peer_ms'] / row['ours_ms']:.1f} against one by one."
        for row in found
        if row["kind"] == "ensemble" and "ours_ms" in row
    ]
    errors = [f"{row['name']} ({row['kind']}, {row['size']}): {row['error']}" for row in found if "error" in row]
    return "\n".join(lines + errors) + "\n"


def _ratio(row: dict | None) -> str:
    if row is None or "ours_ms" not in row:
        return "–"
    if "peer_ms" not in row:
        return f"peer {row.get('peer_error', 'fails')}"
    few = "" if row["peer_runs"] >= 20 else f" ({row['peer_runs']} runs)"
    return f"{row['peer_ms'] / row['ours_ms']:.1f}{few}"


def _mib(row: dict | None, side: str) -> str:
    return "–" if row is None or row.get(side) is None else f"{row[side]:.0f}"


if __name__ == "__main__":
    main()
