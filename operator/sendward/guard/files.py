"""Files that are replaced as a whole: a reader sees the old content or the new, also after a crash."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, content: bytes, *, durable: bool) -> None:
    """Write `content` beside `path` and rename; `durable` waits for the disk. Mode 0600. Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # half a file would keep a full disk full
        raise
    if durable:
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
