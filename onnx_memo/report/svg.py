"""SVG, element by element: text is escaped, lengths are rounded to a tenth of a picture unit.

What is drawn has CSS classes and no colours of its own: they come from the page's style sheet, so that a
picture has a dark mode where the page has one, or from one inside a picture that is a file of its own.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from onnx_memo.report.numbers import escaped

NAMESPACE = "http://www.w3.org/2000/svg"
LONGEST_LINE = 200  # characters of a line of text
FEW_DOTS, MANY_DOTS = 20, 500  # fewer are drawn solid, more of them fainter

Point = tuple[float, float]


def element(tag: str, content: str = "", **attributes: str | float | None) -> str:
    """An element around markup.

    Args:
        tag: its name.
        content: markup, which is not escaped; none: the element closes itself.
        attributes: `class_` is `class`, `text_anchor` is `text-anchor`; those that are None are left out.
    """
    head = tag
    for name, value in attributes.items():
        if value is not None:
            text = html.escape(value) if isinstance(value, str) else _n(value)
            head += f' {name.rstrip("_").replace("_", "-")}="{text}"'
    return f"<{head}>{content}</{tag}>" if content else f"<{head}/>"


class Drawing:
    """A picture: its methods draw one over the other, `svg` gives the result."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._elements: list[str] = []

    def svg(self, head: str = "", **attributes: str | float | None) -> str:
        """The picture as an SVG element.

        Args:
            head: markup before what is drawn, such as a title or a style sheet.
            attributes: of the element, as `element` takes them.
        """
        box = f"0 0 {_n(self.width)} {_n(self.height)}"
        return element("svg", head + "".join(self._elements), xmlns=NAMESPACE, viewBox=box, **attributes)

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """One line of text; `anchor` is start, middle or end."""
        line = escaped(text, LONGEST_LINE)
        self._add("text", line, x=x, y=y, class_=kind or None, text_anchor=anchor)

    def line(self, points: Sequence[Point], kind: str) -> None:
        """A line through the points."""
        self._add("path", class_=f"line {kind}", d=_path(points))

    def area(self, points: Sequence[Point], kind: str) -> None:
        """A line through the points, the space between it and the first point's height filled."""
        self._add("path", class_=f"area {kind}", d=_path(points))

    def rect(
        self,
        corner: Point,
        size: Point,
        kind: str,
        note: str = "",
        *,
        round_by: float | None = None,
    ) -> None:
        """A rectangle of `size` (width, height) below and right of its corner; see `ring` for the note."""
        place = {"x": corner[0], "y": corner[1], "rx": round_by}
        self._add("rect", _title(note), class_=kind, **place, width=size[0], height=size[1])

    def dots(self, points: Iterable[Point], kind: str, radius: float = 2.4) -> None:
        """Round dots, half transparent where there are many."""
        points = list(points)
        shade = " solid" if len(points) < FEW_DOTS else " dense" if len(points) > MANY_DOTS else ""
        circles = "".join(element("circle", cx=x, cy=y, r=radius) for x, y in points)
        self._add("g", circles, class_=f"dots {kind}{shade}")

    def crosses(self, points: Iterable[Point], kind: str, size: float = 4.4) -> None:
        """Crosses that are `size` wide and high."""
        half, arm = size / 2, _n(size)
        path = "".join(f"M{_n(x - half)} {_n(y - half)}l{arm} {arm}m0-{arm}l-{arm} {arm}" for x, y in points)
        self._add("path", class_=f"cross {kind}", d=path or "M0 0")

    def ring(self, centre: Point, kind: str, note: str = "", *, radius: float = 4.5) -> None:
        """A ring with a note, if there is one, that shows when it is pointed at."""
        self._add("circle", _title(note), class_=f"ring {kind}", cx=centre[0], cy=centre[1], r=radius)

    def _add(self, tag: str, content: str = "", **attributes: str | float | None) -> None:
        self._elements.append(element(tag, content, **attributes))


def _title(note: str) -> str:
    return element("title", escaped(note)) if note else ""


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
