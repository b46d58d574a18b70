"""The file format: read by the safetensors library, deterministic, and no bit of it changes unseen."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vidcomp.stages import safefile
from vidcomp.stages.record import source
from vidcomp.stages.safefile import (
    DamagedFileError,
    Source,
    check_tensors,
    read_header,
    write,
    write_atomically,
)

TENSORS = {
    "tokens": torch.arange(15, dtype=torch.float32).reshape(5, 3).bfloat16(),
    "pts_s": torch.linspace(0, 1, 5, dtype=torch.float64),
    "owner": torch.arange(7, dtype=torch.int32),
    "none": torch.zeros(0, 4),
}
META = {"b": [1, 2], "a": 'text é " \\ 😀', "nested": {"header_digest_like": "0" * 32}}


def made(path: Path) -> Path:
    write_atomically(path, lambda out: write(out, {k: source(v) for k, v in TENSORS.items()}, META))
    return path


def whole(path: Path) -> None:
    check_tensors(read_header(path))


def test_the_library_reads_it(tmp_path: Path) -> None:
    loaded = load_file(made(tmp_path / "a"))
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[k], v) and loaded[k].dtype == v.dtype for k, v in TENSORS.items())


def test_metadata_comes_back_with_digests(tmp_path: Path) -> None:
    meta = read_header(made(tmp_path / "a")).meta
    assert {k: meta[k] for k in META} == META
    assert meta["tensors"].keys() == TENSORS.keys()


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    backwards = {k: source(TENSORS[k]) for k in reversed(TENSORS)}
    write_atomically(tmp_path / "b", lambda out: write(out, backwards, dict(reversed(META.items()))))
    assert made(tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_are_aligned(tmp_path: Path) -> None:
    for entry in read_header(made(tmp_path / "a")).entries.values():
        assert entry.start % safefile.ITEM_BYTES[entry.dtype] == 0


def test_every_single_bit_flip_is_found(tmp_path: Path) -> None:
    path = made(tmp_path / "a")
    good = path.read_bytes()
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(DamagedFileError):
            whole(path)


def test_every_cut_and_extension_is_found(tmp_path: Path) -> None:
    path = made(tmp_path / "a")
    good = path.read_bytes()
    for bad in (*(good[:n] for n in range(len(good))), good + b"\0"):
        path.write_bytes(bad)
        with pytest.raises(DamagedFileError):
            whole(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(DamagedFileError, match="not a regular file"):
        read_header(tmp_path / "a")


def test_noise_is_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(300):
        (tmp_path / "a").write_bytes(rng.randbytes(rng.randrange(200)))
        with pytest.raises(DamagedFileError):
            read_header(tmp_path / "a")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b'{"__metadata__":{}}',
        b'{"__metadata__":{"vidcomp":"{}"}}',
        b'{"__metadata__":{"vidcomp":"3"}}',
        b"[" * 100_000,
        b'{"__metadata__":{"vidcomp":"{\\"header_digest\\":\\"x\\"}"},"a":{"dtype":"F32","shape":[1e9],"data_offsets":[0,1]}}',
    ],
)
def test_crafted_headers_are_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(DamagedFileError):
        read_header(tmp_path / "a")


def test_a_tensor_of_another_size_than_its_shape_is_not_written() -> None:
    with pytest.raises(DamagedFileError, match="its shape says 8"):
        write(io.BytesIO(), {"a": Source("F32", (2,), lambda: [b"1234"])}, {})


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = made(tmp_path / "a")
    before = path.read_bytes()

    def fail(out: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
