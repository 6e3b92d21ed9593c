"""The console script, and `python -m pdplan`: quiet, too, where Ctrl-C comes while modules load."""

import gc
import sys

INTERRUPTED = 130
ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000
"""What modules make while they load stays: to look for garbage among it 70 times as often, as
Python does by itself, is a twentieth of a short command's time."""


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
    try:
        from pdplan.cli.app import run

        code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
