"""Audio: every format that is read right, every kind of damage that is refused by name."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sedsoft.audio import AudioInfo, audio_info, read_audio, read_blocks, write_audio
from sedsoft.core import FileError

SR = 44100


def sound(n_samples: int = 2 * SR, n_channels: int = 2, sr: int = SR) -> np.ndarray:
    """Tones of 440 Hz and more, one a channel, peak 0.5: (N, channels)."""
    time_s = np.arange(n_samples) / sr
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * (k + 1) * time_s) for k in range(n_channels)], axis=1)


def damaged(path, change) -> None:
    """Change a file's bytes in place; `change` takes a bytearray and returns what shall be written."""
    path.write_bytes(bytes(change(bytearray(path.read_bytes()))))


def with_flac_length(data: bytearray, n_samples: int) -> bytearray:
    """A FLAC file whose STREAMINFO claims another number of samples; 0 says that it is not known."""
    data[21] = (data[21] & 0xF0) | (n_samples >> 32)
    data[22:26] = struct.pack(">I", n_samples & 0xFFFFFFFF)
    return data


def refusal(path) -> str:
    """The message with which both readers refuse a file; it begins with the file."""
    messages = []
    for read in (read_audio, lambda file: list(read_blocks(file, block_s=0.5))):
        with pytest.raises(FileError) as error:
            read(path)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{path}: ")
    return messages[0].removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 1e-7), ("FLOAT", 1e-7), ("DOUBLE", 1e-7)]
    + [("ULAW", 0.02), ("ALAW", 0.02)],
)
@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_every_depth_and_channel_count(tmp_path, subtype, step, n_channels):
    wav = sound(16000, n_channels, 16000)
    soundfile.write(tmp_path / "a.wav", wav, 16000, subtype=subtype)
    assert audio_info(tmp_path / "a.wav") == AudioInfo(16000, n_channels, 16000, 1.0)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), wav.mean(axis=1), atol=1.5 * step)  # rounded twice


@pytest.mark.parametrize("sr", [8000, 11025, 22050, 32000, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_every_rate(tmp_path, sr, suffix):
    write_audio(tmp_path / f"a.{suffix}", sound(sr, 1, sr), sr)
    heard = read_audio(tmp_path / f"a.{suffix}")
    assert heard.shape == (16000,)
    expected = sound(16000, 1, 16000)[:, 0]
    np.testing.assert_allclose(heard[200:-200], expected[200:-200], atol=2e-4)  # 16 bits; the ends ring
    assert len(read_audio(tmp_path / f"a.{suffix}", sr=sr)) == sr


@pytest.mark.parametrize(("suffix", "subtype"), [("flac", "PCM_24"), ("ogg", "VORBIS"), ("ogg", "OPUS"), ("mp3", None)])
def test_other_formats(tmp_path, suffix, subtype):
    sr = 48000
    soundfile.write(tmp_path / f"a.{suffix}", sound(2 * sr, 2, sr), sr, subtype=subtype)
    info = audio_info(tmp_path / f"a.{suffix}")
    assert (info.sr, info.n_channels, info.n_samples) == (sr, 2, 2 * sr)
    heard = read_audio(tmp_path / f"a.{suffix}")
    assert heard.shape == (32000,)
    expected = sound(32000, 2, 16000).mean(axis=1)
    np.testing.assert_allclose(heard[2000:-2000], expected[2000:-2000], atol=0.03)  # lossy codecs


@settings(max_examples=25, deadline=None)
@given(block_s=st.floats(1e-4, 3.0), n_samples=st.integers(1, 30000), sr_in=st.sampled_from([8000, 16000, 44100]))
def test_blocks_joined_are_the_whole(tmp_path_factory, block_s, n_samples, sr_in):
    path = tmp_path_factory.mktemp("blocks") / "a.wav"
    write_audio(path, np.random.default_rng(n_samples).uniform(-1, 1, n_samples), sr_in)
    whole, blocks = read_audio(path), list(read_blocks(path, block_s=block_s))
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    size = round(block_s * 16000)
    assert all(len(block) == size for block in blocks[:-1])
    assert 1 <= len(blocks[-1]) <= size
    assert len(whole) == max(1, int(n_samples * 16000 / sr_in + 0.5))


def test_seams_of_decoding_are_not_heard(tmp_path):
    wav = sound(300_000)  # five decoded blocks
    write_audio(tmp_path / "a.flac", wav, 16000)
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac"), wav.mean(axis=1), atol=1e-4)  # 16 bits


def test_silence_and_one_sample(tmp_path):
    write_audio(tmp_path / "silence.wav", np.zeros(SR), SR)
    assert (read_audio(tmp_path / "silence.wav") == 0).all()
    for sr in (8000, 16000, 44100, 192000):
        write_audio(tmp_path / "one.flac", np.array([0.25]), sr)
        assert audio_info(tmp_path / "one.flac").n_samples == 1
        heard = read_audio(tmp_path / "one.flac")
        assert len(heard) == max(1, 16000 // sr)
        assert 0.1 < heard[0] < 0.4


def test_names_in_any_script(tmp_path):
    path = tmp_path / "bögen und 鳥 [1].wav"
    write_audio(path, sound(), SR)
    assert len(read_audio(str(path))) == 32000


def test_flac_without_a_length_is_read_right(tmp_path):
    path = tmp_path / "a.flac"
    write_audio(path, sound(), SR)
    expected = read_audio(path)
    damaged(path, lambda data: with_flac_length(data, 0))
    assert audio_info(path) == AudioInfo(SR, 2, 2 * SR, 2.0)
    np.testing.assert_array_equal(read_audio(path), expected)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, block_s=0.1))), expected)


def bare_mp3(path, wav: np.ndarray) -> None:
    """Write an MP3 of variable bit rate and take its first frame away, which says how long it is."""
    soundfile.write(path, wav, SR, bitrate_mode="VARIABLE")
    data = path.read_bytes()
    rate = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320][data[2] >> 4]
    path.write_bytes(data[144_000 * rate // SR + (data[2] >> 1 & 1) :])


@pytest.mark.parametrize("quiet_first", [True, False])
def test_mp3_without_a_length_is_read_to_its_end(tmp_path, quiet_first):
    rng = np.random.default_rng(0)
    loud, quiet = rng.uniform(-0.5, 0.5, (5 * SR, 2)), np.zeros((20 * SR, 2))  # what guesses go by: the first frames
    bare_mp3(tmp_path / "a.mp3", np.concatenate([quiet, loud] if quiet_first else [loud, quiet]))
    info = audio_info(tmp_path / "a.mp3")
    assert 25.0 <= info.duration_s < 25.1  # what the encoder added at the ends is not trimmed
    assert len(read_audio(tmp_path / "a.mp3")) == round(info.n_samples * 16000 / SR)
    tag = b"ID3\x03\0\0\0\0\x07\x76" + bytes(7 * 128 + 0x76)
    damaged(tmp_path / "a.mp3", lambda data: tag + data + b"TAG" + b"title".ljust(125))
    assert audio_info(tmp_path / "a.mp3") == info


def test_mp3_that_breaks_off_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.mp3", sound(), SR)
    damaged(tmp_path / "a.mp3", lambda data: data[: len(data) // 2])
    assert "truncated: the header claims 88200 samples, the file holds" in refusal(tmp_path / "a.mp3")
    with pytest.raises(FileError, match=r"a\.mp3: truncated: the header claims 88200 samples, the last is missing"):
        audio_info(tmp_path / "a.mp3")
    bare_mp3(tmp_path / "b.mp3", np.random.default_rng(0).uniform(-0.5, 0.5, (5 * SR, 2)))
    damaged(tmp_path / "b.mp3", lambda data: data[:-1000])
    assert "damaged or truncated at" in refusal(tmp_path / "b.mp3")


@pytest.mark.parametrize("n_pages", ["few", "many"])
def test_ogg_that_breaks_off_is_refused(tmp_path, n_pages):
    wav = sound() if n_pages == "few" else np.random.default_rng(0).uniform(-1, 1, (10 * SR, 2))
    soundfile.write(tmp_path / "a.ogg", wav, SR)
    whole = (tmp_path / "a.ogg").read_bytes()
    for n_bytes in (len(whole) // 2, len(whole) - 1000, len(whole) - 1):
        (tmp_path / "a.ogg").write_bytes(whole[:n_bytes])
        assert refusal(tmp_path / "a.ogg") == "truncated: the last page of the Ogg stream is missing"


@pytest.mark.parametrize("n_samples", [88_201, 4_000_000_000, 2**36 - 1])
def test_flac_that_claims_more_than_it_holds(tmp_path, n_samples):
    write_audio(tmp_path / "a.flac", sound(), SR)
    damaged(tmp_path / "a.flac", lambda data: with_flac_length(data, n_samples))
    assert refusal(tmp_path / "a.flac") == f"truncated: the header claims {n_samples} samples, the file holds 88200"
    with pytest.raises(FileError, match=f"truncated: the header claims {n_samples} samples, the last is missing"):
        audio_info(tmp_path / "a.flac")


def test_flac_cut_or_rotten(tmp_path):
    write_audio(tmp_path / "a.flac", np.random.default_rng(0).uniform(-1, 1, 10 * SR), SR)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    assert "damaged or truncated at" in refusal(tmp_path / "a.flac")
    rotten = bytearray(whole)
    rotten[len(whole) // 2 : len(whole) // 2 + 3000] = bytes(3000)
    (tmp_path / "a.flac").write_bytes(rotten)
    assert "damaged or truncated at" in refusal(tmp_path / "a.flac")


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64"])
def test_wav_that_breaks_off_is_refused(tmp_path, format):
    path = tmp_path / "a.wav"
    soundfile.write(path, sound(), SR, format=format, subtype="PCM_16")
    assert len(read_audio(path)) == 32000
    damaged(path, lambda data: data[:-2])
    assert refusal(path).startswith("truncated: the header claims 352800 bytes of samples, the file holds 352798")
    with pytest.raises(FileError, match=r"a\.wav: truncated"):
        audio_info(path)


@pytest.mark.parametrize("claimed", [3_000_000_000, 0xFFFFFFFF])
def test_wav_that_claims_gigabytes(tmp_path, claimed):
    path = tmp_path / "a.wav"
    write_audio(path, sound(), SR)

    def claim(data: bytearray) -> bytearray:
        at = data.index(b"data") + 4
        data[4:8] = data[at : at + 4] = struct.pack("<I", claimed)
        return data

    damaged(path, claim)
    assert refusal(path) == f"truncated: the header claims {claimed} bytes of samples, the file holds 352800"


def test_wav_with_other_chunks_and_big_endian(tmp_path):
    path = tmp_path / "a.wav"
    write_audio(path, sound(), SR)
    expected = read_audio(path)
    note = b"LIST" + struct.pack("<I", 5) + b"note!\0"  # an odd length is padded
    damaged(path, lambda data: data[:12] + note + data[12:] + note)
    np.testing.assert_array_equal(read_audio(path), expected)
    soundfile.write(path, sound(), SR, format="WAV", endian="BIG")
    np.testing.assert_allclose(read_audio(path), expected, atol=1e-6)
    damaged(path, lambda data: data[:1000])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.wav", b"", "is empty (0 bytes)"),
        (
            "a.wav",
            b"onset\toffset\tlabel\n" * 100,
            "holds no audio that can be read (libsndfile: Format not recognised)",
        ),
        ("a.mp3", b"onset\toffset\tlabel\n" * 100, "holds no audio that can be read"),
        ("a.mp3", b"\xff", "holds no audio that can be read"),
        ("a.mp3", b"ID3", "holds no audio that can be read"),
        ("a.flac", b"fLaC", "holds no audio that can be read"),
        ("a.ogg", b"OggS", "holds no audio that can be read"),
        ("a.wav", b"RIFF", "holds no audio that can be read"),
        ("a.raw", b"12345678", "holds no audio that can be read"),
        ("a.vox", b"12345678", "no header says what these bytes are"),
    ],
)
def test_what_is_no_audio(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith(reason)
    with pytest.raises(FileError, match=name):
        audio_info(tmp_path / name)


def test_no_file_no_samples_no_rate(tmp_path):
    assert refusal(tmp_path / "none.wav") == "no such file"
    assert refusal(tmp_path) == "is a folder, must be an audio file"
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), SR)
    assert refusal(tmp_path / "a.wav") == "holds no samples, by its header"
    write_audio(tmp_path / "b.wav", sound(), SR)
    damaged(tmp_path / "b.wav", lambda data: data[:24] + struct.pack("<I", 1) + data[28:])  # an hour a second
    assert refusal(tmp_path / "b.wav").startswith("a sample rate of 1 Hz is not believed")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize(("subtype", "index"), [("FLOAT", 0), ("FLOAT", 150_000), ("DOUBLE", 299_999)])
def test_samples_that_are_no_sound(tmp_path, value, subtype, index):
    wav = sound(300_000)
    wav[index, 1] = value
    wav[index + 1 :, 0] = np.nan  # what comes later is not what is named
    soundfile.write(tmp_path / "a.wav", wav, SR, subtype=subtype)
    message = refusal(tmp_path / "a.wav")
    assert message.startswith(f"the sample at {index / SR:.4f} s is ")
    assert "samples must be finite" in message


def test_loud_floats_are_kept(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(100, 3.0), 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), np.full(100, 3.0, np.float32))


def test_writing_is_atomic_and_refuses(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.wav"
    write_audio(path, sound(), SR)
    before = path.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(FileError, match=r"a\.wav: could not be written: no space left"):
            write_audio(path, sound(), SR)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.wav"]
    for bad in ([], [np.nan], [np.inf]):
        with pytest.raises(ValueError, match="must hold samples, all of them finite"):
            write_audio(path, bad, SR)
    with pytest.raises(ValueError, match=r'"a\.ogg" must end in'):
        write_audio(tmp_path / "a.ogg", sound(), SR)


def test_written_samples_are_what_was_meant(tmp_path):
    wav = sound(1000, 1)
    wav[0] = 7.0  # clipped
    given_wav = wav.copy()
    write_audio(tmp_path / "a.wav", wav, 16000)
    np.testing.assert_array_equal(wav, given_wav)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), np.clip(wav[:, 0], -1, 1), atol=1e-4)  # 16 bits


@pytest.mark.parametrize("block_s", [0.0, -1.0])
def test_blocks_hold_something(tmp_path, block_s):
    write_audio(tmp_path / "a.wav", sound(), SR)
    with pytest.raises(ValueError, match="must hold at least one sample"):
        next(read_blocks(tmp_path / "a.wav", block_s=block_s))
