"""Retries, limits and names: the one place where Prefect is told about them.

One retry layer per unit (DESIGN.md, invariant 5): a store retries a request, a download
its own ranges, and Prefect the stage of a bundle or a publication, through the error's
``retryable``. An item that is still failing after ``RETRIES`` leaves its bundle for
``LEAVE_SECONDS`` and is planned again by ``reconcile``, ``ROUNDS`` times in all.
"""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run
from prefect.tasks import exponential_backoff

from headrace.errors import HeadraceError

RETRIES = 3
BACKOFF_SECONDS = 2
"""The first delay; the next ones double."""
JITTER = 0.5
"""Share of a delay that is random, so that many items don't come back at once."""
LEAVE_SECONDS = 60.0
ROUNDS = 2
MAX_ATTEMPTS = ROUNDS * (RETRIES + 1)
"""Tries of one stage of one item, in all rounds together, before it is failed."""
MAX_RUNS = 6
"""Runs of one bundle or publication that end without a word (killed, out of memory) before it is failed."""


def only_if_it_helps(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Return whether Prefect should run a failed task again: the error says so."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, HeadraceError) and error.retryable


STAGE: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(BACKOFF_SECONDS),
    "retry_jitter_factor": JITTER,
    "retry_condition_fn": only_if_it_helps,
    "cache_policy": None,
    "persist_result": False,
}
"""What every stage's ``@task`` is given."""


def last_try() -> bool:
    """Return whether the running task will not be tried again."""
    count = task_run.get_run_count()
    return not isinstance(count, int) or count > RETRIES
