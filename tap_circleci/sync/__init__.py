"""The loop of a sync: stream after stream, beginning with the one at which an earlier run was interrupted."""

import logging
import os
from datetime import timedelta
from functools import partial
from itertools import groupby

from tap_circleci.client import Client, who_am_i
from tap_circleci.config import FIRST_SYNC, VERSION, Config
from tap_circleci.discover import Selected
from tap_circleci.errors import BadInput, PipeClosed, Stopped, TapError
from tap_circleci.http.service_time import ServiceTime
from tap_circleci.output.logs import run_id
from tap_circleci.output.messages import Messages
from tap_circleci.output.outcomes import Outcomes
from tap_circleci.output.report import Report, Result
from tap_circleci.reading.organizations import Organizations
from tap_circleci.state.state import WITHOUT_STATE, State
from tap_circleci.streams import ROOT, STREAMS, WALK, WALK_NAMES
from tap_circleci.sync.organizations import extent_of, write_streams
from tap_circleci.sync.pipelines import PipelineWriter
from tap_circleci.sync.run import Run, version_of
from tap_circleci.values.times import whole_seconds
from tap_circleci.workers import Clock, Pool, result

LOGGER = logging.getLogger(__name__)

CLOCK_BEHIND = timedelta(minutes=30)
"""How far a time in a state may be ahead of CircleCI's clock: the clocks of its machines differ."""


def sync(config: Config, selected: Selected, state: State, clock: Clock) -> Result:
    """Send everything that is selected and new; gives a sentence for each thing that could not be delivered.

    However the run ends, also by a signal, the last STATE has everything that was finished.
    """
    client = Client(config, clock)
    pool = Pool(config.max_workers)
    messages = Messages(selected, clock)
    report = Report(clock, messages, client, is_strict=config.strict)
    signum = 0
    try:
        streams = ", ".join(selected.schemas) or "none"
        LOGGER.info("tap-circleci %s (run %s, process %d): streams %s", VERSION, run_id, os.getpid(), streams)
        report.begin_part("checking the token")
        me = result(pool.submit((), partial(who_am_i, client)), clock, report.tick)
        time = ServiceTime(me.date, clock)
        # The earliest clock counts: a clock that is years ahead would exclude every row.
        start = config.start_date or (time.certain(None, ()) or time.now()) - FIRST_SYNC
        version = version_of(state) if config.activate_version else None
        outcomes = Outcomes(report, client)
        _write_everything(
            Run(config, selected, state, client, pool, clock, time, messages, report, outcomes, start, version)
        )
    except TapError as error:
        report.ended_by(error)
    except Stopped as stopped:
        signum = stopped.signum
    finally:
        pool.close()
        client.close()
        report.finish()
    return report.result(signum)


def _write_everything(run: Run) -> None:
    """Write all selected streams, beginning with the one at which an earlier run was interrupted."""
    names = list(dict.fromkeys(ROOT.name if name in WALK_NAMES else name for name in run.selected.schemas))
    if not run.time.is_known:
        LOGGER.warning("Responses have no Date header; using the rows' own times.")
    _refuse_the_future(run)
    if not names:
        LOGGER.warning("No stream is selected.")
    at = run.state.currently_syncing
    turn = names.index(at) if at in names else 0
    organizations = Organizations(run.config, run.client, run.pool, run.wait, run.outcomes, partial(extent_of, run))
    try:
        for is_walk, group in groupby(names[turn:] + names[:turn], key=lambda name: name == ROOT.name):
            if is_walk:
                selected = [stream.name for stream in WALK if stream.name in run.selected]
                PipelineWriter(run, organizations, selected).write()
            else:
                write_streams(run, organizations, [STREAMS[name] for name in group])
        run.prove_token()
        run.state.currently_syncing = None
    except PipeClosed:
        raise
    except BaseException:
        run.messages.state(run.state, now=True)
        raise
    run.messages.state(run.state, now=True)


def _refuse_the_future(run: Run) -> None:
    """Raise `BadInput` if the start date or a time in the state is in the future by CircleCI's clock."""
    if not run.time.is_known:
        return
    latest = run.state.latest()
    config = "Correct it in the config."
    moments = [("start_date", run.config.start_date, config)] if run.config.start_date else []
    moments += [(f"The state's {latest[0]}", latest[1], WITHOUT_STATE)] if latest else []
    now = run.time.now()
    future = [
        f"{name} is {whole_seconds(at)}, in the future: CircleCI's clock says {whole_seconds(now)}. {advice}"
        for name, at, advice in moments
        if at > now + CLOCK_BEHIND
    ]
    if future:
        raise BadInput(*future)
