"""The model in fine-tuning against transformers' own, and what is built into it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import VARIANTS, write_checkpoint
from small_corpus import clip
from voxfide.crops import Crop
from voxfide.detector import Detector
from voxfide.detectors import load_detector
from voxfide.errors import AudioError, AudioNotFoundError, UsageError
from voxfide.frontends import create_frontend
from voxfide.frontends.ssl_gradient import LongConv
from voxfide.jobs import Row
from voxfide.training.finetune_data import StepStream, ahead
from voxfide.training.finetune_model import FinetuneModel, span_mask, start_model
from voxfide.training.finetune_settings import FinetuneSettings, Regularisation

STILL = {"dropout": False, "layerdrop": False, "spec_augment": False}
WAVES = [torch.from_numpy(clip(i, 0.5, i % 2 == 0)) for i in range(3)]
TARGETS = torch.tensor([1, 0, 1])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    for name in VARIANTS:
        write_checkpoint(root / name, name)
    return root


def start(folder, n_layers=None, seed=0, **changes) -> FinetuneModel:
    torch.manual_seed(seed)
    return start_model(str(folder), n_layers, None, FinetuneSettings(**{**STILL, **changes}))[0]


def save(model: FinetuneModel, folder):
    return Detector(model.frozen("m"), model.backend()).save(folder)


def loss_curve(model, logits, n_steps: int) -> list[float]:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    losses = []
    for _ in range(n_steps):
        loss = F.cross_entropy(logits(), TARGETS)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", [n for n in VARIANTS if n != "mhubert"])
def test_the_loss_curve_is_that_of_transformers(tmp_path, checkpoints, name):
    """Five steps of Adam from the same weights: encoder, weight norm, head and their gradients."""
    import transformers

    model = start(checkpoints / name, 2).train()
    save(model, tmp_path / "start")
    theirs = transformers.AutoModelForAudioClassification.from_pretrained(tmp_path / "start").train()
    theirs.freeze_feature_encoder()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in (m for m in theirs.modules() if hasattr(m, "dropout") and isinstance(m.dropout, float)):
        layer.dropout = 0.0
    theirs.config.layerdrop = 0.0
    theirs.config.apply_spec_augment = False
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "start")
    inputs = extractor([w.numpy() for w in WAVES], sampling_rate=16000, return_tensors="pt").input_values
    expected = loss_curve(theirs, lambda: theirs(inputs).logits, 5)
    found = loss_curve(model, lambda: model(WAVES), 5)
    worst = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    print(f"{name}: loss {expected[0]:.4f} to {expected[-1]:.4f}, largest difference {worst:.1e}")
    assert expected[-1] < 0.95 * expected[0]
    assert worst < 1e-5


def test_an_utterance_gets_the_same_logits_in_any_batch(checkpoints):
    waves = [*WAVES, torch.from_numpy(clip(9, 0.3, True)), torch.from_numpy(clip(8, 0.03, False))]
    for name in ("wavlm-base", "xls-r"):
        model = start(checkpoints / name).train()
        together = model(waves)
        alone = torch.cat([model([w]) for w in waves])
        assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("name", ["wavlm-base", "wavlm-large", "wav2vec2-base"])
def test_gradient_checkpointing_changes_nothing(checkpoints, name):
    gradients = []
    for checkpointing in (False, True):
        changes = {"dropout": True, "layerdrop": True, "spec_augment": True}
        model = start(checkpoints / name, gradient_checkpointing=checkpointing, **changes).train()
        torch.manual_seed(3)
        F.cross_entropy(model(WAVES), TARGETS).backward()
        gradients.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][key], rtol=1e-4, atol=1e-7), key


def test_noise_acts_in_training_only_and_each_kind_by_its_switch(checkpoints):
    still = start(checkpoints / "wavlm-base").train()
    expected = still(WAVES)
    assert torch.equal(still(WAVES), expected)
    for switch in STILL:
        model = start(checkpoints / "wavlm-base", **{switch: True})
        assert torch.allclose(model.eval()(WAVES), expected, atol=1e-6)
        model.train()
        torch.manual_seed(1)
        drawn = [model(WAVES) for _ in range(20)]
        assert any(not torch.allclose(d, expected, atol=1e-6) for d in drawn), switch


def test_clips_shorter_than_a_mask_are_trained_on(checkpoints):
    model = start(checkpoints / "wavlm-base", spec_augment=True).train()
    short = torch.from_numpy(clip(0, 0.03, True))
    assert model.encoder.n_frames(len(short)) == 1
    F.cross_entropy(model([short, *WAVES]), torch.tensor([0, 1, 0, 1])).backward()
    assert model.projector.weight.grad.isfinite().all()


@given(st.integers(1, 300), st.floats(0, 1), st.integers(1, 40), st.integers(0, 5), st.integers(0, 99))
def test_span_masks(size, share, length, at_least, seed):
    torch.manual_seed(seed)
    mask = span_mask(size, share, length, at_least)
    assert mask.shape == (size,)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.int().numpy(), [0]])))
    assert all(stop - start >= length for start, stop in edges.reshape(-1, 2))
    most = (int(share * size / length) + 1) * length
    assert mask.sum() <= max(most, at_least * length)
    assert bool(mask.any()) or size < length or int(share * size / length) == at_least == 0


def test_masks_cover_the_share_that_was_asked_for():
    torch.manual_seed(0)
    covered = np.mean([float(span_mask(1000, 0.05, 10, 2).float().mean()) for _ in range(300)])
    assert 0.045 < covered < 0.051


def test_what_is_frozen_gets_no_gradient(checkpoints):
    model = start(checkpoints / "wavlm-base").train()
    F.cross_entropy(model(WAVES), TARGETS).backward()
    convolutions = list(model.encoder.feature_extractor.parameters())
    assert all(p.grad is None and not p.requires_grad for p in convolutions)
    others = {k: p for k, p in model.named_parameters() if "feature_extractor" not in k}
    assert [k for k, p in others.items() if p.requires_grad and p.grad is None] == []
    whole = start(checkpoints / "wavlm-base", train_convolutions=True).train()
    F.cross_entropy(whole(WAVES), TARGETS).backward()
    assert all(p.grad is not None and p.grad.any() for p in whole.encoder.feature_extractor.parameters())


def test_layer_decay_gives_each_height_its_rate(checkpoints):
    model = start(checkpoints / "wavlm-large", layer_decay=0.5)
    groups = model.parameter_groups(FinetuneSettings(learning_rate=1.0, layer_decay=0.5, weight_decay=0.1))
    rates = {id(p): g["peak"] for g in groups for p in g["params"]}
    decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    found = {k: rates[id(p)] for k, p in model.named_parameters() if p.requires_grad}
    assert len(found) == len(rates)
    assert found["classifier.weight"] == found["encoder.encoder.layer_norm.weight"] == 1.0
    assert found["encoder.encoder.layers.3.feed_forward.output_dense.weight"] == 0.5
    assert found["encoder.encoder.layers.0.attention.rel_attn_embed.weight"] == 0.5**4
    assert found["encoder.feature_projection.projection.bias"] == 0.5**5
    assert decays[id(model.classifier.weight)] == 0.1
    assert decays[id(model.classifier.bias)] == 0.0


def test_lora_is_merged_and_nothing_else_moves(tmp_path, checkpoints):
    pytest.importorskip("peft")
    model = start(checkpoints / "wavlm-base", lora_rank=2).train()
    before = model.frozen("m").state_dict()
    original = create_frontend(str(checkpoints / "wavlm-base")).state_dict()
    assert before.keys() == original.keys()
    losses = loss_curve(model, lambda: model(WAVES), 10)
    assert losses[-1] < losses[0]
    after = model.frozen("m").state_dict()
    moved = {k for k in after if not torch.equal(after[k], before[k])}
    assert moved == {k for k in after if k.endswith("_proj.weight")}
    with torch.inference_mode():
        logits = model.eval()(WAVES)
    saved = load_detector(save(model, tmp_path / "d"))
    expected = (logits[:, 1] - logits[:, 0]).numpy()
    assert np.allclose(saved.score_waveforms([w.numpy() for w in WAVES]), expected, atol=1e-4)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained < 0.2 * sum(p.numel() for p in model.parameters()) + 256 * 50


@pytest.mark.parametrize("name", VARIANTS)
def test_the_saved_detector_scores_as_the_model_does(tmp_path, checkpoints, name):
    model = start(checkpoints / name, 2)
    loss_curve(model.train(), lambda: model(WAVES), 3)
    with torch.inference_mode():
        logits = model.eval()(WAVES)
    saved = load_detector(save(model, tmp_path / "d"))
    found = saved.score_waveforms([w.numpy() for w in WAVES])
    assert np.allclose(found, (logits[:, 1] - logits[:, 0]).numpy(), atol=2e-5)
    live = Detector(model.frontend("m"), model.backend())
    assert np.allclose(live.score_waveforms([w.numpy() for w in WAVES]), found, atol=2e-5)


def test_weights_that_training_has_moved_are_not_scored_with_a_stale_spectrum(checkpoints):
    """The positional convolution caches its spectrum between batches, but not while it is trained."""
    model = start(checkpoints / "wavlm-base")
    frontend = model.frontend("m")
    first = frontend.pooled(WAVES)
    with torch.no_grad():
        model.encoder.encoder.pos_conv_embed.conv.parametrizations.weight.original0.mul_(3.0)
    second = frontend.pooled(WAVES)
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.allclose(second, model.frozen("m").pooled(WAVES), atol=1e-5)


@settings(max_examples=15)
@given(st.sampled_from([2, 16, 128]), st.sampled_from([1, 4]), st.integers(0, 900), st.integers(0, 99))
def test_the_fast_backward_pass_is_exact(kernel, groups, extra, seed):
    torch.manual_seed(seed)
    x = torch.randn(8, kernel + extra, requires_grad=True)
    weight = torch.randn(8, 8 // groups, kernel, requires_grad=True)
    bias = torch.randn(8, requires_grad=True)
    ours = LongConv.apply(x, weight, bias, groups)
    theirs = F.conv1d(x[None], weight, bias, groups=groups)[0]
    assert torch.allclose(ours, theirs, atol=1e-5)
    upstream = torch.randn_like(ours)
    for found, expected in zip(
        torch.autograd.grad(ours, (x, weight, bias), upstream),
        torch.autograd.grad(theirs, (x, weight, bias), upstream),
        strict=True,
    ):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max() + 1e-3))


def test_the_learning_rate_rises_and_falls_as_in_transformers():
    import transformers

    settings_ = FinetuneSettings(warmup=0.1)
    for n_steps in (1, 7, 40, 101):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, math.ceil(0.1 * n_steps), n_steps)
        for step in range(n_steps):
            assert settings_.rate(step, n_steps) == pytest.approx(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()


def test_impossible_settings_are_said_all_at_once():
    with pytest.raises(UsageError) as error:
        FinetuneSettings(
            epochs=0, learning_rate=-1, warmup=2, precision="int8", select_by="auc",
            class_weights=(1.0, 0.0), accumulation=9, lora_rank=4, train_convolutions=True,
        )  # fmt: skip
    for part in ("epochs 0", "learning rate -1", "warmup 2", "int8", "auc", "class weights", "accumulation 9",
                 "LoRA"):  # fmt: skip
        assert part in str(error.value)
    assert FinetuneSettings(class_weights="balanced").weights(30, 10) == pytest.approx((40 / 60, 40 / 20))


def test_regularisation_is_the_checkpoints_own():
    config = {"hidden_dropout": 0.3, "layerdrop": 0.2, "mask_time_prob": None, "apply_spec_augment": True}
    everything = Regularisation.of(config, FinetuneSettings())
    assert (everything.hidden_dropout, everything.layerdrop, everything.mask_time_prob) == (0.3, 0.2, 0.05)
    off = Regularisation.of(config, FinetuneSettings(**STILL))
    assert (off.hidden_dropout, off.attention_dropout, off.layerdrop, off.mask_time_prob) == (0, 0, 0, 0)
    assert Regularisation.of({"apply_spec_augment": False}, FinetuneSettings()).mask_time_prob == 0


def stream(tmp_path, n=10, process=0, n_processes=1, augment=None, **changes) -> StepStream:
    import soundfile as sf

    rows = []
    for i in range(n):
        path = tmp_path / f"{i}.wav"
        if not path.exists():
            sf.write(path, clip(i, 0.2 + 0.02 * i, True), 16000)
        rows.append(Row(f"u{i}", path))
    own = {"batch_size": 4, "accumulation": 2, "crop": Crop(0.1, "random", "keep")}
    values = FinetuneSettings(**{**own, **changes})

    def check(n_samples: int, path: str) -> None:
        if n_samples < 400:
            raise AudioError(path, "too short", "more")

    return StepStream(rows, np.arange(n) % 2 == 0, values, check, augment, 0, False, process, n_processes)


def test_batches_follow_from_the_seed_and_can_be_entered_anywhere(tmp_path):
    def flat(steps):
        return [(p.rows, [w.tolist() for w in p.waveforms]) for pieces in steps for p in pieces]

    whole = list(stream(tmp_path).steps(1))
    assert [sum(len(p.rows) for p in pieces) for pieces in whole] == [4, 4, 2]
    assert sorted(i for pieces in whole for p in pieces for i in p.rows) == list(range(10))
    assert all(len(w) == 1600 for pieces in whole for p in pieces for w in p.waveforms)
    assert flat(stream(tmp_path).steps(1, 2)) == flat(whole[2:])
    assert flat(stream(tmp_path).steps(0)) != flat(whole)
    assert flat(stream(tmp_path, seed=1).steps(1)) != flat(whole)
    shares = [stream(tmp_path, process=rank, n_processes=3).shares(1) for rank in range(3)]
    for step, pieces in enumerate(whole):
        assert sorted(i for share in shares for i in share[step]) == sorted(i for p in pieces for i in p.rows)


def test_what_cannot_be_read_is_left_out_and_listed(tmp_path):
    found = stream(tmp_path)
    found.rows[3].path.unlink()
    found.rows[5].path.write_bytes(b"no audio" * 100)
    rows = [i for pieces in found.steps(0) for p in pieces for i in p.rows]
    assert sorted(rows) == [0, 1, 2, 4, 6, 7, 8, 9]
    assert set(found.failures) == {"u3", "u5"}
    found.strict = True
    with pytest.raises(AudioError):
        list(found.steps(0))


def test_augmentation_is_told_who_and_when(tmp_path):
    told = []

    def policy(waveform, sample_rate, utterance_id, label, *, epoch=0):
        told.append((sample_rate, utterance_id, label, epoch))
        return waveform[:300] if utterance_id == "u4" else waveform * 0

    found = stream(tmp_path, augment=policy)
    steps = list(found.steps(2))
    assert sorted(told) == sorted((16000, f"u{i}", "spoof" if i % 2 else "bonafide", 2) for i in range(10))
    assert not any(w.any() for pieces in steps for p in pieces for w in p.waveforms)
    assert set(found.failures) == {"u4"}


def test_items_made_ahead_come_in_order_with_their_errors():
    made = []

    def numbers():
        for i in range(50):
            made.append(i)
            yield i
        raise AudioNotFoundError("x", "gone", "there")

    items = ahead(numbers(), 2)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(made) <= 9
    with pytest.raises(AudioNotFoundError):
        list(items)
    left = ahead(numbers(), 2)
    next(left)
    left.close()
    count = len(made)
    assert count <= 50 + 5
