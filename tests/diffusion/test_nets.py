import math

import pytest
import torch

from kit.diffusion.nets import Ema, ResidualMLP, Transformer, UNet1d, seeded, sines


def nets():
    with seeded(0):
        return {
            "mlp": ResidualMLP(16, 3, width=32, blocks=2),
            "unet": UNet1d(2, 3, widths=(8, 16, 32), groups=4),
        }


def test_sines_are_the_textbooks():
    table = sines(torch.tensor([0.0, 2.0]), 8)
    assert table[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert table[1, 0].item() == pytest.approx(math.sin(2))
    assert table[1, 3].item() == pytest.approx(math.sin(2e-4))
    assert sines(torch.zeros(3, 5), 8).shape == (3, 5, 8)


def test_a_seed_makes_the_weights_and_leaves_the_process_alone():
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    first = nets()
    assert torch.equal(torch.rand(3), wanted)
    again = nets()
    for name in first:
        assert all(torch.equal(a, b) for a, b in zip(first[name].parameters(), again[name].parameters(), strict=True))


@pytest.mark.parametrize("name", ["mlp", "unet"])
def test_a_denoiser_keeps_the_shape_and_uses_all_that_it_is_given(name):
    net, g = nets()[name], torch.Generator().manual_seed(0)
    x, time, cond = torch.randn(5, 8, 2, generator=g), torch.rand(5, generator=g), torch.randn(5, 3, generator=g)
    out = net(x, time, cond)
    assert out.shape == x.shape
    assert not torch.allclose(out, net(x, time + 1, cond), atol=1e-4)
    assert not torch.allclose(out, net(x, time, cond + 1), atol=1e-4)
    assert torch.allclose(net(x[2:3], time[2:3], cond[2:3]), out[2:3], atol=1e-5)  # rows do not mix
    out.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_unet_sees_the_whole_chunk_from_each_step():
    net = nets()["unet"].eval()
    x = torch.zeros(1, 8, 2, requires_grad=True)
    net(x, torch.zeros(1), torch.zeros(1, 3))[0, 0].sum().backward()
    assert (x.grad.abs().sum(-1) > 0).all()


def test_the_default_unet_has_about_a_million_weights():
    assert 0.5e6 < sum(p.numel() for p in UNet1d(2, 10).parameters()) < 1.5e6


@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_transformer_does_not_look_ahead(causal):
    with seeded(0):
        net = Transformer(8, layers=2, heads=2, length=6, causal=causal)
    tokens = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 4, 0] += 1  # one number: LayerNorm would not see all of them shift
    same = (net(tokens) - net(changed)).abs().amax(-1)[0] < 1e-6
    assert same.tolist() == [causal] * 4 + [False] * 2
    assert net(tokens[:, :3]).shape == (1, 3, 8)


def test_what_does_not_fit_a_network_is_refused():
    made = nets()
    with pytest.raises(ValueError, match=r"x has shape \(2, 9, 2\)"):
        made["mlp"](torch.zeros(2, 9, 2), torch.zeros(2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="9 steps; this U-Net takes multiples of 4"):
        made["unet"](torch.zeros(2, 9, 2), torch.zeros(2), torch.zeros(2, 3))
    for net in made.values():
        with pytest.raises(ValueError, match="the condition is None; this takes 3"):
            net(torch.zeros(2, 8, 2), torch.zeros(2))
        with pytest.raises(ValueError, match=r"the condition is \(2, 4\); this takes 3"):
            net(torch.zeros(2, 8, 2), torch.zeros(2), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="width 10 does not divide into 4 heads"):
        Transformer(10, layers=1, heads=4, length=3)
    with pytest.raises(ValueError, match="7 tokens; this transformer was made for 3"):
        Transformer(8, layers=1, heads=2, length=3)(torch.zeros(1, 7, 8))


@pytest.mark.parametrize(("warm_up", "decays"), [("ratio", [0.1, 2 / 11, 0.25]), ("power", [0.0, 1 - 2**-0.75, 0.5])])
def test_the_average_is_that_of_the_formula(warm_up, decays):
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.weight, 1.0)
    ema, expected = Ema(net, 0.5, warm_up), 1.0
    for n, decay in enumerate(decays):
        torch.nn.init.constant_(net.weight, float(n))
        ema.update()
        expected = min(0.5, decay) * expected + (1 - min(0.5, decay)) * n
        assert ema.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert not ema.module.weight.requires_grad
    other = Ema(torch.nn.Linear(1, 1, bias=False), 0.5, warm_up)
    other.load_state_dict(ema.state_dict())
    assert other.updates == 3 and torch.equal(other.module.weight, ema.module.weight)


def test_an_impossible_average_is_refused():
    with pytest.raises(ValueError, match=r"decay is 1\.0"):
        Ema(torch.nn.Linear(1, 1), 1.0)
    with pytest.raises(ValueError, match=r"warm-up 'slow'; give .* ratio, power"):
        Ema(torch.nn.Linear(1, 1), 0.9, "slow")
