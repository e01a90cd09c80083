"""Dynamic assignment over very many proxies: seconds and memory of a step, and the floors of Proxy-NCA, measured.

    python benchmarks/proxies.py                 # 100,000 proxies of 128 numbers, a batch of 256; about a minute
    python benchmarks/proxies.py --proxies 10000

One thread; CPU time of forward and backward pass, medians; the ways are measured by turns. `product` is the time of one
items × proxies product, which no search for the nearest proxy can do without. Extra memory is the peak above what was
there before, in a child for each way; a table of items × proxies would take the last line's.
"""

import argparse
import ctypes
import math
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

from accord.losses import ProxyNCA, ProxyNCAPlusPlus, ProxyTriplet, ProxyWatch, proxy_nca

WAYS = {
    "proxy_nca, dynamic": lambda dim, count: ProxyNCA(dim, count, assignment="dynamic"),
    "proxy_nca++, dynamic": lambda dim, count: ProxyNCAPlusPlus(dim, count, assignment="dynamic"),
    "proxy_triplet, dynamic": lambda dim, count: ProxyTriplet(dim, count, assignment="dynamic"),
    "proxy_nca, dynamic, watched": lambda dim, count: watched(ProxyNCA(dim, count, assignment="dynamic")),
    "proxy_nca, static": lambda dim, count: ProxyNCA(dim, count),
    "proxy_nca, static, watched": lambda dim, count: watched(ProxyNCA(dim, count)),
}
FLOORS = [(98, 1, 1), (11318, 1, 1), (98, 1, 3), (11318, 1, 3), (98, 3, 3), (11318, 3, 3)]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("proxies", 100_000), ("dim", 128), ("batch", 256), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--child", choices=[*WAYS])
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.child:
        print(peak(given))
        return
    times(given)
    floors()


def times(given: argparse.Namespace) -> None:
    """Seconds and memory of each way."""
    x, labels = batch(given)
    made = {name: make(given.dim, given.proxies) for name, make in WAYS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ("product", *made)}
    for number in range(given.rounds + 1):
        print(f"\rround {number} of {given.rounds}", end="", file=sys.stderr, flush=True)
        for name, loss in made.items():
            begin = time.process_time()
            step(loss, x, labels)
            seconds[name].append(time.process_time() - begin)
            loss.proxies.grad = None
        begin = time.process_time()
        x @ made["proxy_nca, static"].proxies.detach().T
        seconds["product"].append(time.process_time() - begin)
    print(file=sys.stderr)
    print(f"{given.proxies:,} proxies × {given.dim}, batch {given.batch}\n{'':<32}{'seconds':>9}{'extra MiB':>11}")
    for name, each in seconds.items():
        memory = "" if name == "product" else f"{child(name, given):>11.0f}"
        print(f"{name:<32}{median(each[1:]):>9.3f}{memory}")
    print(f"{'items × proxies':<32}{'':>9}{given.batch * given.proxies * 4 / 2**20:>11.0f}")
    print(f"{'table, and its gradient, each':<32}{'':>9}{given.dim * given.proxies * 4 / 2**20:>11.0f}")


def floors() -> None:
    """The lowest value of the included form, by formula and by the loss on a simplex of proxies."""
    print(f"\n{'classes':>8}{'N_x':>5}{'N_p':>5}{'formula':>10}{'the loss':>10}{'excluded':>10}")
    for classes, item, proxy in FLOORS:
        formula = math.log1p((classes - 1) * math.exp(-2 * item * proxy * classes / (classes - 1)))
        corners = torch.eye(classes) - 1 / classes
        few, scale = torch.arange(8), math.sqrt(item * proxy)
        included = proxy_nca(corners[:8], few, corners, scale=scale, positive="included")
        excluded = proxy_nca(corners[:8], few, corners, scale=scale)
        print(f"{classes:>8}{item:>5}{proxy:>5}{formula:>10.4f}{included:>10.4f}{excluded:>10.2f}")


def watched(loss: ProxyNCA) -> ProxyNCA:
    ProxyWatch(loss)
    return loss


def batch(given: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(given.batch, given.dim, generator=source)
    return x, torch.arange(given.batch) // 4


def step(loss: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor) -> None:
    loss(x.clone().requires_grad_(), labels).backward()


def child(name: str, given: argparse.Namespace) -> float:
    """The peak of one way, in a process of its own."""
    sizes = [f"--proxies={given.proxies}", f"--dim={given.dim}", f"--batch={given.batch}"]
    command = [sys.executable, __file__, "--child", name, *sizes]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak(given: argparse.Namespace) -> float:
    """MiB of memory that a step takes beyond its table."""
    small = argparse.Namespace(**{**vars(given), "proxies": 300})
    step(WAYS[given.child](given.dim, small.proxies), *batch(small))  # whatever is loaded only once
    loss, (x, labels) = WAYS[given.child](given.dim, given.proxies), batch(given)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before = resident("VmRSS")
    step(loss, x, labels)
    return resident("VmHWM") - before


def resident(what: str) -> float:
    """MiB in use, or their peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
