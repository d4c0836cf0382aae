"""The verb `report`: the page of a work directory, made again."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from stillsun.cli._work import add_work, record_of, where_it_ran

HELP = "make the report of a work directory again"
DESCRIPTION = """\
Makes WORK/report/index.html again, from whatever there is in WORK. The raw files are not needed.

  stillsun report WORK
  stillsun report WORK && firefox WORK/report/index.html
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stillsun report``."""
    add_work(parser)


def run(options: argparse.Namespace) -> int:
    """Make the report of a work directory again."""
    from stillsun.config.build import settings_from_record
    from stillsun.config.schema import StageName
    from stillsun.pipeline.places import Places
    from stillsun.pipeline.session import reduce

    work = options.work.resolve()
    record = record_of(work)
    with where_it_ran(record):
        job = work if record["is_job"] else None
        settings = settings_from_record(record["configuration"], Path(record["work"]) if job else work)
        run = replace(settings.run, stages=[StageName.report], force=[StageName.report])
        reduce(replace(settings, run=run), job, record["swept"] if job else None, command="")
    print(Places(work).report)
    return 0
