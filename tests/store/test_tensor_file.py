"""Files written part by part are safetensors files, and those of the library are read."""

import io

import numpy as np
from safetensors.numpy import load, save

from saec.data.paged import Paged
from saec.store.tensor_file import TYPES, mapped_tensors, parts, read_header


def tensors():
    """One of each type, a scalar, an empty one and a paged one."""
    arrays = {name.lower(): np.arange(5).astype(kind) for name, kind in TYPES.items()}
    arrays |= {"scalar": np.array(7.5), "empty": np.zeros((0, 3), np.float32), "wide": np.arange(6).reshape(2, 3)}
    paged = Paged({"long": np.arange(9, dtype=np.int16)})
    paged.append({"long": np.arange(3, dtype=np.int16)})
    return arrays | {"paged": paged.column("long")}


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert np.array_equal(found[name], np.asarray(array)), name


def test_the_library_reads_what_is_written():
    """Types, shapes and values, and the text that goes with them."""
    data = b"".join(parts(tensors(), '{"depth": 3}'))
    same(load(data), tensors())
    assert read_header(io.BytesIO(data))[0]["__metadata__"] == {"saec": '{"depth": 3}'}


def test_what_the_library_writes_is_read(tmp_path):
    """Older checkpoints are files of the library; nobody can write to what is mapped."""
    path = tmp_path / "file"
    path.write_bytes(save({name: np.asarray(array) for name, array in tensors().items()}, {"saec": "text"}))
    with path.open("rb") as file:
        found = mapped_tensors(file)
    same(found, tensors())
    assert not found["i64"].flags.writeable


def test_numbers_stand_where_the_processor_likes_them():
    """Each tensor starts at a multiple of its number's size."""
    data = b"".join(parts(tensors(), ""))
    header, start = read_header(io.BytesIO(data))
    del header["__metadata__"]
    for told in header.values():
        assert (start + told["data_offsets"][0]) % np.dtype(TYPES[told["dtype"]]).itemsize == 0
