"""From a folder of MIDI files to a model, codes, pieces and reports, as a user would go."""

import csv
import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from narrows.cli import main
from narrows.modalities.music.compose import composed
from narrows.modalities.music.dataset import open_music
from narrows.modalities.music.finetune import Classifier
from narrows.modalities.music.latents import WindowLatents, song_accuracy, window_latents
from narrows.modalities.music.midi import Clock, Notes, read_notes, write_notes
from narrows.modalities.music.modality import MODALITY
from narrows.modalities.music.report import note_figures
from narrows.modalities.music.roll import RollLayout, to_levels
from narrows.modalities.music.settings import MusicSettings
from narrows.networks import RecurrentEncoder
from narrows.pretrained import load
from narrows.sampling import Sampling

WINDOW = 8
RECIPE = """
modality: music
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: RecurrentEncoder, init_args: {window: 8, hidden: 6, cell: gru, reverse: true}}
    bottleneck: {class_path: Gaussian, init_args: {channels: 2}}
    decoder: {class_path: RecurrentDecoder, init_args: {hidden: 6, cell: gru}}
    likelihood: {class_path: Bernoulli}
estimator: {class_path: Pathwise}
data: {window: 8, stride: 4, validation: 0.2, test: 0.2, rare: 0}
training: {steps: 6, batch_size: 4, log_every: 2, validate_every: 3, checkpoint_every: 3}
variants:
  vae: {}
  vq:
    model:
      init_args:
        bottleneck: {class_path: VectorQuantizer, init_args: {dim: 4, codebook_size: 8}}
  velocity:
    model:
      init_args:
        likelihood: {class_path: DiscretizedLogistic, init_args: {levels: 128}}
    data: {velocity: true}
  autoregressive:
    model:
      init_args:
        decoder: {class_path: AutoregressiveRecurrentDecoder, init_args: {hidden: 6, cell: lstm}}
"""
PRIOR = """
prior: {class_path: TransformerPrior, init_args: {width: 8, layers: 1, heads: 2}}
training: {steps: 4, batch_size: 4, log_every: 2, validate_every: 2, checkpoint_every: 2}
window: 2
"""


def scale(path: Path, steps: int, lowest: int) -> None:
    rows = [(t, t + 2, lowest + t % 7, 80) for t in range(0, steps - 1, 2)]
    write_notes(path, Notes(*np.array(rows).T), Clock(20.0))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs of scales, recipes, and a run."""
    place = tmp_path_factory.mktemp("music")
    for number, name in enumerate(["ant", "bee", "cat"]):
        scale(place / "songs" / f"{name}.mid", 120 + 40 * number, 50 + 10 * number)
    (place / "tiny.yaml").write_text(RECIPE)
    (place / "prior.yaml").write_text(PRIOR)
    data = ["--data", str(place / "songs")]
    assert main(["train", str(place / "tiny.yaml"), *data, "--out", str(place / "run")]) == 0
    return place


def test_a_run_and_its_report(place: Path) -> None:
    model = load(place / "run")
    assert model.classes == ["ant", "bee", "cat"]
    assert model.spec.rate == 20
    assert (model.spec.details["lowest"], model.spec.details["highest"]) == (50, 76)
    assert (model.hop, model.grid, model.shape) == (WINDOW, (1,), (54, WINDOW))
    page = (place / "run" / "report.html").read_text()
    titles = re.findall(r"<h2[^>]*>([^<]*)", page)
    assert titles[:5] == ["Reconstructions", "Samples", "Bits per dimension", "Map", "The plane, decoded"]
    assert "<title>bee, 0:0" in page
    assert [row in page for row in ("of the window", "of the window before", "zero for every window")] == [True] * 3
    assert re.search(r"A window&#39;s latents have [\d.]+ bits; \d of 2 dimensions are active", page)
    notes = json.loads(re.search(r'class="notes">(.*?)</script>', page)[1])  # type: ignore[index]
    assert len(notes) == page.count("<circle")
    assert all(len(pair) == 2 and len(pair[0][0]) == 4 for pair in notes if pair[0])
    assert "<script src" not in page


def test_a_run_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    data, out = ["--data", str(place / "songs")], ["--out", str(tmp_path / "run")]
    assert main(["train", str(place / "tiny.yaml"), *data, *out, "--training.steps=3"]) == 0
    assert main(["train", str(place / "tiny.yaml"), *out, "--resume", "--training.steps=6"]) == 0
    weights = [path / "model" / "model.safetensors" for path in (tmp_path / "run", place / "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_files_to_latents_and_back(place: Path, tmp_path: Path) -> None:
    run, song = str(place / "run"), place / "songs" / "bee.mid"
    assert main(["encode", run, str(song), "--out", str(tmp_path / "codes.npz")]) == 0
    assert main(["decode", run, str(tmp_path / "codes.npz"), "--out", str(tmp_path / "decoded")]) == 0
    model = load(run)
    (x,) = MODALITY.read([song], model.spec)
    assert x.shape == (54, 160)
    made = read_if_any(tmp_path / "decoded" / "bee.mid")
    mean = model.reconstruct(x.unsqueeze(0))[0]
    assert made == read_written(mean, model, tmp_path / "again.mid")


def read_written(x: torch.Tensor, model: object, path: Path) -> list[list[int]]:
    MODALITY.write(path, x, model.spec)  # type: ignore[attr-defined]
    return read_if_any(path)


def read_if_any(path: Path) -> list[list[int]]:
    """The notes of a file; a model trained for a moment may make none."""
    try:
        return [part.tolist() for part in read_notes(path.read_bytes(), Clock(20.0)).notes]
    except ValueError as error:
        assert "no notes" in str(error)  # noqa: PT017
        return []


def test_reconstruct_sample_and_interpolate(place: Path, tmp_path: Path) -> None:
    run = str(place / "run")
    assert main(["reconstruct", run, "--out", str(tmp_path / "made")]) == 0
    assert (tmp_path / "made" / "index.html").read_text().count('class="tune"') == 2 * 3
    assert main(["sample", run, "-n", "4", "--out", str(tmp_path / "samples")]) == 0
    assert len(list((tmp_path / "samples").glob("*.mid"))) == 4
    ends = [str(place / "songs" / name) for name in ("ant.mid", "cat.mid")]
    assert main(["interpolate", run, *ends, "--steps", "3", "--out", str(tmp_path / "path")]) == 0
    assert len(list((tmp_path / "path").glob("*.mid"))) == 3


def test_a_piece_of_any_length(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, song = str(place / "run"), place / "songs" / "ant.mid"
    assert main(["compose", run, "--steps", "100", "-n", "2", "--out", str(tmp_path / "free")]) == 0
    assert len(list((tmp_path / "free").glob("*.mid"))) == 2
    assert main(["compose", run, "--steps", "50", "--start", str(song), "--out", str(tmp_path / "on")]) == 0
    page = (tmp_path / "on" / "index.html").read_text()
    assert 'data-steps="170"' in page
    assert "ant.mid, continued" in page
    capsys.readouterr()
    assert main(["compose", run, "-n", "2", "--start", str(song)]) == 1
    assert "-n 2: from what is given there is one piece to make" in capsys.readouterr().err


def test_a_piece_through_chosen_latents(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, song, out = str(place / "run"), place / "songs" / "ant.mid", tmp_path / "through"
    model = load(run)
    (x,) = MODALITY.read([song], model.spec)
    z = model.encode(x[None, :, 20 : 20 + WINDOW])
    assert main(["compose", run, "--steps", "20", "--through", "0.5 -1", f"{song}@1.0", "--out", str(out)]) == 0
    path = torch.stack(
        [torch.tensor([0.5, -1.0]), torch.lerp(torch.tensor([0.5, -1.0]), z[0, :, 0], 0.5), z[0, :, 0]], 1
    )
    expected = model.decode_latents(path[None])[0, :, :20]
    assert read_if_any(out / "000.mid") == read_written(expected, model, tmp_path / "expected.mid")
    assert "0.5 -1 to ant.mid@1.0" in (out / "index.html").read_text()
    assert main(["compose", run, "--steps", "30", "--through", f"{song}@0:01", "--out", str(out)]) == 0
    assert read_if_any(out / "000.mid") == read_written(composed(model, z, 30)[0], model, tmp_path / "expected.mid")
    capsys.readouterr()
    for asked, message in {
        ("--through", "1 2 3"): "the latents of this model have 2 dimensions, not 3",
        ("--through", "nothing.mid"): "nothing.mid cannot be read",
        ("--through", f"{song}@99"): "has 120 steps, and a window of 8 does not begin at 1980",
        ("--through", "1.2.3 1"): "1.2.3 1 cannot be read",
        (
            "--through",
            "1 2",
            "2 1",
            "3 1",
            "--steps",
            "16",
        ): "3 latents need as many windows of 8 steps",
        ("--through", "1 2", "--start", str(song)): "a piece through chosen latents has no other start",
        ("--through", "1 2", "-n", "2"): "there is one piece to make",
        ("--through", "1 2", "--temperature", "0.5"): "--temperature 0.5: nothing is drawn here",
    }.items():
        assert main(["compose", run, *asked]) == 1
        assert message in capsys.readouterr().err


def test_a_model_of_velocities(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, data = str(place / "tiny.yaml"), ["--data", str(place / "songs")]
    run, out = str(tmp_path / "run"), str(tmp_path / "made")
    assert main(["train", recipe, "--variant", "velocity", *data, "--out", run]) == 0
    assert main(["reconstruct", run, str(place / "songs" / "ant.mid"), "--out", out]) == 0
    spec = load(run).spec
    (x,) = MODALITY.read([place / "songs" / "ant.mid"], spec)
    assert x.unique().tolist() == [0.0, pytest.approx(80 / 127), 1.0]
    assert main(["evaluate", run]) == 0
    assert "unigram" not in capsys.readouterr().out
    assert main(["train", recipe, *data, "--data.velocity=true", "--out", out]) == 1
    assert "Bernoulli" in capsys.readouterr().err


def test_a_lower_threshold_gives_more_notes(place: Path, tmp_path: Path) -> None:
    counts = []
    for threshold in ("0.3", "0.5", "0.7"):
        out = tmp_path / threshold
        assert main(["reconstruct", str(place / "run"), "--threshold", threshold, "--out", str(out)]) == 0
        counts.append(sum(len((read_if_any(file) or [[]])[0]) for file in out.glob("*.mid")))
        assert main(["compose", str(place / "run"), "--threshold", threshold, "--out", str(out)]) == 0
    assert counts[0] > counts[1] > counts[2]


def test_a_file_is_restored_with_its_own_notes(place: Path, tmp_path: Path) -> None:
    song = place / "songs" / "ant.mid"
    assert main(["restore", str(place / "run"), str(song), "--threshold", "0.4", "--out", str(tmp_path)]) == 0
    given, whole = (set(zip(*read_if_any(file)[:3], strict=True)) for file in (song, tmp_path / "ant.mid"))
    assert given <= whole
    assert (tmp_path / "index.html").read_text().count('class="tune"') == 2


def test_a_piece_continues_the_window_of_its_latent(place: Path) -> None:
    model, z = load(place / "run"), torch.randn(2, 2, 3)
    whole = composed(model, z, 3 * WINDOW + 5)
    torch.testing.assert_close(whole[:, :, : 3 * WINDOW], model.observe(z).mean)
    last = composed(model, z[:, :, -1:], WINDOW + 5)
    torch.testing.assert_close(whole[:, :, -WINDOW - 5 :], last)
    torch.testing.assert_close(composed(model, z, WINDOW + 1), whole[:, :, : WINDOW + 1])
    continued = composed(model, z, 5, opening=torch.zeros(2, 54, 3 * WINDOW))
    torch.testing.assert_close(continued, whole)


def test_a_decoder_that_reads_the_data_continues_the_file_itself(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, song = str(tmp_path / "run"), place / "songs" / "ant.mid"
    data = ["--data", str(place / "songs"), "--variant", "autoregressive"]
    assert main(["train", str(place / "tiny.yaml"), *data, "--out", run]) == 0
    for command in (["compose", run], ["restore", run, str(song)]):
        assert main([*command, "--threshold", "0.3"]) == 1
        assert "--threshold 0.3: the decoder of this model draws notes" in capsys.readouterr().err
    assert main(["compose", run, "--steps", "12", "--start", str(song), "--out", str(tmp_path / "on")]) == 0
    assert main(["sample", run, "-n", "2"]) == 0
    assert main(["reconstruct", run]) == 0
    model = load(run)
    opening = MODALITY.read([song], model.spec)[0][None, :, : 15 * WINDOW]
    z = model.posterior(opening).mode
    made = composed(model, z, 12, opening, Sampling(top_k=1, seed=0))
    assert torch.equal(made[:, :, : 15 * WINDOW], opening)
    # The most probable values one after another, by the decoder's parallel form in one long window.
    decoder = model.decoder
    decoder.hop = WINDOW + 12
    levels = made[:, :, -decoder.hop :].long()
    outputs = decoder(z[:, :, -1:], levels)
    assert torch.equal((outputs > 0)[:, :, WINDOW:], levels[:, :, WINDOW:] == 1)


def test_evaluate_states_notes_songs_and_baselines(place: Path) -> None:
    assert main(["evaluate", str(place / "run")]) == 0
    figures = json.loads((place / "run" / "evaluation.json").read_text())["figures"]
    assert {"note_f1", "note_precision", "note_recall", "song_accuracy", "song_accuracy_by_chance"} <= figures.keys()
    assert 0 < figures["order1_bits_per_dim"] < figures["unigram_bits_per_dim"] < 1
    assert figures["bits_per_step"] == pytest.approx(figures["bits_per_dim"] * 54)
    data = open_music(MusicSettings(source=str(place / "songs"), window=WINDOW, validation=0.2, test=0.2, rare=0))
    begun = sum(len(data.layout.to_notes(data.test.stored(index)).start) for index in range(len(data.test)))
    assert figures["bits_per_note"] == pytest.approx(figures["bits_per_dim"] * data.test.values.size / begun)
    assert main(["evaluate", str(place / "run"), "--data", str(place / "songs"), "--remove", "0.5"]) == 0
    (other,) = (place / "run").glob("evaluation-*.json")
    figures = json.loads(other.read_text())["figures"]
    assert {"restored_recall", "restored_precision", "restored_f1"} <= figures.keys()
    assert not {"song_accuracy", "unigram_bits_per_dim"} & figures.keys()
    assert 0 < figures["damaged_f1"] < 1


def test_codes_and_a_prior_over_them(place: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "vq")
    data = ["--data", str(place / "songs")]
    assert main(["train", f"{place / 'tiny.yaml'}", "--variant", "vq", *data, "--out", out]) == 0
    assert main(["prior", out, "--recipe", str(place / "prior.yaml")]) == 0
    assert main(["sample", out, "-n", "2"]) == 0
    assert load(out).encode(torch.zeros(1, 54, 20)).shape == (1, 3)
    assert main(["compose", out, "--steps", "20"]) == 0


def test_notes_that_the_model_does_not_have(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = load(place / "run").spec
    for name, pitches in {"some": [60, 60, 100], "most": [60, 100, 100]}.items():
        notes = Notes(*np.array([(t, t + 1, pitch, 80) for t, pitch in enumerate(pitches)]).T)
        write_notes(tmp_path / f"{name}.mid", notes, Clock(20.0))
    with caplog.at_level(logging.WARNING):
        (x,) = MODALITY.read([tmp_path / "some.mid"], spec)
    assert "some.mid: 1 of 3 notes are outside the model's pitches, 50 to 76, and left out" in caplog.text
    assert x.sum() == 4
    with pytest.raises(ValueError, match=r"most.mid: 2 of 3 notes are outside .* transpose it"):
        MODALITY.read([tmp_path / "most.mid"], spec)


def test_soft_notes_of_the_data_count_and_hardly_audible_ones_of_a_model_do_not() -> None:
    layout = RollLayout(60, 62, onsets=False, velocity=True)
    x, y = torch.tensor([[[10.0], [0.0], [100.0]]]) / 127, torch.tensor([[[16.0], [15.0], [90.4]]]) / 127
    assert to_levels(y[0], layout).tolist() == [[16, 0, 90]]
    assert note_figures(x, y, layout)["note_f1"].tolist() == [1.0]


def test_note_figures_count_steps_and_pitches() -> None:
    x = torch.tensor([[[1.0, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 0, 0]]])
    y = torch.tensor([[[0.9, 0.1, 0.6, 0.2]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]])
    found = note_figures(x, y, RollLayout(60, 59 + x.shape[1], onsets=False))
    assert found["note_precision"].tolist() == [0.5, 1, 0]
    assert found["note_recall"].tolist() == [0.5, 1, 0]
    assert found["note_f1"].tolist() == [0.5, 1, 0]


def test_windows_of_a_song_are_found_by_the_nearest_latents() -> None:
    def windows(z: list[float], songs: list[int]) -> WindowLatents:
        count = len(z)
        return WindowLatents(np.array(z, np.float32)[:, None], np.zeros(count), np.zeros(count), np.array(songs))

    known, asked = windows([0, 1, 2, 9], [0, 0, 0, 1]), windows([0.2, 8, 1, 5], [0, 1, 1, 2])
    found = song_accuracy(known, asked)
    assert found["song_accuracy"] == pytest.approx(2 / 3)
    assert found["song_accuracy_by_chance"] == pytest.approx((0.75 + 0.25 + 0.25) / 3)
    assert song_accuracy(known, windows([1], [5])) == {}


def test_latents_of_windows_are_those_of_encode(place: Path) -> None:
    from narrows.commands.source import open_run_data
    from narrows.training.run import RunFolder

    model = load(place / "run")
    rolls = open_run_data(RunFolder(place / "run"), model).train
    found = window_latents(model, rolls)
    assert len(found.z) == sum(length // WINDOW for length in rolls.lengths)
    last = int(found.stretch[-1])
    whole = rolls[last][None, :, : rolls.lengths[last] // WINDOW * WINDOW]
    expected = model.encode(whole)[0].T
    torch.testing.assert_close(torch.from_numpy(found.z[found.stretch == last]), expected)


def test_classifiers_with_few_labels(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(place / "run"), tmp_path / "few"
    options = ["--counts", "1,3", "--seeds", "2", "--steps", "30"]
    assert main(["finetune", run, *options, "--out", str(out)]) == 0
    rows = list(csv.DictReader((out / "finetune.csv").open()))
    assert len(rows) == 3 * 3 * 2
    assert {row["method"] for row in rows} == {"warm", "cold", "frozen"}
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    assert "Few labels" in (out / "index.html").read_text()
    again = tmp_path / "again"
    assert main(["finetune", run, *options, "--out", str(again)]) == 0
    assert (again / "finetune.csv").read_bytes() == (out / "finetune.csv").read_bytes()

    # The songs have no pitch in common: with all labels, learning tells them apart.
    longer = tmp_path / "longer"
    assert main(["finetune", run, "--counts", "1", "--seeds", "1", "--steps", "200", "--out", str(longer)]) == 0
    learnt = [row for row in csv.DictReader((longer / "finetune.csv").open()) if not row["labels"]]
    assert all(float(row["accuracy"]) > 0.8 for row in learnt if row["method"] in ("warm", "cold"))

    table = tmp_path / "labels.csv"
    table.write_text("\ufefffile, label\nant.mid, low\nbee,low\ncat.mid, high\n")
    assert main(["finetune", run, *options, "--labels", str(table), "--out", str(tmp_path / "two")]) == 0
    capsys.readouterr()
    for text, message in {
        "file,label\nant.mid,low\nelk.mid,high\n": "names files that the run does not have: elk",
        "song,label\nant.mid,low\n": "has no columns `file` and `label`, only song, label",
        "file,label\nant.mid,low\n": "1 classes have training windows",
        "file,label\nant.mid,low\nbee.mid,\n": "line 3: there is no label",
        "file,label\n,low\n": "line 2: there is no file",
        "file,label\nant.mid,low\nant,high\n": "line 3: ant is already labelled 'low'",
    }.items():
        table.write_text(text)
        assert main(["finetune", run, "--labels", str(table), "--out", str(tmp_path / "no")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_warm_classifier_starts_with_the_encoders_weights_and_state(place: Path) -> None:
    encoder = load(place / "run").encoder
    assert isinstance(encoder, RecurrentEncoder)
    x, state = torch.rand(4, 54, WINDOW), torch.randn(6)
    warm, cold = Classifier(encoder, 3, state), Classifier(encoder, 3, None)
    torch.testing.assert_close(warm(x), warm.out(encoder.last_states(x, state=state)[:, 0]))
    assert torch.equal(warm.encoder.network.weight_hh_l0, encoder.network.weight_hh_l0)
    assert not torch.equal(cold.encoder.network.weight_hh_l0, encoder.network.weight_hh_l0)
    assert (cold.state == 0).all()


def test_a_comparison_of_music(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    budget = ["--budget", "4", "--seeds", "1", "--learning-rates", "1e-3", "--limit", "2", "--samples", "2"]
    data = ["--recipe", str(place / "tiny.yaml"), "--data", str(place / "songs"), *budget]
    assert main(["compare", "vae", "vq", *data, "--bits", "6", "--out", str(out)]) == 0
    rows = (out / "summary.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["vae", "vq"]
    assert "note_f1" in rows[0]
    assert 'class="tune"' in (out / "report.html").read_text()
    assert (out / "reconstructions" / "index.html").exists()


def test_a_model_of_drums_reads_the_drums_of_files(place: Path, tmp_path: Path) -> None:
    from symusic import Note, Score, Track

    score = Score(480)
    score.tracks.append(Track("drums", is_drum=True, notes=[Note(0, 480, 60, 80)]))
    (tmp_path / "drums.mid").write_bytes(score.dumps_midi())
    spec = load(place / "run").spec
    with pytest.raises(ValueError, match="only drums"):
        MODALITY.read([tmp_path / "drums.mid"], spec)
    with_drums = replace(spec, details={**spec.details, "drums": True})
    assert MODALITY.read([tmp_path / "drums.mid"], with_drums)[0].sum() == 10 + 1
