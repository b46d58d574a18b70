"""Sound through `encode`: a clip's audio tokens whatever the chunks, kept by OmniZip, read back, heard by the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from media import packet_place, pictures
from omni_case import RATE, listen, own_path
from torch import Tensor

import vidcomp
from vidcomp.models import load as models
from vidcomp.models.types import TokenGrid
from vidcomp.pipeline.build import build_method
from vidcomp.pipeline.presets import build_recipe
from vidcomp.stages.decode import Decoder
from vidcomp.stages.store import Spool

from .conftest import Cli, tree_bytes

FAMILIES = ["qwen2_5_omni", "qwen3_omni_moe"]
WHOLE = {"method": "uniform", "retain": 1.0}
QUESTION = "What is heard? Ω"
SECONDS = 5.3  # of video
FPS = 2.0  # sampled: 11 frames


@dataclass(frozen=True)
class Track:
    """Sound beside the pictures: from `start_s` on; the picture's own clock may start later (`video_s`)."""

    seconds: float = SECONDS
    start_s: float = 0.0
    video_s: float = 0.0
    rate: int = 16000
    layout: str = "mono"
    loud: float = 0.4
    codec: str = "pcm_s16le"


TRACKS = {
    "whole": Track(),
    "shorter": Track(seconds=2.1),
    "longer": Track(seconds=9.0),
    "later": Track(start_s=1.7, seconds=3.0),
    "video later": Track(video_s=1.3),
    "silent": Track(loud=0.0),
    "8 kHz": Track(rate=8000),
    "5.1": Track(rate=48000, layout="5.1", seconds=3.9),
    "aac": Track(rate=44100, layout="stereo", codec="aac"),
}
RARE = {"shorter", "longer", "silent", "8 kHz", "aac"}  # of which one case is like the others
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in RARE else []) for name in TRACKS]


def make(path: Path, track: Track | None, seconds: float = SECONDS) -> Path:
    """10 pictures a second, and a tone that glides and swells beside them."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mov" else {}) as out:
        video = out.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 112, 64, "yuv420p"
        sound = None if track is None else out.add_stream(track.codec, rate=track.rate, layout=track.layout)
        tone = iter(()) if track is None else packets(sound, track)
        late = 0.0 if track is None else track.video_s
        for n, picture in enumerate(pictures(round(seconds * 10), (112, 64))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = n + round(late * 10), Fraction(1, 10)
            out.mux(video.encode(frame))
            for packet in islice(tone, track.rate // 10240 + 1 if track else 0):  # side by side, as films have it
                out.mux(packet)
        out.mux(video.encode(None))
        for packet in tone:
            out.mux(packet)
    return path


def packets(stream: Any, track: Track) -> Iterator[Any]:
    """1024 samples each."""
    count, first = round(track.seconds * track.rate), round(track.start_s * track.rate)
    time = np.arange(count) / track.rate
    channels = av.AudioLayout(track.layout).nb_channels
    waves = [np.sin(2 * np.pi * (200 + 90 * c) * time * (1 + 0.1 * time)) for c in range(channels)]
    samples = (track.loud * np.stack(waves) * (1.2 + np.cos(time)) / 2.2).astype(np.float32)
    for at in range(0, count, 1024):
        frame = av.AudioFrame.from_ndarray(samples[:, at : at + 1024].copy(), format="fltp", layout=track.layout)
        frame.sample_rate, frame.pts, frame.time_base = track.rate, first + at, Fraction(1, track.rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def heard(path: Path, start_s: float, end_s: float) -> Tensor:
    """float32 (S,): the decoder's own account of the clip."""
    with Decoder() as decoder:
        tracks = list(decoder.open(path).audio(RATE, [start_s, end_s]))
    return torch.cat([track.samples for track in tracks])


@dataclass(frozen=True)
class Case:
    """A family's tiny checkpoint, and its records of clips."""

    folder: Path
    home: Path
    out: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", self.home / f"{self.folder.name}.out")

    @cached_property
    def encoder(self) -> Any:
        return models.load_model(str(self.folder))

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        return vidcomp.load_llm(str(self.folder))

    @property
    def llm(self) -> tuple[Any, Any]:
        """(model, tokenizer), without the rope_deltas of an earlier call."""
        self.loaded[0].model.rope_deltas = None
        return self.loaded

    def clip(self, name: str) -> Path:
        """One of `TRACKS`."""
        path = self.home / f"{name}.mkv"
        return path if path.exists() else make(path, TRACKS[name])

    def encode(self, clip: Path, chunk: int = 4, settings: Sequence[str] = (), **how: Any) -> vidcomp.VideoRecord:
        given = [f"chunk_frames={chunk}", *settings]
        how = {"fps": FPS, **WHOLE, **how}
        return vidcomp.encode(clip, model=str(self.folder), out=self.out, settings=given, **how)


@pytest.fixture(scope="module")
def cases(tiny_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    home = tmp_path_factory.mktemp("sound")

    @lru_cache
    def case(family: str) -> Case:
        return Case(tiny_maker.make(family, home / family), home)

    return case


@pytest.fixture(params=FAMILIES)
def case(request: pytest.FixtureRequest, cases: Callable[[str], Case]) -> Case:
    return cases(request.param)


def is_all_of(record: vidcomp.VideoRecord, encoder: Any, samples: Tensor) -> None:
    """The record holds every audio token of the samples, and each stands where and when it is heard."""
    tokens, _ = listen(encoder, samples)
    count = len(tokens)
    audio = record.audio
    assert audio is not None
    assert torch.equal(audio.tokens, tokens)
    assert audio.count == count == encoder.audio_count(len(samples))
    assert audio.positions.tolist() == audio.owner.tolist() == list(range(count))
    assert audio.sizes.tolist() == [1] * count
    assert torch.equal(audio.pts_s, record.frame_pts_s[0] + encoder.audio_pts_s(count))
    assert record.meta["audio"] == {"tokens": count, "kept": count}


@pytest.mark.parametrize("name", NAMES)
def test_a_record_holds_the_whole_clips_sound(case: Case, name: str) -> None:
    clip = case.clip(name)
    start_s = TRACKS[name].video_s
    record = case.encode(clip)
    assert float(record.frame_pts_s[0]) == start_s
    is_all_of(record, case.encoder, heard(clip, start_s, start_s + SECONDS))


@pytest.mark.parametrize("chunk", [1, 6, pytest.param(64, marks=pytest.mark.slow)])
def test_chunks_do_not_matter(case: Case, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of three passes through the audio tower, or of the 10 s that Qwen2.5-Omni's processor takes."""
    monkeypatch.setattr("vidcomp.models.omni_audio.PASS_FRAMES", 400)
    clip = case.home / "long.mkv"
    record = case.encode(clip if clip.exists() else make(clip, Track(seconds=17.3), seconds=17.3), chunk, fps=0.5)
    is_all_of(record, case.encoder, heard(clip, 0.0, 17.3))


def test_a_chunk_has_the_sound_of_its_time(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, add = list[dict[str, Tensor]](), Spool.add

    def seen(self: Spool, number: int, tensors: Any, meta: Any) -> Any:
        header = add(self, number, tensors, meta)
        parts.append(vidcomp.stages.pack.read_tensor(header, "audio.pts_s"))
        return header

    monkeypatch.setattr(Spool, "add", seen)
    case.encode(case.clip("video later"), force=True)
    assert len(parts) == 3  # of 4 frames, 2 s each; the last goes on to the end
    for part, (first_s, end_s) in zip(parts, [(1.3, 3.3), (3.3, 5.3), (5.3, 6.6)], strict=True):
        assert first_s - 1e-9 <= float(part[0]) < first_s + 0.09
        assert end_s - 0.09 < float(part[-1]) < end_s


@pytest.mark.parametrize(("method", "stop"), [pytest.param("uniform", 1, marks=pytest.mark.slow), ("omnizip", 2)])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    cli: Cli, case: Case, here: Path, monkeypatch: pytest.MonkeyPatch, method: str, stop: int
) -> None:
    words = ("encode", case.clip("shorter"), "--model", case.folder, "--fps", FPS, "--method", method)
    words = (*words, "--set", "chunk_frames=4")
    assert cli(*words, "-o", "whole").code == 0
    add = Spool.add

    def stopping(self: Spool, number: int, *rest: Any) -> Any:
        if number == stop:
            raise KeyboardInterrupt
        return add(self, number, *rest)

    monkeypatch.setattr(Spool, "add", stopping)
    assert cli(*words, "-o", "broken").code == 130
    monkeypatch.setattr(Spool, "add", add)
    assert cli(*words, "-o", "broken").code == 0
    whole, broken = (
        {name: data for name, data in tree_bytes(here / folder).items() if name.endswith(".safetensors")}
        for folder in ("whole", "broken")
    )
    assert len(whole) == 1
    assert whole == broken


def test_a_window_cuts_the_sound_too(case: Case) -> None:
    clip = case.clip("longer")
    record = case.encode(clip, settings=["sample.start_s=1.05", "sample.end_s=3.9"])
    start_s = float(record.frame_pts_s[0])
    assert 0.9 < start_s < 1.2
    is_all_of(record, case.encoder, heard(clip, start_s, 3.9))


def test_one_frame_has_the_sound_behind_it(case: Case) -> None:
    clip = case.clip("whole")
    record = case.encode(clip, settings=["sample.fps=null", "sample.frames=1"])
    is_all_of(record, case.encoder, heard(clip, float(record.frame_pts_s[0]), SECONDS))


def test_the_model_hears_as_much_as_its_processor_lets_it(cases: Callable[[str], Case], tmp_path: Path) -> None:
    """Qwen2.5-Omni's takes `chunk_length` seconds, here 10."""
    case = cases("qwen2_5_omni")
    record = case.encode(make(tmp_path / "long.mkv", Track(seconds=12.0), seconds=12.0))
    assert record.audio.count == 250
    assert record.grid[0] == 12


def test_no_sound(case: Case, tmp_path: Path) -> None:
    mute = make(tmp_path / "mute.mkv", None)
    record = case.encode(mute)
    assert record.audio is None
    assert "audio" not in record.meta
    assert record.meta["source"]["has_audio"] is False
    asker = vidcomp.Asker(*case.llm, [record])
    assert len(asker.ask(QUESTION, max_new_tokens=2, do_sample=False))


def test_sound_can_be_left_out(case: Case) -> None:
    clip = case.clip("whole")
    full, mute = case.encode(clip), case.encode(clip, settings=["model.sound=false"])
    assert mute.audio is None
    assert mute.meta["key"] != full.meta["key"]
    assert torch.equal(mute.tokens, full.tokens)


def test_a_model_that_does_not_listen(cases: Callable[[str], Case], tiny_maker: ModuleType, tmp_path: Path) -> None:
    folder = tiny_maker.make("qwen2_5_vl", tmp_path / "deaf")
    deaf = Case(folder, tmp_path)
    assert deaf.encode(cases("qwen2_5_omni").clip("whole")).audio is None


# -- OmniZip -------------------------------------------------------------------------------------------


def test_omnizip_decides_what_is_heard(case: Case) -> None:
    """Chunk by chunk as by hand: of the frames, the sound of their time, and how much that is attended to."""
    clip = case.clip("whole")
    record = case.encode(clip, method="omnizip", retain=None)
    whole = case.encode(clip)
    tokens, attention = listen(case.encoder, heard(clip, 0.0, SECONDS), "audio_attention")
    merger = build_method(build_recipe(method="omnizip")).merger
    times, rows = case.encoder.audio_pts_s(len(tokens)), list[Tensor]()
    step = whole.grid[1] * whole.grid[2]
    for first in range(0, 11, 4):
        mine = (times >= first / FPS) & ((times < (first + 4) / FPS) | (first == 8))
        held = whole.tokens.view(*whole.grid, -1)[first // 2 : first // 2 + 2]
        grid = TokenGrid(held, torch.zeros(len(held)).double(), audio=tokens[mine], audio_attention=attention[mine])
        rows.append(merger.reduce_audio(grid).apply(grid.audio))
    audio = record.audio
    torch.testing.assert_close(audio.tokens, torch.cat(rows), atol=1e-5, rtol=1e-5)
    assert 0.6 * len(tokens) < len(audio) < 0.85 * len(tokens)
    assert audio.count == len(tokens)
    assert record.meta["audio"] == {"tokens": len(tokens), "kept": len(audio)}
    assert torch.equal(audio.sizes.sum(), (audio.owner >= 0).sum())
    assert len(record) < 0.7 * step * whole.grid[0]
    assert torch.equal(audio.owner[audio.positions.long()], torch.arange(len(audio)).int())


def test_the_preset_of_omnizip(case: Case) -> None:
    clip = case.clip("whole")
    record = vidcomp.encode(clip, model=str(case.folder), config="omnizip", out=case.out)
    assert (record.meta["fps"], record.meta["chunk_frames"]) == (2.0, 768)
    assert 0 < len(record.audio) < record.audio.count
    inputs = vidcomp.prepare(*case.llm, record, QUESTION)
    config = case.llm[0].config
    for placeholder, rows in ((config.video_token_id, record), (config.audio_token_id, record.audio)):
        assert int((inputs["input_ids"] == placeholder).sum()) == len(rows)
    assert torch.isfinite(logits_of(case, inputs)).all()


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("later", "shorter")), "silent"]
)
def test_omnizip_in_small_chunks(case: Case, name: str) -> None:
    """Some of them without a frame that is heard, or with a single token."""
    record = case.encode(case.clip(name), chunk=2, method="omnizip", retain=None)
    assert 0 < len(record.audio) < record.audio.count


def test_omnizip_without_sound(case: Case, tmp_path: Path) -> None:
    record = case.encode(make(tmp_path / "mute.mkv", None), method="omnizip", retain=None)
    assert record.audio is None
    assert 0.3 < len(record) / record.owner.numel() < 0.45


def test_omnizip_behind_a_gate(case: Case, tmp_path: Path) -> None:
    record = case.encode(case.clip("whole"), method="omnizip", retain=None, gate="rlt")
    assert 0 < len(record.audio) < record.audio.count
    assert torch.isfinite(logits_of(case, vidcomp.prepare(*case.llm, record, QUESTION))).all()


# -- the model -----------------------------------------------------------------------------------------


@torch.no_grad()
def logits_of(case: Case, inputs: dict[str, Any]) -> Tensor:
    """(4, V) of greedy decoding."""
    how = {"do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4}
    out = case.llm[0].generate(**inputs, **how, return_dict_in_generate=True, output_logits=True)
    return torch.cat(out.logits)


@pytest.mark.parametrize("name", ["whole", pytest.param("5.1", marks=pytest.mark.slow)])
def test_a_whole_record_is_the_real_path(case: Case, name: str, tmp_path: Path) -> None:
    clip = case.clip(name)
    case.encode(clip).save(tmp_path / "a.safetensors")
    record = vidcomp.load(tmp_path / "a.safetensors")
    inputs = vidcomp.prepare(*case.llm, record, QUESTION)
    with Decoder() as decoder:
        frames = torch.cat([part.data for part in decoder.open(clip).frames(record.frame_index.numpy())])
    samples = heard(clip, 0.0, SECONDS)
    theirs = logits_of(case, own_path(case.llm[0], case.encoder, inputs, frames, FPS, samples))
    torch.testing.assert_close(logits_of(case, inputs), theirs, atol=1e-4, rtol=0)


def test_a_record_goes_through_a_file(case: Case, tmp_path: Path) -> None:
    record = case.encode(case.clip("whole"), method="omnizip", retain=None)
    record.save(tmp_path / "a.safetensors")
    again = vidcomp.load(tmp_path / "a.safetensors")
    assert again.audio.count == record.audio.count
    for name in ("tokens", "positions", "sizes", "pts_s", "owner"):
        assert torch.equal(getattr(again.audio, name), getattr(record.audio, name))


def test_ask_hears(cli: Cli, case: Case, here: Path) -> None:
    record = case.encode(case.clip("whole"), method="omnizip", retain=None)
    inputs = vidcomp.prepare(*case.llm, record, QUESTION)
    made = case.llm[0].generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    path = case.out / f"{record.meta['key']}.safetensors"
    words = ("ask", path, QUESTION, "--model", case.folder, "--max-new-tokens", 8, "--save-kv", "kv", "--json")
    for _ in range(2):
        said = cli(*words)
        assert (said.code, said.err) == (0, "")
        assert said.json["answer"] == case.llm[1].decode(made, skip_special_tokens=True).strip()
        assert (said.json["video_tokens"], said.json["audio_tokens"]) == (len(record), len(record.audio))
    assert len(list((here / "kv").iterdir())) == 1


def test_what_is_heard_matters(case: Case) -> None:
    clips = [case.clip(name) for name in ("whole", "silent")]
    records = [*map(case.encode, clips), case.encode(clips[0], settings=["model.sound=false"])]
    told = [logits_of(case, vidcomp.prepare(*case.llm, record, QUESTION)) for record in records]
    assert (told[0] - told[1]).abs().max() > 1e-3
    assert (told[0] - told[2]).abs().max() > 1e-3


def test_a_chunk_that_is_lost_takes_its_sound_with_it(case: Case, tmp_path: Path) -> None:
    """At the end: nobody knows of it before the video has ended."""
    clip = make(tmp_path / "a.mov", Track())
    whole, data = case.encode(clip), bytearray(clip.read_bytes())
    first = packet_place(clip, 38)[0]
    data[first:] = bytes(byte ^ 0x5A for byte in data[first:])
    clip.write_bytes(data)
    record = case.encode(clip)
    assert (record.meta["status"], len(record.frame_pts_s)) == ("partial", 8)
    count = int((whole.audio.pts_s < 8 / FPS).sum())
    assert record.audio.count == count < whole.audio.count
