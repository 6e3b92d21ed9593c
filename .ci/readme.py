"""Print the command that README.md gives under a marker: `python .ci/readme.py try|test`.

CI runs what the README tells people to run, not a copy of it.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def command(marker: str) -> str:
    """The bash block that follows `<!-- ci: MARKER -->`."""
    found = re.search(rf"<!-- ci: {marker} -->\n```bash\n(.+?)```", README.read_text(encoding="utf-8"), re.S)
    if not found:
        raise SystemExit(f"README.md has no block marked 'ci: {marker}'")
    return found.group(1)


if __name__ == "__main__":
    print(command(sys.argv[1]), end="")
