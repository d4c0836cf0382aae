"""Stage `report`: the page by which a person judges a run."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from stillsun.config.schema import StageName
from stillsun.io.atomic import write_whole
from stillsun.qa.channel import SUMMARY, channel_report
from stillsun.qa.checklist import Check, checklist
from stillsun.qa.page import Page, Section
from stillsun.qa.products import ChannelReport
from stillsun.stages._reportfile import report_json
from stillsun.stages.base import StageContext

_AFTER_FAILURE = "When that is put right, the same command goes on from there; what is finished stays."
_Said = TypeVar("_Said", bound=Hashable)
_MARKS = {True: "✓", False: "✗", None: "?"}


def run(ctx: StageContext) -> list[Path]:
    """
    Write the page and the pictures beside it, from whatever products there are.

    Parameters
    ----------
    ctx : StageContext
        What the stage may use.

    Returns
    -------
    list of Path
        The page, the pictures, and checklist and headlines as JSON.
    """
    reports: dict[str, ChannelReport] = {}
    checks: dict[str, list[Check]] = {}
    for number, (name, channel) in enumerate(ctx.channels.items()):

        def progress(done: int, total: int, base: int = 100 * number) -> None:
            ctx.progress(base + 100 * done // max(total, 1), 100 * len(ctx.channels))

        checks[name] = checklist(
            channel,
            ctx.config.quality,
            files=len(list(channel.paths.destretched.glob("*.fits"))) or None,
        )
        reports[name] = channel_report(
            channel,
            picture_size=ctx.config.picture_size,
            dim_fraction=ctx.config.dim_fraction,
            progress=progress,
        )
    page = Page(
        ctx.config.title or ctx.observation.name,
        f"{ctx.provenance['program']} {ctx.provenance['version']}, {ctx.observation.telescope.name}, "
        f"{len(reports)} channel{'' if len(reports) == 1 else 's'}",
        [
            _first(ctx, reports, checks),
            _summary(reports),
            _checklist(checks),
            *(report.section for report in reports.values()),
            _movies(ctx),
            _timing(ctx),
        ],
    )
    directory = ctx.work / "report"
    for name in reports:
        # One of an earlier run would pass for the result of this one.
        (directory / f"{name}_before_after.jpg").unlink(missing_ok=True)
    written = [write_whole(directory / "index.html", page.html())]
    for report in reports.values():
        written += [write_whole(directory / name, data) for name, data in report.files.items()]
    return [*written, write_whole(directory / "report.json", report_json(ctx, reports, checks))]


def _first(
    ctx: StageContext,
    reports: Mapping[str, ChannelReport],
    checks: Mapping[str, Sequence[Check]],
) -> Section:
    section = Section("What to know first")
    for where, errors in _together({name: [error] for name, error in ctx.failed.items()}):
        section.note(f"{where} failed", [(error, _AFTER_FAILURE) for error in errors], kind="failed")
    for where, found in _together({name: report.headlines for name, report in reports.items()}):
        section.note(where, [(headline.what, headline.remedy) for headline in found])
    wrong = {name: [c for c in judged if c.holds is False] for name, judged in checks.items()}
    for where, broken in _together(wrong):
        lines = [(check.words(), check.remedy) for check in broken]
        section.note(f"{where}: not to be trusted as it is", lines, kind="failed")
    if not section.parts:
        section.words("Nothing failed, and no condition of the checklist is broken.", "fine")
    told = [(f"{where}: {line}", "") for where, lines in _together(ctx.told) for line in lines]
    if told:
        section.note("Noted by the stages", told, kind="quiet", shown=5)
    missing = _together({name: report.missing for name, report in reports.items()})
    if missing:
        absent = [(f"{where}: {line}", "") for where, lines in missing for line in lines]
        section.note("Not on this page", absent, kind="quiet", shown=4)
    return section


def _together(said: Mapping[str, Sequence[_Said]]) -> list[tuple[str, list[_Said]]]:
    """What is said by all the places that say it, so that what holds for every channel is said once."""
    places: dict[_Said, list[str]] = {}
    for where, things in said.items():
        for thing in dict.fromkeys(things):
            places.setdefault(thing, []).append(where)
    grouped: dict[str, list[_Said]] = {}
    for thing, where_all in places.items():
        grouped.setdefault(", ".join(where_all), []).append(thing)
    return list(grouped.items())


def _summary(reports: Mapping[str, ChannelReport]) -> Section:
    section = Section("At a glance")
    section.table(SUMMARY, [report.summary for report in reports.values()])
    section.words(
        "Contrast and correlation are means over the frames: contrast in the middle half of each side, as "
        "for raw frames, correlation away from the rim of the field.",
        "why",
    )
    return section


def _checklist(checks: Mapping[str, Sequence[Check]]) -> Section:
    section = Section("Quality checklist")
    every = [check for judged in checks.values() for check in judged]
    if not every:
        section.words("Nothing can be judged: there are no products.", "why")
        return section
    held, unknown = (sum(check.holds is state for check in every) for state in (True, None))
    text = f"{held} of {len(every)} conditions hold, {len(every) - held - unknown} do not"
    section.words(f"{text}, {unknown} cannot be judged." if unknown else f"{text}.")
    order = list(StageName.__members__)
    conditions = sorted(
        dict.fromkeys((check.stage, check.condition) for check in every), key=lambda c: order.index(c[0])
    )
    rows = []
    for stage, condition in conditions:
        cells = []
        for judged in checks.values():
            here = [c for c in judged if (c.stage, c.condition) == (stage, condition)]
            cells.append(f"{_MARKS[here[0].holds]} {here[0].found}" if here else "–")
        rows.append((stage, condition, *cells))
    section.table(("Stage", "Condition", *checks), rows)
    section.words("–: there is no such product, or the condition is none of the channel's.", "why")
    return section


def _movies(ctx: StageContext) -> Section:
    section = Section("Movies")
    directory = ctx.work / "context_movies"
    files = [*sorted(directory.glob("*.mp4")), *sorted(directory.glob("*_sheet.png"))]
    if files:
        section.links([(f.name, f"../context_movies/{f.name}") for f in files])
    else:
        section.words("There are no movies in context_movies.", "why")
    return section


def _timing(ctx: StageContext) -> Section:
    section = Section("Time taken")
    channels: Sequence[str] = list(ctx.channels)
    stages = list(dict.fromkeys(task.rpartition("/")[2] for task in ctx.seconds))
    if not stages:
        section.words("Not known: every product was there already.", "why")
        return section
    rows = []
    for stage in stages:
        times = [ctx.seconds.get(f"{channel}/{stage}") for channel in channels]
        whole = ctx.seconds.get(stage)
        total = sum(t for t in (*times, whole) if t is not None)
        rows.append((stage, *("–" if t is None else f"{t:.1f} s" for t in times), f"{total:.1f} s"))
    section.table(("Stage", *channels, "Total"), rows)
    section.words("When the product was made. –: not known, or not done for this channel alone.", "why")
    return section
