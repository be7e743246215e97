"""How long work shows itself: a live line where a person watches, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watcher(title: str) -> Iterator[Callable[[str], None]]:
    """A function that shows one line of progress under `title` on standard error.

    On a terminal the line replaces the one before; in a file each is a line of its own, with the
    time.
    """
    live = sys.stderr.isatty()

    def show(line: str) -> None:
        if live:
            print(f"\r\033[K{title}  {line}", end="", file=sys.stderr, flush=True)
        else:
            print(f"{time.strftime('%H:%M:%S')}  {title}  {line}", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if live:
            print(file=sys.stderr)
