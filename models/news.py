"""300 English news articles: gensim's Lee background corpus (LGPL-2.1; as test data only)."""

from pathlib import Path

from models.fetch import Wheel, check, download, holds, place, take, workspace

# gensim has one wheel per platform; every machine takes this one, since only a text is read.
WHEEL = Wheel(
    "gensim",
    "4.4.0",
    28,
    pip_options=(
        "--platform=manylinux_2_24_x86_64",
        "--python-version=3.11",
        "--implementation=cp",
        "--abi=cp311",
    ),
)
MEMBER = "gensim/test/test_data/lee_background.cor"
HASHES = {"news.txt": "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb"}


def bring(to: Path) -> Path:
    """Make `to`/news.txt, one article a line, as it is in the wheel; return its path."""
    if not holds(to, HASHES):
        with workspace(to / "news.txt") as work:
            text = work / "news.txt"
            take(download(WHEEL, work), MEMBER, text)
            check(text, HASHES["news.txt"], f"{WHEEL.requirement} {MEMBER}")
            place([text], to)
    return to / "news.txt"
