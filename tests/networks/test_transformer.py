import pytest
import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks import CausalTransformer, CodeTransformer, PatchTransformer
from narrows.networks.causal import CausalBlock, GrowingCache, StepLinear, WrittenCache, causal_attention
from narrows.networks.transformer import sinusoids


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_features_lie_on_the_grid_of_the_patches_at_any_size() -> None:
    encoder = PatchTransformer(3, 5, patch=4, width=16, layers=1, heads=2)
    assert encoder(torch.randn(2, 3, 8, 20)).shape == (2, 5, 2, 5)
    assert encoder(torch.randn(1, 3, 4, 4)).shape == (1, 5, 1, 1)


def test_each_feature_reads_the_whole_image() -> None:
    encoder = PatchTransformer(1, 3, patch=2, width=16, layers=1, heads=2)
    image = torch.randn(1, 1, 6, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(image)[0, :, 1, 2].square().sum(), image)
    assert (gradient != 0).all()


def test_patches_are_told_apart_by_their_positions() -> None:
    """Without positions, patches exchanged would give the features exchanged."""
    encoder = PatchTransformer(1, 3, patch=2, width=16, layers=1, heads=2)
    image = torch.randn(1, 1, 4, 4)
    for axis in (2, 3):
        exchanged = torch.cat(image.chunk(2, axis)[::-1], axis)
        assert not torch.allclose(encoder(exchanged), encoder(image).flip(axis), atol=1e-3)


def test_an_image_that_does_not_split_into_patches_is_refused() -> None:
    with pytest.raises(NarrowsError, match=r"images of 8x10 .* patches of 4x4: set data.size to a multiple"):
        PatchTransformer(1, 3, patch=4, width=8)(torch.zeros(1, 1, 8, 10))
    with pytest.raises(NarrowsError, match="heads must divide width"):
        PatchTransformer(1, 3, width=10, heads=4)
    with pytest.raises(NarrowsError, match="patch and layers must be at least 1"):
        PatchTransformer(1, 3, patch=0)
    with pytest.raises(NarrowsError, match="layers must be at least 1"):
        CausalTransformer(width=8, layers=0, heads=2)


@pytest.mark.parametrize("grid", [(7,), (3, 4), (2, 3, 4)])
def test_the_product_of_two_positions_depends_on_their_offset_alone(grid: tuple[int, ...]) -> None:
    positions = sinusoids(grid, 31)
    products = (positions @ positions.T).view(*grid, *grid)
    first = products[tuple(slice(size - 1) for size in 2 * grid)]
    moved = products[tuple(slice(1, None) for _ in 2 * grid)]
    torch.testing.assert_close(first, moved)
    assert torch.pdist(positions).min() > 0.1


def test_a_grid_without_axes_has_one_position_without_features() -> None:
    assert torch.equal(sinusoids((), 6), torch.zeros(1, 6))


def reference(block: CausalBlock, width: int) -> nn.TransformerDecoderLayer:
    """PyTorch's own layer with the weights of a block."""
    layer = nn.TransformerDecoderLayer(
        width, block.heads, 4 * width, dropout=0, activation="gelu", batch_first=True, norm_first=True
    )
    cross = {
        name: torch.cat([getattr(block.query, name), getattr(block.keys_values, name)]) for name in ("weight", "bias")
    }
    pairs = {
        "self_attn.in_proj_": named(block.project),
        "self_attn.out_proj.": named(block.out),
        "multihead_attn.in_proj_": cross,
        "multihead_attn.out_proj.": named(block.cross_out),
        "norm1.": named(block.norm),
        "norm2.": named(block.cross_norm),
        "norm3.": named(block.mlp[0]),
        "linear1.": named(block.mlp[1]),
        "linear2.": named(block.mlp[3]),
    }
    layer.load_state_dict({prefix + name: value for prefix, part in pairs.items() for name, value in part.items()})
    return layer


def named(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in module.named_parameters()}


def test_a_block_is_the_decoder_layer_of_pytorch() -> None:
    """With the memory of an example repeated for each of its sequences, which the block need not do."""
    block = CausalBlock(width=12, heads=3)
    x, memory = torch.randn(2, 4, 5, 12), torch.randn(2, 7, 12)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    expected = reference(block, 12)(x.flatten(0, 1), memory.repeat_interleave(4, 0), mask, tgt_is_causal=True)
    found = block(x, block.read(memory), causal_attention)
    torch.testing.assert_close(found.flatten(0, 1), expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 12, 100])
def test_the_linear_map_of_a_step_is_a_linear_map(threads: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    layer = StepLinear(8, 6)
    x = torch.randn(rows, 2, 1, 8, requires_grad=True)
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    weights = torch.randn_like(expected)
    inputs = [x, *layer.parameters()]
    ours, theirs = (torch.autograd.grad((weights * y).sum(), inputs) for y in (layer(x), expected))
    torch.testing.assert_close(ours, theirs)


def test_a_vector_depends_on_those_up_to_it_and_on_its_own_memory_alone() -> None:
    transformer = CausalTransformer(width=8, layers=2, heads=2)
    x = torch.randn(2, 3, 5, 8, requires_grad=True)
    memory = torch.randn(2, 4, 8, requires_grad=True)
    y = transformer(x, transformer.read(memory))
    of_x, of_memory = torch.autograd.grad(y[1, 2, 3].square().sum(), [x, memory])
    assert (of_x[1, 2, :4] != 0).all()
    assert (of_memory[1] != 0).all()
    of_x[1, 2, :4] = 0
    assert (of_x == 0).all()
    assert (of_memory[0] == 0).all()


def test_one_vector_at_a_time_equals_all_at_once() -> None:
    transformer = CausalTransformer(width=8, layers=2, heads=2)
    x = torch.randn(2, 3, 8, 8)
    memory = transformer.read(torch.randn(2, 4, 8))
    expected = transformer(x, memory)
    with torch.no_grad():
        written = [WrittenCache(torch.full((2, 6, 2, 8, 4), torch.nan)) for _ in range(2)]
        found = torch.cat([transformer(step, memory, written) for step in x.split(1, 2)], 2)
    torch.testing.assert_close(found, expected)
    growing = [GrowingCache() for _ in range(2)]
    found = torch.cat([transformer(step, memory, growing) for step in x.split(1, 2)], 2)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    parameters = list(transformer.parameters())
    gradients = [torch.autograd.grad((y * weight).sum(), parameters, retain_graph=True) for y in (found, expected)]
    for of_steps, of_all in zip(*gradients, strict=True):
        torch.testing.assert_close(of_steps, of_all, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("grid", "codebooks"), [((2, 3), 1), ((3,), 2), ((), 4)])
def test_logits_of_a_code_depend_on_the_codes_before_it(grid: tuple[int, ...], codebooks: int) -> None:
    network = CodeTransformer(codebooks, 5, width=8, layers=1, heads=2)
    memory = network.read(torch.randn(1, 8, *grid))
    length = torch.Size(grid).numel() * codebooks
    codes = torch.randint(5, (1, 1, length))
    logits = network(codes, memory, grid)
    for n in range(length):
        other = codes.clone()
        other[..., n] = (codes[..., n] + 1) % 5
        changed = (network(other, memory, grid) != logits).any(-1).flatten()
        assert changed.tolist() == [later > n for later in range(length)]
