"""Stands in for a study's worker: copies a finished run made beforehand, or fails, hangs or dies as its test wants.

The test writes `behaviour.json` (pattern of a run's name → what to do) and finished runs into the folder $STUDY_STUB.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path


def tell(entry: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(entry).encode() + b"\n")


def end(how: str, code: int) -> None:
    tell({"end": how})
    os._exit(code)


def follow() -> None:
    while os.read(0, 1):
        pass
    end("stopped", 143)


def main() -> None:
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=follow, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: end("stopped", 143))
    here, out = Path(os.environ["STUDY_STUB"]), Path(order["out"])
    name = "/".join(out.parts[-4:])
    with (here / "started.txt").open("a") as file:
        file.write(name + "\n")
    (here / "orders").mkdir(exist_ok=True)
    (here / "orders" / name.replace("/", "+")).write_text(json.dumps(order))
    rules = json.loads((here / "behaviour.json").read_text())
    what = next((rule for pattern, rule in rules.items() if re.search(pattern, name)), "finish")
    print("a library says something")
    tell({"stage": "training", "done": 1, "total": 2})
    tell({"stage": "embedding", "done": 1, "total": 2})
    if what == "finish" or what.startswith("score"):
        shutil.copytree(here / what, out)
        end("finished", 0)
    elif what == "fail":
        tell({"warning": "it looks bad"})
        tell({"end": "failed", "message": "it went wrong", "trace": "a traceback"})
        os._exit(3)
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "crash":
        sys.exit("out of luck")
    elif what == "lie":
        end("finished", 0)
    elif what == "stop":
        end("stopped", 143)
    while True:
        time.sleep(0.05)


if __name__ == "__main__":
    main()
