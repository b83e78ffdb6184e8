"""What lies outside the checkout: shared data and peers. A test without them skips and says why; in CI it fails."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]


def missing(reason: str) -> NoReturn:
    """Skip a test visibly; where CI is set nothing may be missing, so there it fails."""
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(f"in CI nothing may be missing: {reason}")
    pytest.skip(reason)


def shared(*parts: str) -> Path:
    """A path in the shared folder: $SEDSOFT_SHARED, or `shared` beside the checkout."""
    folder = Path(os.environ.get("SEDSOFT_SHARED") or ROOT.parent / "shared")
    path = folder.joinpath(*parts)
    if not path.exists():
        missing(f"no {'/'.join(parts) or 'shared folder'} in {folder}: set SEDSOFT_SHARED to where it is")
    return path


def peers_python() -> Path:
    """The interpreter that has sed_scores_eval, sed_eval, librosa: $SEDSOFT_PEERS, or what `make setup` made."""
    chosen = os.environ.get("SEDSOFT_PEERS")
    path = Path(chosen) if chosen else ROOT / ".peers" / "bin" / "python"
    if path.exists():
        return path
    if chosen:
        missing(f"SEDSOFT_PEERS is {chosen}, where no file is")
    note = ROOT / ".peers" / "unavailable.txt"
    missing(f"no peers: {note.read_text(encoding='utf-8').strip() if note.exists() else 'run `make setup`'}")
