"""One self-contained HTML page: text, tables and pictures in, one file out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from stillsun.qa._pagestyle import SCRIPT, STYLE

_MIME = {"png": "image/png", "jpg": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """
    A picture inside the page.

    Attributes
    ----------
    data : bytes
        The encoded picture.
    kind : str
        ``"png"`` or ``"jpg"``.
    text : str
        What it shows, for those who do not see it.
    caption : str
        Words below it; empty for none.
    """

    data: bytes
    kind: str
    text: str
    caption: str = ""

    def image(self) -> str:
        """
        The bare picture.

        Returns
        -------
        str
            HTML.
        """
        source = f"data:{_MIME[self.kind]};base64,{base64.b64encode(self.data).decode()}"
        return f'<img alt="{escape(self.text)}" src="{source}">'

    def html(self) -> str:
        """
        The picture with its caption.

        Returns
        -------
        str
            HTML.
        """
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        return f"<figure>{self.image()}{caption}</figure>"


@dataclass
class Section:
    """
    A titled part of the page.

    Attributes
    ----------
    title : str
        Heading; also what the page's index calls it.
    parts : list of str
        HTML.
    """

    title: str
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """
        Add a heading.

        Parameters
        ----------
        text : str
            The heading.
        """
        self.parts.append(f"<h3>{escape(text)}</h3>")

    def words(self, text: str, kind: str = "") -> None:
        """
        Add a paragraph.

        Parameters
        ----------
        text : str
            The paragraph.
        kind : str
            ``"why"`` for the reason that something is missing, ``"fine"`` for good news.
        """
        self.parts.append(f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>")

    def note(self, where: str, lines: Sequence[tuple[str, str]], *, kind: str = "", shown: int = 6) -> None:
        """
        Add what a person should know about one step.

        Parameters
        ----------
        where : str
            The step.
        lines : sequence of (str, str)
            What there is to know, and what to do about it (may be empty).
        kind : str
            ``"failed"`` for what went wrong, ``"quiet"`` for what is only told.
        shown : int
            Lines shown at once; the others unfold.
        """
        todo = ['<span class="todo">' + escape(remedy) + "</span>" if remedy else "" for _, remedy in lines]
        items = [f"<li>{escape(line)}{then}</li>" for (line, _), then in zip(lines, todo, strict=True)]
        text = f"<ul>{''.join(items[:shown])}</ul>"
        if len(items) > shown:
            rest = f"<ul>{''.join(items[shown:])}</ul>"
            text += f"<details><summary>{len(items) - shown} more</summary>{rest}</details>"
        self.parts.append(f'<div class="note{f" {kind}" if kind else ""}"><b>{escape(where)}</b>{text}</div>')

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """
        Add a table; its first column holds the rows' names.

        Parameters
        ----------
        head : sequence of str
            Names of the columns.
        rows : sequence of sequence of str
            Cells.
        """
        top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in rows
        )
        self.parts.append(
            f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def links(self, links: Sequence[tuple[str, str]]) -> None:
        """
        Add a list of links to files near the page.

        Parameters
        ----------
        links : sequence of (str, str)
            Text and relative address.
        """
        items = "".join(f'<li><a href="{escape(address)}">{escape(text)}</a></li>' for text, address in links)
        self.parts.append(f"<ul>{items}</ul>")

    def pictures(self, pictures: Sequence[Picture]) -> None:
        """
        Add pictures, side by side where there is room.

        Parameters
        ----------
        pictures : sequence of Picture
            The pictures.
        """
        self.parts.append(f'<div class="row">{"".join(p.html() for p in pictures)}</div>')

    def blinks(self, groups: Sequence[Sequence[Picture]], names: Sequence[str]) -> None:
        """
        Add groups of pictures of the same size; of each group one is seen at a time, the last at first.

        Parameters
        ----------
        groups : sequence of sequence of Picture
            The pictures, as many in each group as there are names; the caption of the last is shown.
        names : sequence of str
            What the buttons say.
        """
        buttons = "".join(
            f'<button type="button" aria-pressed="{str(number == len(names) - 1).lower()}">'
            f"{escape(label)}</button>"
            for number, label in enumerate((*names, "Blink"))
        )
        figures = "".join(
            f'<figure class="blink"><div class="buttons">{buttons}</div>'
            f'<div class="stack">{"".join(picture.image() for picture in group)}</div>'
            f"<figcaption>{escape(group[-1].caption)}</figcaption></figure>"
            for group in groups
        )
        self.parts.append(f'<div class="pairs">{figures}</div>')


@dataclass
class Page:
    """
    The page.

    Attributes
    ----------
    title : str
        Title.
    subtitle : str
        Line below the title.
    sections : list of Section
        Its parts.
    """

    title: str
    subtitle: str = ""
    sections: list[Section] = field(default_factory=list)

    def html(self) -> str:
        """
        The whole page.

        Returns
        -------
        str
            HTML that needs nothing else.
        """
        index = "".join(
            f'<a href="#part-{number}">{escape(section.title)}</a>'
            for number, section in enumerate(self.sections)
        )
        body = "".join(
            f'<section id="part-{number}"><h2>{escape(section.title)}</h2>{"".join(section.parts)}'
            "</section>\n"
            for number, section in enumerate(self.sections)
        )
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
            f'<header><h1>{escape(self.title)}</h1><p class="sub">{escape(self.subtitle)}</p>'
            f"<nav>{index}</nav></header>\n<main>\n{body}</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
        )
