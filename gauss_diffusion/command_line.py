"""What every command does with wrong input."""

import sys
from typing import NoReturn


def refuse(reason: object) -> NoReturn:
  """End with one line on what is wrong and exit code 2."""
  print(f"error: {' '.join(str(reason).split())}", file=sys.stderr)
  sys.exit(2)
