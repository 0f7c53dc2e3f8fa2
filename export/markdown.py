"""The little Markdown that generated pages need."""

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the bars that cells contain are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines
    )


def plain(text: str) -> str:
    """Escape any text to one line without Markdown or HTML."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


_SPECIAL = re.compile(r"[\\`*_{}\[\]<>()#+!~&]")


def bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def page(blocks: Iterable[str]) -> str:
    """The blocks that are not empty, an empty line between each two."""
    return "\n\n".join(block for block in blocks if block) + "\n"
