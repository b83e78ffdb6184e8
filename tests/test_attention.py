"""Global attention: a plain restatement as the peer, slopes, precisions, devices, streams."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sedsoft.attention import (
    CHOICES,
    AttentionSpec,
    ConcatFusion,
    GlobalAttention,
    Piece,
    ShiftNormFusion,
    count_attention_multiply_adds,
    gather_context,
    make_fusion,
    overlapping,
)
from sedsoft.core import from_mapping, to_mapping, with_settings
from sedsoft.models import ScoringSpec
from sedsoft.runs import find_config

N_KEYS = 3


def make_sequences(
    n_segments: int, frames_per_segment: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Two sequences of noise, with some segments outside the recording."""
    rng = torch.Generator().manual_seed(n_segments)
    keys = torch.randn(2, n_segments * frames_per_segment, N_KEYS, generator=rng, dtype=dtype)
    return keys, torch.rand(2, n_segments, generator=rng) < 0.7


def make_attention(score: str, n_query: int = N_KEYS) -> GlobalAttention:
    """The same first weights every time, in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GlobalAttention(AttentionSpec(score=score, n_hidden=4), n_query, N_KEYS).double()


def plain_context(keys: Tensor, inside: Tensor, target: int, context_s: int, frames_per_segment: int) -> tuple:
    """The context of one target of one sequence, second by second: its frames, and which of them are there."""
    frames, there = [], []
    for k in range(target - context_s // 2, target + context_s // 2 + 1):
        real = k == target or (0 <= k < len(inside) and bool(inside[k]))
        begin = (k if real else target) * frames_per_segment
        frames.append(keys[begin : begin + frames_per_segment])
        there += [real] * frames_per_segment
    return torch.cat(frames), torch.tensor(there)


@pytest.mark.parametrize("edge", ["repeat", "mask"])
def test_lookup_is_what_a_loop_over_seconds_gives(edge: str):
    for n_segments, frames_per_segment, context_s in itertools.product((1, 2, 5, 9), (1, 4), (1, 3, 5, 11)):
        keys, inside = make_sequences(n_segments, frames_per_segment)
        for begin, end in {(0, n_segments), (n_segments // 2, n_segments // 2 + 1)}:
            context, masked = gather_context(keys, inside, (begin, end), context_s, frames_per_segment, edge)
            assert context.shape == (2, end - begin, context_s * frames_per_segment, N_KEYS)
            for sequence, target in itertools.product(range(2), range(begin, end)):
                frames, there = plain_context(keys[sequence], inside[sequence], target, context_s, frames_per_segment)
                assert torch.equal(context[sequence, target - begin], frames)
                wanted = ~there if edge == "mask" else torch.zeros_like(there)
                assert torch.equal(masked[sequence, target - begin], wanted)


@pytest.mark.parametrize("score", CHOICES["score"])
def test_repeating_weighs_the_target_by_its_copies(score: str):
    """What repeats can be had by masking, if the target's own frames count once for each copy."""
    keys, inside = make_sequences(9, 4)
    query = torch.randn(2, 9, N_KEYS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    attend = make_attention(score)
    repeated, weights = attend(query, *gather_context(keys, inside, (0, 9), 5, 4, "repeat"))
    context, masked = gather_context(keys, inside, (0, 9), 5, 4, "mask")
    assert_close(weights.sum(2), torch.ones(2, 9, dtype=torch.float64))
    copies = torch.ones(2, 9, 5, 4, dtype=torch.float64)
    copies[:, :, 2] += masked.unflatten(2, (5, 4))[..., 0].sum(2, keepdim=True)
    scores = attend.score(query, context).exp() * copies.flatten(2) * ~masked
    by_hand = (scores / scores.sum(2, keepdim=True)).unsqueeze(2) @ context
    assert_close(repeated, by_hand.squeeze(2))


@pytest.mark.parametrize("edge", ["repeat", "mask"])
@pytest.mark.parametrize("score", CHOICES["score"])
def test_slopes_are_those_of_finite_differences(score: str, edge: str):
    keys, inside = make_sequences(4, 2)
    query = torch.randn(2, 4, N_KEYS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    attend = make_attention(score)

    def answer(query: Tensor, keys: Tensor) -> Tensor:
        return attend(query, *gather_context(keys, inside, (0, 4), 3, 2, edge))[0]

    assert torch.autograd.gradcheck(answer, (query.requires_grad_(), keys.requires_grad_()))


def test_slopes_of_the_shift_layer_norm_are_those_of_finite_differences():
    rng = torch.Generator().manual_seed(3)
    fusion = ShiftNormFusion(4, 3).double()
    with torch.no_grad():
        fusion.knobs.weight.normal_(generator=rng)
    target, attended = (torch.randn(2, 2, n, dtype=torch.float64, generator=rng, requires_grad=True) for n in (4, 3))
    assert torch.autograd.gradcheck(fusion, (target, attended))


def test_every_weight_is_learnt_but_the_query_of_the_literal_score():
    keys, inside = make_sequences(9, 4)
    query = torch.randn(2, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for score in ("additive", "literal"):
        attend = make_attention(score, n_query=7)
        output, _ = attend(query, *gather_context(keys, inside, (0, 9), 5, 4, "mask"))
        output.square().sum().backward()
        idle = {name for name, weight in attend.named_parameters() if weight.grad.abs().max() < 1e-12}
        assert idle == ({"score.of_query.weight"} if score == "literal" else set())
    assert not list(make_attention("dot").parameters())


@pytest.mark.parametrize("score", CHOICES["score"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_precision_is_kept_and_loud_embeddings_stay_finite(dtype: torch.dtype, score: str):
    keys, inside = make_sequences(9, 4, torch.float32)
    attend = make_attention(score).to(dtype)
    for loudness in (0.0, 1.0, 1e4, 1e8):
        loud = (loudness * keys).to(dtype).requires_grad_()
        context, masked = gather_context(loud, inside, (0, 9), 5, 4, "mask")
        query = loud.unflatten(1, (9, 4)).mean(2)
        output, weights = attend(query, context, masked)
        assert output.dtype == weights.dtype == dtype
        output.mean().backward()
        assert output.isfinite().all()
        assert loud.grad.isfinite().all()
        assert_close(weights.double().sum(2), torch.ones(2, 9, dtype=torch.float64), atol=2e-2, rtol=0)  # bfloat16's


def test_what_is_masked_does_not_depend_on_what_fills_the_sequence():
    keys, inside = make_sequences(9, 4)
    filled = torch.where(inside.repeat_interleave(4, dim=1)[..., None], keys, torch.nan)
    query = torch.randn(2, 9, N_KEYS, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for score, edge in itertools.product(CHOICES["score"], CHOICES["edge"]):
        attend = make_attention(score)
        with_noise, _ = attend(query, *gather_context(keys, inside, (0, 9), 5, 4, edge))
        with_nan, _ = attend(query, *gather_context(filled, inside, (0, 9), 5, 4, edge))
        assert torch.equal(with_nan[inside], with_noise[inside])


def test_a_target_that_is_filled_in_still_hears_itself():
    keys, _ = make_sequences(9, 4)
    context, masked = gather_context(keys, torch.zeros(2, 9, dtype=torch.bool), (0, 9), 5, 4, "mask")
    assert (~masked).sum(2).unique().tolist() == [4]
    output, _ = make_attention("dot")(torch.zeros(2, 9, N_KEYS, dtype=torch.float64), context, masked)
    assert_close(output, keys.unflatten(1, (9, 4)).mean(2))


def test_everything_stays_on_the_device_of_the_embeddings():
    keys = torch.empty(2, 36, N_KEYS, device="meta")
    inside = torch.empty(2, 9, dtype=torch.bool, device="meta")
    for edge in CHOICES["edge"]:
        context, masked = gather_context(keys, inside, (2, 5), 5, 4, edge)
        assert context.device == masked.device == keys.device
        assert (context.shape, masked.shape) == ((2, 3, 20, N_KEYS), (2, 3, 20))


def test_slopes_of_the_lookup_are_the_same_bits_with_two_threads():
    rng = torch.Generator().manual_seed(6)
    keys, inside = torch.randn(4, 205, 32, generator=rng), torch.ones(4, 41, dtype=torch.bool)
    slope = torch.randn(4, 41, 205, 32, generator=rng)
    found, n_threads = set(), torch.get_num_threads()
    try:
        for threads in (1, 2, 2, 2):
            torch.set_num_threads(threads)
            leaf = keys.clone().requires_grad_()
            context, _ = gather_context(leaf, inside, (0, 41), 41, 5, "repeat")
            found.add(torch.autograd.grad(context, leaf, slope)[0].numpy().tobytes())
    finally:
        torch.set_num_threads(n_threads)
    assert len(found) == 1


def test_embeddings_that_are_a_view_serve_as_well():
    keys, inside = make_sequences(9, 4)
    view = keys.transpose(1, 2).contiguous().transpose(1, 2)
    assert not view.is_contiguous()
    for part, wanted in zip(
        gather_context(view, inside, (0, 9), 5, 4, "mask"),
        gather_context(keys, inside, (0, 9), 5, 4, "mask"),
        strict=True,
    ):
        assert torch.equal(part, wanted)


@pytest.mark.parametrize("n", [1, 2, 79, 80, 81, 140, 141, 100_000])
def test_a_stream_is_cut_as_a_file_is(n: int):
    """Take each piece once another follows it, the last at the end: the same pieces, each segment once, in order."""
    scored, done = [], 0
    for heard in sorted({*range(1, min(n, 300) + 1), n}):
        for piece in overlapping(heard, 80, 20)[done:-1]:
            assert piece.end < heard
            scored.append(piece)
            done += 1
    scored += overlapping(n, 80, 20)[done:]
    assert scored == overlapping(n, 80, 20)
    assert scored[0].keep_begin == 0
    assert scored[-1].keep_end == n
    assert all(a.keep_end == b.keep_begin for a, b in itertools.pairwise(scored))


def test_a_recording_that_fits_is_one_piece():
    assert overlapping(80, 80, 20) == [Piece(0, 80, 0, 80)]
    assert overlapping(81, 80, 20) == [Piece(0, 80, 0, 60), Piece(40, 81, 60, 81)]
    assert overlapping(3, 1, 0) == [Piece(0, 1, 0, 1), Piece(1, 2, 1, 2), Piece(2, 3, 2, 3)]


@pytest.mark.parametrize("length_s", [1, 3, 4, 7, 8, 9, 41])
@pytest.mark.parametrize("margin_s", [0, 1, 2, 10, 20])
def test_what_a_configuration_may_say_can_be_cut(length_s: int, margin_s: int):
    """`ScoringSpec` and `overlapping` agree: what could not be scored is refused before anything is trained."""
    try:
        overlapping(500, length_s, margin_s)
    except ValueError:
        with pytest.raises(ValueError, match=rf"length_s is {length_s}.0, but .* must be {4 * margin_s}.0 s long"):
            ScoringSpec(form="overlapping", length_s=float(length_s), margin_s=float(margin_s))
    else:
        ScoringSpec(form="overlapping", length_s=float(length_s), margin_s=float(margin_s))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.attention.query=target", "model.scoring.form=overlapping"], "length_s is 41.0, but .* 80.0 s long"),
        (["model.attention.context_s=21"], "the window is the context: set scoring.length_s to 21"),
        (["model.scoring.length_s=5.0"], "length_s is 5.0, but the window is the context"),
    ],
)
def test_configurations_that_could_not_be_scored_are_refused(settings: list[str], message: str):
    windowed = ["model.attention.form=windowed", "model.scoring.form=windows", "training.targets=middle"]
    config = find_config("crnn_balanced")
    with_settings(config, windowed)
    with pytest.raises(ValueError, match=message):
        with_settings(config, settings if "model.scoring.form=overlapping" in settings else windowed + settings)


@pytest.mark.parametrize("context_s", [0, -1, -2, 2, 40])
def test_even_contexts_are_refused_everywhere(context_s: int):
    keys, inside = make_sequences(3, 2)
    near = {2: "1 or 3", 40: "39 or 41"}.get(context_s, "at least 1")
    for refused in (
        lambda: AttentionSpec(context_s=context_s),
        lambda: gather_context(keys, inside, (0, 3), context_s, 2, "mask"),
        lambda: from_mapping(AttentionSpec, {"context_s": context_s}),
    ):
        with pytest.raises(ValueError, match=f"context_s is {context_s}, must be odd.*: use {near}"):
            refused()


def test_shapes_that_do_not_fit_are_refused_with_their_numbers():
    keys, inside = make_sequences(3, 2)
    with pytest.raises(ValueError, match=r"keys have shape \(2, 6\), inside \(2, 3\)"):
        gather_context(keys[..., 0], inside, (0, 3), 3, 2, "mask")
    with pytest.raises(ValueError, match=r"keys have shape \(2, 5, 3\).* must have shape \(2, 6, D\)"):
        gather_context(keys[:, :5], inside, (0, 3), 3, 2, "mask")
    with pytest.raises(ValueError, match="targets are -1 up to 2"):
        gather_context(keys, inside, (-1, 2), 3, 2, "mask")
    with pytest.raises(ValueError, match='score "dot" multiplies 7 by 3 numbers'):
        make_attention("dot", n_query=7)
    for fusion in (ConcatFusion(4, 3), ShiftNormFusion(4, 3)):
        with pytest.raises(ValueError, match=r"target has shape \(2, 4\), attended \(2, 2\)"):
            fusion(torch.zeros(2, 4), torch.zeros(2, 2))
        with pytest.raises(ValueError, match=r"target has shape \(2, 5\), attended \(2, 3\)"):
            fusion(torch.zeros(2, 5), torch.zeros(2, 3))


def test_spec_reads_back_from_plain_values_and_each_choice_is_one():
    for name, options in CHOICES.items():
        for option in options:
            spec = AttentionSpec(**{name: option})
            assert from_mapping(AttentionSpec, to_mapping(spec)) == spec
        with pytest.raises(ValueError, match=f"{name} is 'other', must be"):
            AttentionSpec(**{name: "other"})


def test_choices_of_the_spec_change_what_is_made():
    kinds = {score: type(make_attention(score).score).__name__ for score in CHOICES["score"]}
    assert kinds == {"dot": "DotScore", "additive": "AdditiveScore", "literal": "LiteralScore"}
    assert GlobalAttention(AttentionSpec(score="additive", n_hidden=9), 2, 3).score.read.in_features == 9
    assert {type(make_fusion(AttentionSpec(fusion=name), 4, 3)).__name__ for name in CHOICES["fusion"]} == {
        "ConcatFusion",
        "ShiftNormFusion",
    }
    assert count_attention_multiply_adds(AttentionSpec(context_s=1), 5, 5, 1) == 10
    assert count_attention_multiply_adds(AttentionSpec(context_s=3), 5, 5, 2) == 60
