"""A short, deterministic run of every fuzz target: its corpus, and mutations of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

MUTATIONS = 400  # of each target
FILES = [file for target in sorted(TARGETS) for file in sorted((CORPUS / target).iterdir())]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_the_corpus(file: Path) -> None:
    TARGETS[file.parent.name](file.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_of_the_corpus(target: str) -> None:
    source = random.Random(target)
    corpus = [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]
    for _ in range(MUTATIONS):
        data = mutated(source, corpus)
        try:
            TARGETS[target](data)
        except BaseException:
            print(f"the input: {data!r}")
            raise


def mutated(source: random.Random, corpus: list[bytes]) -> bytes:
    """Bytes changed, taken out, put in, or the rest taken from another input."""
    data = source.choice(corpus)
    for _ in range(source.randint(1, 4)):
        at = source.randint(0, len(data))
        match source.randrange(4):
            case 0:
                data = data[:at] + source.randbytes(1) + data[at + 1 :]
            case 1:
                data = data[:at] + data[at + source.randint(1, 16) :]
            case 2:
                data = data[:at] + source.randbytes(source.randint(1, 8)) + data[at:]
            case _:
                other = source.choice(corpus)
                data = data[:at] + other[source.randint(0, len(other)) :]
    return data
