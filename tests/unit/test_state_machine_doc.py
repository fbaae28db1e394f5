"""The state machine that people read is the one that runs."""

import re
from pathlib import Path

from tallymesh_core.domain.states import TRANSITIONS, ChunkState, JobState

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "state-machine.md").read_text()
JOBS, CHUNKS = PAGE.split("\n## A chunk\n")
ARROW = re.compile(r"^    (\S+) --> (\S+): (.+)$", re.MULTILINE)

Transition = tuple[str, str, str]

IN_CODE = {
    (str(start), str(end), by) for start, ends in TRANSITIONS.items() for end, by in ends.items()
}


def rows(text: str) -> list[list[str]]:
    """The cells of every row of a table, without its head."""
    tables = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in tables][2:]


def drawn(text: str) -> set[Transition]:
    """The transitions of a picture, but for the one by which all begins."""
    return {
        (start, end, by)
        for start, end, by in ARROW.findall(text)
        if (start, by) != ("[*]", "submit")
    }


def test_the_table_of_jobs_is_the_one_of_the_code() -> None:
    table = [tuple(row) for row in rows(JOBS)]
    final = {(str(state), "–", "–") for state in JobState if not TRANSITIONS[state]}
    assert sorted(table) == sorted(IN_CODE | final)


def test_the_picture_of_jobs_is_the_table() -> None:
    assert drawn(JOBS) == IN_CODE


def test_the_picture_of_chunks_is_their_table() -> None:
    table = {(row[0], row[1]) for row in rows(CHUNKS)}
    assert {(start, end) for start, end, _ in drawn(CHUNKS)} == table
    assert {state for pair in table for state in pair} == set(ChunkState)
