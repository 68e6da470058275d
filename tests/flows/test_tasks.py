"""The six tasks, without any server."""

import errno

import pytest
from prefect.states import Failed

from flows.tasks import TASKS, may_pass
from saec import steps
from saec.errors import ConfigError, InputError, IntegrityError, LeaseLost, StoreError, TrainingError

LASTING = [
    OSError(errno.ENOSPC, "no space"),
    PermissionError(errno.EACCES, "denied"),
    OSError(errno.EROFS, "read only"),
    OSError(errno.EIO, "bad disk"),
    FileNotFoundError(errno.ENOENT, "gone"),
    StoreError("full", reason="disk-full"),
    StoreError("live is held", reason="held"),
    IntegrityError("bytes differ"),
    InputError("torn", reason="truncated"),
    TrainingError("nan"),
    ConfigError("knob"),
    LeaseLost("replaced"),
    MemoryError(),
    ValueError("bug"),
]
PASSING = [
    ConnectionResetError(errno.ECONNRESET, "reset"),
    TimeoutError("slow"),
    OSError(errno.ESTALE, "stale handle"),
    OSError(errno.EAGAIN, "busy"),
    StoreError("cannot write versions/x in s3://bucket: 503"),
]


def test_six_steps_under_their_names():
    """A task is its step, by name, and its runs carry the hour."""
    assert [task.name for task in TASKS.values()] == ["ingest", "train", "cluster", "retrain", "gate", "publish"]
    for task in TASKS.values():
        assert task.fn is getattr(steps, task.name)
        assert task.task_run_name == task.name + " {plan.hour}"


def test_nothing_is_kept_or_cached_by_prefect():
    """What steps return stays in the process, so nothing can be pickled; and no tags, which cost 2 s a task."""
    assert not any(task.persist_result or task.cache_key_fn or task.tags for task in TASKS.values())
    assert {task.cache_policy.compute_key(None, {}, {}) for task in TASKS.values()} == {None}


@pytest.mark.fault(24)
@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_would_fail_again_is_not_retried(error):
    """A full disk, missing rights, faulty data, broken bytes, a lost lease or a bug: one attempt."""
    assert not may_pass(error)
    assert not TASKS["publish"].retry_condition_fn(TASKS["publish"], None, Failed(data=error))


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_retried(error):
    """A network or a remote store that failed for a moment: tried again."""
    assert may_pass(error)
    assert TASKS["publish"].retry_condition_fn(TASKS["publish"], None, Failed(data=error))
