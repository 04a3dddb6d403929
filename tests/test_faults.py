"""Faults of the service: no row is lost, no server is flooded, no secret is shown."""

from __future__ import annotations

import threading

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.circleci import Fault, Server
from tests.tap import EagerClock, assert_same, sync, tables
from tests.worlds import PASSING, WALK, furnished, truth_of, world_of


def test_patterns_that_match_nothing_are_named():
    """If all projects of an organization are excluded, a sentence says that project_slugs names no project."""
    with Server(world_of(1)) as server:
        run = sync(server, project_slugs="gh/acme/* !gh/acme/a*", streams=WALK)
    assert run.status == 1
    assert "names no project" in run.criticals()[0]


FAULTS = st.sampled_from([None] * 12 + list(PASSING.values()) + [Fault(403), Fault(404)])


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FAULTS, max_size=120), st.integers(0, 3), st.sampled_from([1, 4]))
def test_any_mixture_of_faults_gives_the_quiet_tables_or_exit_1_and_a_state_that_does(faults, harder, workers):
    """With faults in any order the output equals that of a run without any, or it is exit 1 and a later run completes
    it."""
    with Server(furnished(world_of(12)), page_size=5) as server:
        drawn = iter(faults)
        lock = threading.Lock()

        def fault(path: str, nth: int) -> Fault | None:
            with lock:
                found = next(drawn, None)
            if found is not None and found.status in (403, 404):
                # Without end these mean "not for you" and "not there"; only below a page token do they pass.
                found = Fault(404) if found.status == 404 and "/project/" in path and "page-token" in path else None
            return found if found is None or nth <= 3 + harder else None

        server.fault = fault
        run = sync(server, max_workers=workers, page_size=2, clock=EagerClock())
        server.fault = lambda path, nth: None
        held = tables(run.lines)
        if run.status != 0:
            assert run.status == 1
            assert run.criticals()
            resumed = sync(server, state=run.state)
            assert resumed.status == 0, resumed.log
            tables(resumed.lines, held)
        assert_same(held, truth_of(server.world))
    assert "Traceback" not in run.log
