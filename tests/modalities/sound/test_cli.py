"""From a folder of sound to a model, codes, voices and reports, as a user would go."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from narrows.checksums import SUMS
from narrows.cli import main
from narrows.commands.source import open_run_data
from narrows.modalities.sound.phonemes import Phonemes, learn_phonemes, measure_foreign_phonemes
from narrows.pretrained import load
from narrows.training.run import RunFolder

RATE, HOP = 2000, 8
RECIPE = """
modality: sound
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: StridedEncoder, init_args: {width: 8, strides: [2, 4], blocks: 1}}
    bottleneck: {class_path: VectorQuantizer, init_args: {dim: 4, codebook_size: 8}}
    decoder:
      class_path: WaveNetDecoder
      init_args: {local_channels: 4, channels: 4, skip_channels: 4, stacks: 1, layers: 3}
    likelihood: {class_path: MuLawCategorical, init_args: {levels: 16}}
estimator: {class_path: Pathwise}
data: {sample_rate: 2000, window: 64, validation: 0.2, test: 0.2}
training: {steps: 6, batch_size: 4, log_every: 2, validate_every: 3, checkpoint_every: 3}
variants:
  light:
    model:
      init_args:
        decoder: {class_path: StridedDecoder, init_args: {width: 8, strides: [4, 2], blocks: 1}}
  vae:
    model:
      init_args:
        bottleneck: {class_path: Gaussian, init_args: {channels: 2}}
"""
PRIOR = """
prior: {class_path: WaveNetPrior, init_args: {channels: 4, skip_channels: 4, stacks: 1, layers: 3}}
training: {steps: 4, batch_size: 4, log_every: 2, validate_every: 2, checkpoint_every: 2}
window: 24
"""
UPON = """
modality: sound
model:
  class_path: Stacked
  init_args:
    encoder: {class_path: GlobalEncoder, init_args: {width: 4, downsamplings: 1, blocks: 0}}
    bottleneck: {class_path: VectorQuantizer, init_args: {dim: 2, codebook_size: 4, codebooks: 3}}
    context: {class_path: GlobalDecoder, init_args: {width: 4, upsamplings: 1, blocks: 0}}
    decoder: {class_path: WaveNetPrior, init_args: {channels: 4, skip_channels: 4, stacks: 1, layers: 3}}
    embedding: 2
    channels: 4
estimator: {class_path: Pathwise}
data: {sample_rate: 2000, window: 32, validation: 0.2, test: 0.2}
training: {steps: 4, batch_size: 4, log_every: 2, validate_every: 2, checkpoint_every: 2}
"""


def tone(pitch: float, seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers of six clips of mixed lengths, with phonemes, recipes, and a run with its prior."""
    place = tmp_path_factory.mktemp("sound")
    for number, speaker in enumerate(["al", "bo", "cy"]):
        for take in range(6):
            clip = place / "speech" / speaker / f"{take}.wav"
            clip.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(clip, tone(200 + 100 * number, 0.05 + 0.031 * take), RATE, subtype="PCM_16")
            clip.with_suffix(".tsv").write_text("start_s\tphoneme\n0\ta\n0.04\tb\n")
    (place / "tiny.yaml").write_text(RECIPE)
    (place / "prior.yaml").write_text(PRIOR)
    data = ["--data", str(place / "speech")]
    assert main(["train", str(place / "tiny.yaml"), *data, "--out", str(place / "run")]) == 0
    assert main(["prior", str(place / "run"), "--recipe", str(place / "prior.yaml")]) == 0
    return place


def test_a_run_and_its_report(place: Path) -> None:
    run = place / "run"
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert recipe["modality"] == "sound"
    model = load(run)
    assert (model.classes, int(model.spec.rate), model.hop, model.grid) == (["al", "bo", "cy"], RATE, HOP, (8,))
    assert model.prior is not None
    assert model.prior.grid == (24,)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert all(np.isfinite(row["bits_per_dim"]) for row in rows)
    page = (run / "report.html").read_text()
    titles = re.findall(r"<h2[^>]*>([^<]*)", page)
    assert titles[:5] == ["Reconstructions", "Voices converted", "Samples", "Bits per dimension", "Codebook use"]
    # Each validation clip decoded twice, three of them converted to two others, and six samples.
    clips = len(open_run_data(RunFolder(run), model).validation)
    assert page.count("<audio") == 3 * clips + 3 * min(clips, 3) + 6


def test_a_run_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    data, out = ["--data", str(place / "speech")], ["--out", str(tmp_path / "run")]
    assert main(["train", str(place / "tiny.yaml"), *data, *out, "--training.steps=3"]) == 0
    assert main(["train", str(place / "tiny.yaml"), *out, "--resume", "--training.steps=6"]) == 0
    weights = [path / "model" / "model.safetensors" for path in (tmp_path / "run", place / "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_reconstruct(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(place / "run")
    assert main(["reconstruct", run]) == 0
    folder = place / "run" / "reconstructions"
    assert len(list(folder.glob("*.wav"))) == 4
    assert (folder / "index.html").read_text().count("<audio") == 8
    clip = place / "speech" / "al" / "3.wav"
    assert main(["reconstruct", run, str(clip), "--speaker", "al", "--out", str(tmp_path / "out")]) == 0
    assert soundfile.info(tmp_path / "out" / "3.wav").frames == soundfile.info(clip).frames
    capsys.readouterr()
    assert main(["reconstruct", run, str(clip)]) == 1
    assert (
        "choose a class to decode as, with --class NAME; the classes are: 0 al, 1 bo, 2 cy" in capsys.readouterr().err
    )
    assert main(["reconstruct", run, "--scale", "2"]) == 1
    assert "--scale" in capsys.readouterr().err


def test_convert_voice(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run, out = str(place / "run"), tmp_path / "out.wav"
    said = tmp_path / "said.wav"
    soundfile.write(said, np.stack([tone(300, 0.2)] * 2, 1), 2 * RATE, subtype="PCM_24")
    convert = ["convert-voice", run, str(said), "--out", str(out)]
    assert main([*convert, "--to", "bo"]) == 0
    assert (soundfile.info(out).frames, soundfile.info(out).samplerate) == (RATE // 10, RATE)
    assert "resampled from 4,000 Hz to the model's 2,000 Hz" in caplog.text
    assert "2 channels, mixed down to one" in caplog.text
    first = out.read_bytes()
    assert main([*convert, "--to", "bo"]) == 0
    assert out.read_bytes() == first
    assert main([*convert, "--to", "bo", "--decoder-seed", "1"]) == 0
    assert out.read_bytes() != first
    capsys.readouterr()
    assert main([*convert, "--to", "di"]) == 1
    assert "no speaker 'di'; the model knows: al, bo, cy" in capsys.readouterr().err
    for name, content in (("silent.wav", np.zeros(200)), ("clipped.wav", np.ones(200))):
        soundfile.write(tmp_path / name, content, RATE, subtype="PCM_16")
        assert main(["convert-voice", run, str(tmp_path / name), "--to", "bo", "--out", str(out)]) == 0
    assert "silent: every sample is 0" in caplog.text
    assert "clipped: 100.0% of its samples are at full scale" in caplog.text
    soundfile.write(tmp_path / "one.wav", np.ones(1), RATE)
    (tmp_path / "cut.wav").write_bytes(said.read_bytes()[:300])
    (tmp_path / "text.wav").write_text("hello")
    for name, message in (("one.wav", "fewer than two samples"), ("cut.wav", "cut short"), ("text.wav", "not sound")):
        before = out.read_bytes()
        assert main(["convert-voice", run, str(tmp_path / name), "--to", "bo", "--out", str(out)]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert name in error
        assert out.read_bytes() == before
    assert main([*convert[:-1], "out.mp3", "--to", "bo"]) == 1
    assert "sound is written as .wav" in capsys.readouterr().err


def test_codes_and_back(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, codes = str(place / "run"), tmp_path / "codes.npz"
    files = [place / "speech" / speaker / f"{take}.wav" for speaker, take in (("al", 1), ("bo", 4), ("cy", 4))]
    assert main(["encode", run, *map(str, files), "--out", str(codes)]) == 0
    with np.load(codes) as content:
        assert content["codes"].dtype == np.uint8
        assert content["lengths"].tolist() == [-(-soundfile.info(file).frames // HOP) for file in files]
        assert content["names"].tolist() == list(map(str, files))
    assert main(["decode", run, str(codes), "--speaker", "bo", "--out", str(tmp_path / "out")]) == 0
    frames = [soundfile.info(file).frames for file in sorted((tmp_path / "out").glob("*.wav"))]
    assert frames == [soundfile.info(file).frames for file in files]
    capsys.readouterr()
    assert main(["decode", run, str(codes), "--out", str(tmp_path / "out")]) == 1
    assert "choose a class to decode as, with --class NAME" in capsys.readouterr().err


def test_samples(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    assert main(["sample", str(place / "run"), "-n", "4", "--out", str(out)]) == 0
    assert [file.name for file in sorted(out.glob("*.wav"))] == ["000-al.wav", "001-bo.wav", "002-cy.wav", "003-al.wav"]
    assert soundfile.info(out / "000-al.wav").frames == 24 * HOP
    assert (out / "index.html").read_text().count("<audio") == 4


def test_phonemes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = place / "run"
    assert main(["evaluate", str(run), "--phonemes", str(place / "speech"), "--reconstruct", "3"]) == 0
    printed = capsys.readouterr().out
    assert "accuracy, unseen clips" in printed
    found = json.loads((run / "phonemes.json").read_text())
    assert found["phonemes"] == ["_", "a", "b"]
    counts = np.array(found["counts"])
    assert counts.shape == (8, 3)
    assert set(found["figures"]) == {"validation clips", "unseen clips"}
    # Of every clip the frames with their centres before 40 ms are of a: ten of 4 ms each.
    clips = len(open_run_data(RunFolder(run), load(run)).train)
    assert counts.sum(0)[:2].tolist() == [0, 10 * clips]
    page = (run / "report.html").read_text()
    assert "Codes as phonemes" in page
    evaluated = json.loads((run / "evaluation.json").read_text())
    assert (evaluated["examples"], evaluated["unit"]) == (4, "clips")
    assert set(evaluated["options"]) == {"phonemes", "reconstruct"}
    assert evaluated["figures"]["reconstructed"] == 3
    assert evaluated["figures"]["log_mel_db"] > 0
    assert main(["evaluate", str(run), "--phonemes", str(place / "run")]) == 1


def test_clips_of_another_source_are_measured_by_the_map_of_the_training_clips(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A map fitted to these very clips would name a phoneme that the training clips never had; theirs cannot."""
    run, home = tmp_path / "run", place / "speech"
    shutil.copytree(place / "run", run)
    (run / "phonemes.json").unlink(missing_ok=True)
    other = tmp_path / "other"
    shutil.copytree(home, other)
    for table in other.glob("*/*.tsv"):
        table.write_text("start_s\tphoneme\n0\tnew\n0.04\tb\n")
    asked = ["evaluate", str(run), "--split", "train", "--data", str(other), "--phonemes", str(other)]
    assert main(asked) == 1
    assert "on the run's own data first" in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", str(run), "--phonemes", str(home)]) == 0
    kept = (run / "phonemes.json").read_bytes()
    own = Phonemes(**json.loads(kept))
    assert own.training == {
        "clips": len(open_run_data(RunFolder(run), load(run)).train),
        "frames": int(np.sum(own.counts)),
    }

    assert main(asked) == 0
    assert (run / "phonemes.json").read_bytes() == kept
    model, whole = load(run), ["--data.validation=0", "--data.test=0"]
    clips = open_run_data(RunFolder(run), model, str(other), whole).train
    found = measure_foreign_phonemes(model, str(run), clips, other)
    (figures,) = found.figures.values()
    right, frames, stands_for = 0, 0, np.array(own.counts).argmax(1)
    for index in range(len(clips)):
        codes = model.encode(clips.clip(index).view(1, 1, -1))[0, : (int(clips.lengths[index]) + HOP // 2) // HOP]
        right += sum(own.phonemes[stands_for[code]] == "b" for code in codes[10:].tolist())
        frames += len(codes)
    assert (figures["frames"], figures["clips"]) == (frames, len(clips))
    assert figures["accuracy"] == pytest.approx(right / frames)
    assert figures["unknown"] == pytest.approx(10 * len(clips) / frames)
    assert found.counts == own.counts


def test_the_same_clips_have_the_same_figures_as_another_source(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    model, data = load(run), open_run_data(RunFolder(run), load(run))
    own = learn_phonemes(model, str(run), data, place / "speech")
    own.write(run / "phonemes.json")
    (again,) = measure_foreign_phonemes(model, str(run), data.test, place / "speech").figures.values()
    assert again.pop("unknown") == 0
    assert again == own.figures["unseen clips"]


def test_a_map_of_an_earlier_model_or_version_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, speech = tmp_path / "run", str(place / "speech")
    shutil.copytree(place / "run", run)
    assert main(["evaluate", str(run), "--phonemes", speech]) == 0
    kept = json.loads((run / "phonemes.json").read_text())
    for changed, said in (
        ({**kept, "model": "another"}, "is from an earlier model"),
        ({name: kept[name] for name in kept if name not in ("model", "training")}, "from an earlier version"),
    ):
        (run / "phonemes.json").write_text(json.dumps(changed))
        assert main(["evaluate", str(run), "--phonemes", speech, "--data", speech]) == 1
        assert said in " ".join(capsys.readouterr().err.split())
        assert main(["evaluate", str(run)]) == 0
        page = " ".join((run / "report.html").read_text().split())
        assert "measured on an earlier model" in page


def test_the_learned_prior_is_measured(place: Path) -> None:
    assert main(["evaluate", str(place / "run"), "--split", "train"]) == 0
    figures = json.loads((place / "run" / "evaluation.json").read_text())["figures"]
    rate, distortion = figures["prior_rate_bits_per_dim"], figures["distortion_bits_per_dim"]
    assert figures["prior_bits_per_dim"] == pytest.approx(rate + distortion)
    assert rate != pytest.approx(figures["rate_bits_per_dim"])


def test_names_of_speakers_do_not_lead_out_of_the_folder(place: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "in" / "here"
    shutil.copytree(place / "run", run)
    config = json.loads((run / "model" / "config.json").read_text())
    config["spec"]["classes"][0] = "../../al"
    (run / "model" / "config.json").write_text(json.dumps(config))
    (run / "model" / SUMS).unlink()
    assert main(["sample", str(run), "-n", "1", "--out", str(out)]) == 0
    assert [file.name for file in out.glob("*.wav")] == ["000-.._.._al.wav"]


def test_what_would_do_nothing_is_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, clip = str(place / "run"), str(place / "speech" / "al" / "3.wav")
    convert = ["convert-voice", run, clip, "--to", "bo", "--out", str(tmp_path / "out.wav")]
    assert main([*convert, "--decoder-temperature", "0"]) == 1
    assert "temperature must be above 0" in capsys.readouterr().err
    assert main(["sample", run, "--full"]) == 1
    assert "--full: a WaveNetDecoder always draws data in full" in capsys.readouterr().err
    for window, message in (
        ("500", "the longest example of a split has"),
        ("0", "window is 0: it must be at least 1 code"),
    ):
        again = ["prior", run, "--recipe", str(place / "prior.yaml"), f"--window={window}"]
        shutil.copytree(place / "run" / "model", tmp_path / window / "model")
        shutil.copy(place / "run" / "recipe.yaml", tmp_path / window)
        assert main(["prior", str(tmp_path / window), *again[2:]]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / window / "prior").exists()


def test_several_codes_at_a_position(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    data = ["--data", str(place / "speech"), "--training.steps=3", "--model.bottleneck.codebooks=2"]
    assert main(["train", str(place / "tiny.yaml"), *data, "--out", run]) == 0
    assert main(["prior", run, "--recipe", str(place / "prior.yaml")]) == 0
    assert main(["sample", run, "-n", "1"]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--phonemes", str(place / "speech")]) == 1
    assert "phonemes are predicted from one code per position" in capsys.readouterr().err


def test_continuous_latents(place: Path, tmp_path: Path) -> None:
    run, clips = tmp_path / "run", [str(place / "speech" / "al" / f"{take}.wav") for take in (1, 3)]
    arguments = ["train", str(place / "tiny.yaml"), "--variant", "vae", "--data", str(place / "speech")]
    assert main([*arguments, "--out", str(run), "--training.steps=3"]) == 0
    assert main(["evaluate", str(run), "--reconstruct", "2", "--samples", "4"]) == 0
    figures = json.loads((run / "evaluation.json").read_text())["figures"]
    assert figures["importance_weighted_bits_per_dim"] < figures["bits_per_dim"]
    assert main(["encode", str(run), *clips, "--out", str(tmp_path / "codes.npz")]) == 0
    assert main(["decode", str(run), str(tmp_path / "codes.npz"), "--speaker", "bo", "--out", str(tmp_path)]) == 0
    for clip in clips:
        assert soundfile.info(tmp_path / Path(clip).name).frames == soundfile.info(clip).frames
    assert main(["sample", str(run), "-n", "2", "--out", str(tmp_path / "samples")]) == 0
    assert main(["sample", str(run), "-n", "2", "--top-k", "2"]) == 1


def test_the_light_decoder(place: Path, tmp_path: Path) -> None:
    arguments = ["train", str(place / "tiny.yaml"), "--variant", "light", "--data", str(place / "speech")]
    noise = ["--training.steps=3", "--training.gradient_draws=2"]
    assert main([*arguments, "--out", str(tmp_path / "run"), *noise]) == 0
    assert "gradient_noise" in (tmp_path / "run" / "metrics.jsonl").read_text()
    out = tmp_path / "out.wav"
    clip = place / "speech" / "al" / "3.wav"
    assert main(["convert-voice", str(tmp_path / "run"), str(clip), "--to", "cy", "--out", str(out)]) == 0
    assert soundfile.info(out).frames == soundfile.info(clip).frames
    convert = ["convert-voice", str(tmp_path / "run"), str(clip), "--to", "cy", "--out", str(out)]
    assert main([*convert, "--decoder-temperature", "0.5"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the folder of sound with --data FOLDER"),
        (["--data", "SPEECH", "--data.sample_rate=500"], "data.sample_rate is 500: it must be at least 1000"),
        (["--data", "SPEECH", "--data.window=60"], "data.window is 60, which is not a multiple of 8,"),
        (["--data", "SPEECH", "--data.size=8"], "size"),
        (["--data", "SPEECH", "--model.likelihood=DiscretizedLogistic"], "set model.likelihood to one with levels"),
        (
            ["--data=SPEECH", "--estimator=DistortionTarget", "--estimator.gamma=1", "--estimator.estimator=Pathwise"],
            "DistortionTarget needs the squared error of a reconstruction, and a WaveNetDecoder",
        ),
        (["--data", "SPEECH", "--variant", "light", "--model.decoder.strides=[4,4]"], "set the decoder's strides"),
    ],
)
def test_bad_settings_leave_nothing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = [argument.replace("SPEECH", str(place / "speech")) for argument in arguments]
    assert main(["train", str(place / "tiny.yaml"), "--out", str(tmp_path / "run"), *given]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_interpolate(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first is the reconstruction of the shorter clip, filled up with silence."""
    run, ends = str(place / "run"), [str(place / "speech" / "al" / f"{take}.wav") for take in (1, 3)]
    assert main(["interpolate", run, *ends]) == 1
    assert "choose a class to decode as, with --class NAME" in capsys.readouterr().err
    out = tmp_path / "between"
    assert main(["interpolate", run, *ends, "--speaker", "al", "--steps", "3", "--out", str(out)]) == 0
    made = sorted(out.glob("*.wav"))
    assert [soundfile.info(file).frames for file in made] == [soundfile.info(ends[1]).frames] * 3
    assert (out / "index.html").read_text().count("<audio") == 3
    sound, whole = soundfile.read(ends[0], dtype="int16")[0], np.zeros(soundfile.info(ends[1]).frames, np.int16)
    whole[: len(sound)] = sound
    soundfile.write(tmp_path / "whole.wav", whole, RATE, subtype="PCM_16")
    again = ["reconstruct", run, str(tmp_path / "whole.wav"), "--speaker", "al", "--out", str(tmp_path / "again")]
    assert main(again) == 0
    assert made[0].read_bytes() == (tmp_path / "again" / "whole.wav").read_bytes()


def test_what_is_of_images_is_refused(
    place: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, images = str(place / "run"), str(trained)
    clip = str(place / "speech" / "al" / "3.wav")
    shutil.copytree(place / "run" / "model", tmp_path / "run" / "model")
    shutil.copy(place / "run" / "recipe.yaml", tmp_path / "run")
    assert main(["prior", str(tmp_path / "run"), "--recipe", "pixelcnn"]) == 1
    assert "a PixelCNN models codes on a grid (rows, columns), got (8,): use WaveNetPrior" in capsys.readouterr().err
    data = ["--data", str(place / "speech")]
    assert main(["curve", str(place / "tiny.yaml"), *data, "--out", str(tmp_path / "curve")]) == 1
    assert "a curve needs a recipe with the estimator DistortionTarget" in capsys.readouterr().err
    assert main(["sample", run, "--scale", "2"]) == 1
    assert "is a model of sound, which has no such option" in capsys.readouterr().err
    assert main(["convert-voice", images, clip, "--to", "al", "--out", str(tmp_path / "x.wav")]) == 1
    assert "is a model of images" in capsys.readouterr().err
    assert main(["evaluate", images, "--phonemes", clip]) == 1
    assert "is a model of images, which has no such option" in capsys.readouterr().err


COMPARED = """
modality: sound
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: StridedEncoder, init_args: {width: 8, strides: [2, 4], blocks: 1}}
    bottleneck: {class_path: Gaussian, init_args: {channels: 2}}
    decoder: {class_path: StridedDecoder, init_args: {width: 8, strides: [4, 2], blocks: 1}}
    likelihood: {class_path: MuLawCategorical, init_args: {levels: 16}}
estimator: {class_path: Pathwise}
data: {sample_rate: 2000, window: 64, validation: 0.2, test: 0.2}
training: {steps: 4, batch_size: 4, log_every: 2, validate_every: 2, checkpoint_every: 4}
variants:
  vae: {}
  vqvae: {model: {init_args: {bottleneck: {class_path: VectorQuantizer, init_args: {dim: 4, codebook_size: 8}}}}}
  held: {estimator: {class_path: DistortionTarget, init_args: {gamma: 4.0, estimator: {class_path: Pathwise}}}}
"""


def test_a_comparison_of_sound(place: Path, tmp_path: Path) -> None:
    """By the bits asked for, with players of the originals and of every method's reconstructions."""
    recipe, out = tmp_path / "compared.yaml", tmp_path / "out"
    recipe.write_text(COMPARED)
    budget = ["--budget", "4", "--seeds", "1", "--learning-rates", "1e-3", "--limit", "2", "--samples", "2"]
    command = ["compare", "vae", "vqvae", "--recipe", str(recipe), "--data", str(place / "speech"), *budget]
    assert main([*command, "--bits", "48", "--out", str(out)]) == 0
    rows = (out / "summary.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["vae", "vqvae"]
    page = (out / "report.html").read_text()
    assert page.count("<audio") == 3 * 4  # of all test clips
    assert "held-out clips (test, 2 of" in page
    trained = yaml.safe_load((out / "trials" / "vqvae" / "lr-0.001-seed-0" / "recipe.yaml").read_text())
    assert trained["model"]["init_args"]["bottleneck"]["init_args"]["codebooks"] == 2  # 8 positions of 3 bits each
    assert (out / "reconstructions" / "index.html").exists()


def test_a_curve_of_sound(place: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "compared.yaml", tmp_path / "out"
    recipe.write_text(COMPARED)
    command = ["curve", str(recipe), "--variant", "held", "--data", str(place / "speech"), "--gammas", "8,2"]
    assert main([*command, "--limit", "3", "--out", str(out)]) == 0
    rows = (out / "curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["8", "2"]
    page = (out / "report.html").read_text()
    assert page.count("<audio") == 3 * 3 + 3 * 2  # originals and reconstructions at two gammas, and samples of both
    assert len(list((out / "samples").glob("*.wav"))) == 3


def test_a_model_upon_the_codes_of_a_run(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Windows of four codes have three global latents each, whatever the length of a clip."""
    recipe, run, clips = tmp_path / "upon.yaml", tmp_path / "run", [str(place / f"speech/al/{n}.wav") for n in (0, 5)]
    recipe.write_text(UPON)
    command = ["train", str(recipe), "--data", str(place / "speech"), "--on", str(place / "run"), "--out", str(run)]
    assert main([*command, "--data.window=36"]) == 1
    assert "set it to 40" in capsys.readouterr().err
    assert main([*command, "--data.validation=0.3"]) == 1
    assert "trained on other data" in capsys.readouterr().err
    assert not run.exists()
    assert main(command) == 0
    assert main(["encode", str(run), *clips, "-o", str(tmp_path / "codes.npz")]) == 0
    with np.load(tmp_path / "codes.npz") as content:
        assert content["codes"].shape[2:] == (3,)
        samples = [soundfile.info(clip).frames for clip in clips]
        assert content["lengths"].tolist() == [-(-count // 32) for count in samples]
    out = tmp_path / "out"
    assert main(["decode", str(run), str(tmp_path / "codes.npz"), "--speaker", "bo", "-o", str(out)]) == 0
    assert [soundfile.info(out / f"{n}.wav").frames for n in (0, 5)] == samples
    assert main(["reconstruct", str(run), clips[0], "--speaker", "al", "--draws", "2", "-o", str(out)]) == 0
    assert main(["sample", str(run), "-n", "2", "-o", str(tmp_path / "samples")]) == 0
    assert main(["evaluate", str(run)]) == 0
    figures = json.loads(RunFolder(run).evaluation.read_text())["figures"]
    terms = ("rate_bits_per_dim", "codes_bits_per_dim", "data_given_codes_bits_per_dim")
    assert figures["bits_per_dim"] == pytest.approx(sum(figures[name] for name in terms))
    assert figures["bits_per_code_swapped"] > 0
