"""Holds the coverage floors: 100 % in the quiet rooms, 90 % in every other one."""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

QUIET = {"geometry.py", "checks.py", "mining", "losses", "ensembles", "evaluation"}


def main() -> int:
    """Read the coverage data of the last pytest run and compare each room with its floor."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)], check=True)
        files = json.loads(report.read_text())["files"]
    rooms: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    missing: dict[str, list[str]] = defaultdict(list)
    for name, facts in files.items():
        room = Path(name).parts[2]
        total = facts["summary"]
        rooms[room][0] += total["covered_lines"] + total.get("covered_branches", 0)
        rooms[room][1] += total["num_statements"] + total.get("num_branches", 0)
        if facts["missing_lines"]:
            missing[room].append(f"{name}: {facts['missing_lines']}")
    failed = False
    for room, (covered, total) in sorted(rooms.items()):
        share, floor = 100.0 * covered / max(total, 1), 100.0 if room in QUIET else 90.0
        low = share < floor
        failed |= low
        print(f"{room:<14} {share:6.1f} %  (floor {floor:.0f} %){'  TOO LOW' if low else ''}")
        for line in missing[room] if low else ():
            print(f"    {line}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
