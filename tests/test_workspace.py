"""The workspace: files with digests, and the models that stay in memory."""

import numpy as np
import pytest

from saec.compression.challenger import Challenger
from saec.errors import IntegrityError
from saec.hours import Hour
from saec.workspace import Workspace

HOUR = Hour.parse("2026-03-01T12")
ARRAYS = {"codes_V": np.arange(6, dtype=np.int16).reshape(2, 3).T, "empty_N": np.zeros(0, np.float32)}


@pytest.fixture
def workspace(fresh) -> Workspace:
    return Workspace(fresh.config())


def test_arrays_come_back_as_written(workspace):
    """A file read back holds equal arrays, whatever their memory layout was; equal arrays make equal bytes."""
    file = workspace.write(HOUR, "codes.safetensors", ARRAYS)
    read = workspace.read(HOUR, file)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    copies = {name: array.copy() for name, array in ARRAYS.items()}
    assert workspace.write(HOUR + 1, "codes.safetensors", copies) == file


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_damaged_file_is_refused(workspace, damage):
    """A file that is gone, or not what was written, is refused with the command that makes it again."""
    file = workspace.write(HOUR, "codes.safetensors", ARRAYS)
    path = workspace.folder(HOUR) / file.name
    path.write_bytes(path.read_bytes()[:-1] + b"\xff") if damage == "altered" else path.unlink()
    with pytest.raises(IntegrityError, match=rf"codes\.safetensors.*saec run --hour {HOUR}"):
        workspace.read(HOUR, file)


def test_clear_keeps_what_it_is_told_to(workspace):
    """Clearing removes files and folders of the hour, but for those kept; an hour never begun is no error."""
    folder = workspace.folder(HOUR)
    (folder / "candidate").mkdir(parents=True)
    for name in ("candidate/index.safetensors", "ingest.json", "rows.safetensors"):
        (folder / name).write_bytes(b"x")
    workspace.clear(HOUR, keep=("ingest.json",))
    assert [path.name for path in folder.iterdir()] == ["ingest.json"]
    workspace.clear(HOUR + 1, keep=())


def test_retain_removes_other_hours(workspace):
    """Folders of hours that are not named go, the others stay."""
    for offset in range(3):
        workspace.write(HOUR + offset, "codes.safetensors", ARRAYS)
    workspace.retain({HOUR + 1})
    assert [path.name for path in sorted((workspace.config.workspace / "hours").iterdir())] == [(HOUR + 1).compact]


def test_retain_leaves_what_is_not_an_hour(workspace):
    """Files and folders that somebody else put beside the hours stay, and are no error."""
    workspace.write(HOUR, "codes.safetensors", ARRAYS)
    beside = workspace.folder(HOUR).parent
    (beside / "notes").mkdir()
    (beside / "notes.txt").write_text("mine")
    workspace.retain(set())
    assert sorted(path.name for path in beside.iterdir()) == ["notes", "notes.txt"]


def test_original_taken_to_be_trained_leaves_the_memory(undisturbed):
    """Whoever trains an original has it alone: a crash in between leaves nothing half-trained behind."""
    workspace = Workspace(undisturbed.config())
    name = undisturbed.rows()[-1].checkpoint
    looked_at = workspace.original(name)
    assert workspace.original(name) is looked_at
    assert workspace.take_original(name) is looked_at
    assert workspace.original(name) is not looked_at


def test_original_in_memory_is_of_one_configuration(undisturbed):
    """The same checkpoint under other settings is another original, since it carries its settings."""
    name = undisturbed.rows()[-1].checkpoint
    one = Workspace(undisturbed.config()).original(name)
    config = undisturbed.config(compression={"codewords": 3})
    assert Workspace(config).original(name).config.compression.codewords == 3
    assert Workspace(undisturbed.config()).original(name).config == one.config


def test_challenger_taken_to_be_trained_leaves_the_memory(undisturbed):
    """It is read once to be looked at by any number of steps, and again after somebody took it to be trained."""
    config, name, read = undisturbed.config(), undisturbed.rows()[-1].record["challenger"], []

    def restored(arrays):
        read.append(arrays)
        return Challenger.restore(config, arrays, "saved")

    Workspace._resident = None
    looked_at = Workspace(config).challenger(name, restored)
    assert Workspace(config).challenger(name, restored) is looked_at
    assert Workspace(config).take_challenger(name, restored) is looked_at
    assert len(read) == 1
    assert Workspace(config).challenger(name, restored) is not looked_at


def test_hours_in_one_process_read_no_training_state(fresh, monkeypatch):
    """What an hour leaves in memory is what the next one goes on from."""

    def unwanted(*_):
        raise AssertionError("read from a checkpoint")

    with fresh.pipeline() as pipeline, pipeline.leased() as lease:
        for number, hour in enumerate(fresh.hours[:3]):
            assert pipeline.do(lease, hour).checkpoint
            if number == 0:
                monkeypatch.setattr(type(pipeline.workspace.checkpoints), "load", unwanted)
