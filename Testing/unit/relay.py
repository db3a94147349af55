"""Runs a command and hands its bytes on, slowly, in pieces, or not at all after a while.

    python relay.py [--pause S] [--piece N] [--fault KIND --after BYTES] -- COMMAND…

Faults of what the command answers: ``close`` (the stream ends there), ``silence`` (nothing more
comes, nothing more is taken), ``garbage`` (other bytes come between), ``banner`` (a line of text
comes first).
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import threading
import time


def hand_on(read: int, write: int, piece: int, pause: float, after: int, fault: str) -> None:
    rng = random.Random(0)
    passed = 0
    if fault == "banner":
        os.write(write, b"Welcome to host17!\nLast login: today\n")
    while data := os.read(read, rng.randint(1, piece)):
        if fault and passed <= after < passed + len(data):
            if fault == "garbage":
                os.write(write, b"segfault? " * 9)
            if fault == "close":
                return
            if fault == "silence":
                time.sleep(3600)
        passed += len(data)
        time.sleep(pause)
        while data:
            data = data[os.write(write, data) :]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--piece", type=int, default=1 << 16)
    parser.add_argument("--fault", default="")
    parser.add_argument("--after", type=int, default=0)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    child = subprocess.Popen(given.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None

    def inward() -> None:
        hand_on(0, child.stdin.fileno(), given.piece, given.pause, 0, "")
        child.stdin.close()

    threading.Thread(target=inward, daemon=True).start()
    out = child.stdout.fileno()
    hand_on(out, 1, given.piece, given.pause, given.after, given.fault)
    if given.fault == "close":
        os.close(1)
        time.sleep(3600)
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
