"""``report.json``: checklist and headlines as programs read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stillsun.qa.channel import SUMMARY
from stillsun.qa.checklist import Check
from stillsun.qa.products import ChannelReport
from stillsun.stages.base import StageContext


def report_json(
    ctx: StageContext, reports: Mapping[str, ChannelReport], checks: Mapping[str, Sequence[Check]]
) -> str:
    """
    What the page says in words, as JSON.

    Parameters
    ----------
    ctx : StageContext
        Context of the report.
    reports : mapping of str to ChannelReport
        Of each channel.
    checks : mapping of str to sequence of Check
        Of each channel.

    Returns
    -------
    str
        JSON; the same for the same products. A condition that cannot be judged holds ``null``.
    """
    channels: dict[str, Any] = {
        name: {
            "glance": dict(zip(SUMMARY, report.summary, strict=False)),
            "headlines": [asdict(headline) for headline in report.headlines],
            "checklist": [asdict(check) for check in checks[name]],
            "missing": list(report.missing),
        }
        for name, report in reports.items()
    }
    every = [check.holds for judged in checks.values() for check in judged]
    told = {task: list(notes) for task, notes in ctx.told.items() if notes}
    content = {
        "observation": ctx.observation.name,
        "program": ctx.provenance["program"],
        "version": ctx.provenance["version"],
        "conditions": {
            "hold": every.count(True),
            "broken": every.count(False),
            "unknown": every.count(None),
        },
        "failed": dict(ctx.failed),
        "notes": told,
        "channels": channels,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
