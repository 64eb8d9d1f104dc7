"""What chunks of a zarr store unfold to, told before they are unfolded."""

import tempfile

import numcodecs
import numpy as np
import pyarrow as pa
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec

from cellmodel.core.errors import InputUnusable
from cellmodel.io.guard.zarr_chunks import bound_zstd_frame, check_chunks

MEMORY = 1 << 33
MUCH = 70_000_000  # bytes, more than any chunk may take that declares less
CODECS = {
    "zstd": numcodecs.Zstd(),
    "blosc": numcodecs.Blosc(),
    "lz4": numcodecs.LZ4(),
    "zlib": numcodecs.Zlib(1),
    "gzip": numcodecs.GZip(1),
    "bz2": numcodecs.BZ2(1),
}


def array(folder, **settings):
    """Write an array of 24 numbers."""
    made = zarr.create_array(folder / "a.zarr", shape=(24,), **({"chunks": (12,), "dtype": "f4"} | settings))
    made[:] = np.arange(24).astype(made.dtype)
    return made


def chunk(folder):
    """Give the file of one chunk."""
    names = ("0", "c/0")
    return next(path for name in names if (path := folder / "a.zarr" / name).is_file())


def check(folder, made):
    check_chunks(folder / "a.zarr", "X", made, memory=MEMORY)


@pytest.mark.parametrize("name", CODECS)
def test_a_chunk_that_unfolds_to_more_than_is_declared_is_refused(name, tmp_path):
    made = array(tmp_path, zarr_format=2, compressors=CODECS[name])
    check(tmp_path, made)
    chunk(tmp_path).write_bytes(CODECS[name].encode(np.zeros(MUCH, np.uint8)))
    with pytest.raises(InputUnusable, match=r"0 of .* bytes, unfolds to more than 67,108,864, and chunks of 48"):
        check(tmp_path, made)


@pytest.mark.parametrize("settings", [{}, {"shards": (24,), "chunks": (6,)}])
def test_so_is_one_of_version_three_and_inside_a_shard(settings, tmp_path):
    made = array(tmp_path, zarr_format=3, **settings)
    check(tmp_path, made)
    content = chunk(tmp_path).read_bytes()
    bomb = numcodecs.Zstd().encode(np.zeros(MUCH, np.uint8))
    if settings:  # the index of four chunks, at the end: the first lies where the bomb is
        index = np.frombuffer(content[-68:-4], "<u8").reshape(4, 2).copy()
        index[0] = (0, len(bomb))
        content = bomb + index.tobytes() + content[-4:]
    chunk(tmp_path).write_bytes(content if settings else bomb)
    with pytest.raises(InputUnusable, match="unfolds to more than"):
        check(tmp_path, made)


def test_a_frame_that_does_not_say_its_size_is_unfolded_as_far_as_allowed(tmp_path):
    made = array(tmp_path, zarr_format=2, compressors=CODECS["zstd"])
    content = bytes(MUCH)
    for size in (48, MUCH):
        check(tmp_path, made)
        with pa.CompressedOutputStream(str(chunk(tmp_path)), "zstd") as stream:  # its header is written first
            stream.write(content[:size])
        assert len(CODECS["zstd"].decode(chunk(tmp_path).read_bytes())) == size
    with pytest.raises(InputUnusable, match="unfolds to more than"):
        check(tmp_path, made)


@pytest.mark.parametrize("before", [numcodecs.Zstd().encode(bytes(48)), bytes.fromhex("502a4d18 04000000 00000000")])
def test_no_frame_hides_behind_another(before, tmp_path):
    made = array(tmp_path, zarr_format=2, compressors=CODECS["zstd"])
    content = before + CODECS["zstd"].encode(bytes(MUCH))
    assert len(CODECS["zstd"].decode(content)) >= MUCH
    chunk(tmp_path).write_bytes(content)
    with pytest.raises(InputUnusable, match="unfolds to more than"):
        check(tmp_path, made)


@given(content=st.binary(max_size=400), n_times=st.integers(1, 2000), level=st.integers(-5, 19))
def test_what_zstd_packs_is_never_bounded_by_less_than_it_is(content, n_times, level):
    packed = numcodecs.Zstd(level=level, checksum=n_times % 2 == 0).encode(content * n_times + b"x")
    with tempfile.TemporaryFile(buffering=0) as stream:
        stream.write(packed)
        end, bound = bound_zstd_frame(stream, 0)
    assert end == len(packed)
    assert bound >= len(content) * n_times + 1


def test_a_blosc_header_that_leads_beyond_the_chunk_is_damage(tmp_path):
    made = array(tmp_path, zarr_format=2, compressors=CODECS["blosc"])
    content = bytearray(chunk(tmp_path).read_bytes())
    content[12:16] = (2**29).to_bytes(4, "little")
    chunk(tmp_path).write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"a chunk has \d+ bytes, its header says 536,870,912"):
        check(tmp_path, made)


def test_a_chunk_may_take_what_is_declared_and_a_text_a_part_of_the_memory(tmp_path):
    made = zarr.create_array(tmp_path / "a.zarr", shape=(MUCH,), dtype="u1", chunks=(MUCH,), fill_value=1)
    made[:] = 0
    check(tmp_path, made)
    texts = zarr.create_array(tmp_path / "b.zarr", shape=(2,), dtype=str, chunks=(2,))
    texts[:] = np.array(["x" * 300_000, "y"], dtype=object)
    check_chunks(tmp_path / "b.zarr", "X", texts, memory=64 * 400_000)
    with pytest.raises(InputUnusable, match="unfolds to more than 200,000"):
        check_chunks(tmp_path / "b.zarr", "X", texts, memory=64 * 200_000)


@pytest.mark.parametrize("settings", [{}, {"compressors": None}, {"zarr_format": 2}])
def test_texts_that_say_that_they_are_more_than_the_chunk_has_are_damage(settings, tmp_path):
    made = array(tmp_path, dtype=str, **settings)
    check(tmp_path, made)
    content = chunk(tmp_path).read_bytes()
    codec = CODECS["zstd"] if content[:4] == numcodecs.Zstd().encode(b"x")[:4] else None
    changed = bytearray(codec.decode(content) if codec else content)
    assert changed[:4] == (12).to_bytes(4, "little")
    changed[:4] = (2**31 - 1).to_bytes(4, "little")
    chunk(tmp_path).write_bytes(codec.encode(bytes(changed)) if codec else bytes(changed))
    with pytest.raises(ValueError, match="a chunk of 12 texts says that it holds 2,147,483,647"):
        check(tmp_path, made)


def test_a_shard_that_is_cut_off_and_one_of_shards_are_refused(tmp_path):
    made = array(tmp_path, zarr_format=3, shards=(24,), chunks=(6,))
    chunk(tmp_path).write_bytes(chunk(tmp_path).read_bytes()[-60:])
    with pytest.raises(ValueError, match="a shard is shorter than its index"):
        check(tmp_path, made)
    inner = ShardingCodec(chunk_shape=(6,), codecs=[BytesCodec(), ZstdCodec()])
    made = zarr.create_array(
        tmp_path / "b.zarr", shape=(24,), dtype="f4", chunks=(12,), serializer=inner, compressors=None
    )
    check_chunks(tmp_path / "b.zarr", "X", made, memory=MEMORY)
    outer = ShardingCodec(chunk_shape=(12,), codecs=[inner])
    made = zarr.create_array(
        tmp_path / "c.zarr", shape=(24,), dtype="f4", chunks=(24,), serializer=outer, compressors=None
    )
    with pytest.raises(InputUnusable, match=r"X of .* is packed by sharding_indexed, which is not read"):
        check_chunks(tmp_path / "c.zarr", "X", made, memory=MEMORY)


def test_what_no_header_says_and_too_many_chunks_are_refused(tmp_path):
    made = zarr.create_array(tmp_path / "a.zarr", shape=(24,), dtype="f4", zarr_format=2, compressors=numcodecs.LZMA())
    with pytest.raises(InputUnusable, match=r"X of .* is packed by lzma, which is not read; write it anew with zstd"):
        check(tmp_path, made)
    many = zarr.create_array(tmp_path / "b.zarr", shape=(10**8,), dtype="u1", chunks=(1,))
    with pytest.raises(InputUnusable, match=r"is declared as 100,000,000 chunks of 1 bytes"):
        check(tmp_path, many)
