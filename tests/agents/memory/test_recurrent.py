"""Recurrent networks: right equations, right gradients, and one answer however a sequence is walked through."""

from __future__ import annotations

from typing import cast, get_args

import pytest
import torch
from torch import Tensor, nn

from metarl.agents.memory.recurrent import MemoryKind, RecurrentCore, RecurrentNet
from metarl.errors import ConfigError
from metarl.seeding import generator

KINDS = get_args(MemoryKind)


def _net(kind: MemoryKind, *, layer_norm: bool = True, readout: tuple[int, ...] = (6, 5)) -> RecurrentNet:
    return RecurrentNet(
        3, 2, core=lambda n, g: RecurrentCore(kind, n, 5, g, "cpu"), encoder=(4,), layer_norm=layer_norm,
        readout=readout, head_gains=[1.0, 1.0], generator=generator(0), device="cpu",
    )  # fmt: skip


def _inputs(n_steps: int = 7, n_rows: int = 6, n_inputs: int = 3) -> Tensor:
    return torch.randn(n_steps, n_rows, n_inputs, generator=generator(1))


def _written_out(core: RecurrentCore, x: Tensor) -> Tensor:
    """Run the gates' equations one by one, in plain tensor operations."""
    p = dict(core.rnn.named_parameters())
    w_ih, w_hh, b_ih, b_hh = (p[f"{k}_l0"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = c = torch.zeros(x.shape[1], core.hidden)
    outputs = []
    for row in x.unbind(0):
        a, b = row @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        if core.kind == "gru":
            (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
            z, n = torch.sigmoid(az + bz), torch.tanh(an + torch.sigmoid(ar + br) * bn)
            h = (1 - z) * n + z * h
        else:
            i, f, g, o = (a + b).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_full_gradients_are_those_of_the_written_out_equations(kind: MemoryKind) -> None:
    core, x = RecurrentCore(kind, 3, 5, generator(0), "cpu"), _inputs()
    weights = list(core.parameters())
    probe = torch.randn(7, 6, 5, generator=generator(2))
    outputs, _ = core.unroll(x, core.start(6))
    expected = _written_out(core, x)
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)
    got, want = (torch.autograd.grad((y * probe).sum(), weights) for y in (outputs, expected))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert all(float(g.abs().sum()) > 0 for g in got)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_and_chunks_with_their_carries_give_the_full_forward_pass(kind: MemoryKind) -> None:
    net, x = _net(kind), _inputs()
    full, last = net.unroll(x, net.core.start(6))
    memory, steps = net.core.start(6), []
    for row in x.unbind(0):
        out, memory = net.step(row, memory)
        steps.append(out)
    torch.testing.assert_close(torch.stack(steps), full, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(memory, last, rtol=1e-5, atol=1e-6)
    carry, chunks = net.core.start(6), []
    for begin in range(0, 7, 3):
        out, carry = net.unroll(x[begin : begin + 3], carry)
        chunks.append(out)
    torch.testing.assert_close(torch.cat(chunks), full, rtol=1e-5, atol=1e-6)


def test_chunks_without_their_carries_differ() -> None:
    """Negative control: forgetting the carry is seen."""
    net, x = _net("gru"), _inputs()
    full, _ = net.unroll(x, net.core.start(6))
    second, _ = net.unroll(x[3:], net.core.start(6))
    assert float((second - full[3:]).detach().abs().max()) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_encoder_gradients_or_encoder_steps_equal_the_sequence_bit_for_bit_on_a_cpu(
    kind: MemoryKind,
) -> None:
    core, x = RecurrentCore(kind, 3, 5, generator(0), "cpu"), _inputs()
    memory = core.start(6)
    with torch.no_grad():
        outputs, _ = core.unroll(x, memory)
    for t in range(7):
        memory = core.step(x[t], memory)
        assert torch.equal(memory["h"], outputs[t])


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_of_the_recurrent_weights_starts_orthogonal(kind: MemoryKind) -> None:
    core = RecurrentCore(kind, 3, 5, generator(0), "cpu")
    assert isinstance(core.rnn.weight_hh_l0, Tensor)
    for block in core.rnn.weight_hh_l0.detach().split(5):
        torch.testing.assert_close(block @ block.T, torch.eye(5), atol=1e-5, rtol=0)


def test_an_lstm_starts_out_remembering() -> None:
    core = RecurrentCore("lstm", 3, 5, generator(0), "cpu")
    assert isinstance(core.rnn.bias_ih_l0, Tensor)
    assert core.rnn.bias_ih_l0.detach().split(5)[1].tolist() == [1.0] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_memory_steps_spreads_the_time_constants_of_a_fresh_memory(kind: MemoryKind) -> None:
    """With no input a unit keeps the share 1 - 1/(1 + s) of its memory, s uniform between 1 and memory_steps - 1."""
    core = RecurrentCore(kind, 3, 500, generator(0), "cpu", memory_steps=101)
    bias = core.rnn.bias_ih_l0
    assert isinstance(bias, Tensor)
    constants = bias.detach().split(500)[1].exp()
    assert 1.0 <= float(constants.min()) < 2.0
    assert 98.0 < float(constants.max()) <= 100.0
    assert float(constants.mean()) == pytest.approx(50.5, rel=0.05)
    if kind == "lstm":
        torch.testing.assert_close(bias.detach().split(500)[0], -constants.log())


def test_a_long_memory_still_holds_what_a_usual_one_has_lost() -> None:
    left = []
    for memory_steps in (None, 100):
        core = RecurrentCore("gru", 3, 64, generator(0), "cpu", memory_steps=memory_steps)
        start = {"h": torch.zeros(2, 64)}
        x = torch.zeros(30, 2, 3)
        x[0, 0] = 1.0  # the two rows differ in the first input only
        outputs, _ = core.unroll(x, start)
        left.append(
            float((outputs[-1, 0] - outputs[-1, 1]).detach().norm() / (outputs[0, 0] - outputs[0, 1]).detach().norm())
        )
    assert left[0] < 0.1 * left[1]


def test_weights_follow_from_the_generator_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = _net("gru")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    second = _net("gru")
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sequence_call_for_gpus_is_the_same_function(kind: MemoryKind) -> None:
    core, x = RecurrentCore(kind, 3, 5, generator(0), "cpu"), _inputs()
    memory = core.start(6)
    outputs, last = core.unroll(x, memory)
    first = {k: v[None] for k, v in memory.items()}
    fused, state = core.rnn(x, first["h"] if kind == "gru" else (first["h"], first["c"]))
    torch.testing.assert_close(fused, outputs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state if kind == "gru" else state[1], last["h" if kind == "gru" else "c"][None])


def test_every_parameter_receives_a_gradient() -> None:
    net = _net("lstm")
    out, _ = net.unroll(_inputs(), net.core.start(6))
    out.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_the_readout_sees_this_steps_input_beside_the_memory() -> None:
    """With a core that takes nothing in, outputs still follow the input; without a readout they cannot."""
    outputs = []
    for readout in ((6,), ()):
        net = _net("gru", readout=readout)
        with torch.no_grad():
            for weight in cast(RecurrentCore, net.core).parameters():
                weight.zero_()
        out, _ = net.unroll(_inputs(), net.core.start(6))
        outputs.append(out.detach())
    assert float(outputs[0].std(dim=1).min()) > 1e-3
    assert float(outputs[1].std(dim=1).max()) == 0.0


def test_an_unknown_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="gru, lstm"):
        RecurrentCore("rnn", 3, 5, generator(0), "cpu")  # type: ignore[arg-type]


def test_the_layer_norm_is_there_only_when_asked_for() -> None:
    assert isinstance(_net("gru").norm, nn.LayerNorm)
    assert _net("gru", layer_norm=False).norm is None
