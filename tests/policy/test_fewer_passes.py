"""Norm and rotation as they are trained: values and gradients are the plain ones'."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgekit.policy import fewer_passes
from edgekit.policy.model import RMSNorm, rotate


def plain_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def plain_rotation(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_a_trained_norm_and_its_gradients_are_the_plain_ones(
    shape: list[int], width: int, seed: int, is_transposed: bool
) -> None:
    source = torch.Generator().manual_seed(seed)
    norm = RMSNorm(width, 1e-5).double()
    norm.weight.data = torch.randn(width, generator=source, dtype=torch.float64)
    x = torch.randn(*shape, width, generator=source, dtype=torch.float64)
    x = (x.transpose(0, -2).contiguous().transpose(0, -2) if is_transposed else x).requires_grad_()
    upstream = torch.randn(*shape, width, generator=source, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fewer_passes, "ROWS", 1 + seed % 7)
        got = norm(x)
        gradients = torch.autograd.grad(got, (x, norm.weight), upstream)
    expected = plain_norm(x, norm.weight, 1e-5)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (x, norm.weight), upstream))
    torch.testing.assert_close(norm(x.detach()), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_a_trained_rotation_and_its_gradient_are_the_plain_ones(
    batch: int, length: int, heads: int, half: int, seed: int
) -> None:
    source = torch.Generator().manual_seed(seed)
    x, upstream = torch.randn(2, batch, length, heads, 2 * half, generator=source, dtype=torch.float64)
    angle = torch.randn(batch, length, 1, half, generator=source, dtype=torch.float64).repeat(1, 1, 1, 2)
    cos, sin = angle.cos(), angle.sin()
    x.requires_grad_()
    got, expected = rotate(x, cos, sin, 2 * half), plain_rotation(x, cos, sin)
    torch.testing.assert_close(got, expected)
    gradients = [torch.autograd.grad(y, x, upstream) for y in (got, expected)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(rotate(x.detach(), cos, sin, 2 * half), expected)


def test_a_frozen_weight_gets_no_gradient_and_mixed_types_take_the_plain_way() -> None:
    norm = RMSNorm(4, 1e-5).requires_grad_(False)
    x = torch.randn(3, 4, requires_grad=True)
    norm(x).sum().backward()
    assert norm.weight.grad is None
    assert x.grad is not None
    assert norm(x.bfloat16()).dtype == torch.float32


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(0, 99), st.sampled_from([torch.float32, torch.bfloat16]))
def test_what_is_trained_computes_what_is_sampled_to_the_last_bit(half: int, seed: int, dtype: torch.dtype) -> None:
    source = torch.Generator().manual_seed(seed)
    norm = RMSNorm(2 * half, 1e-5)
    norm.weight.data = torch.randn(2 * half, generator=source)
    x = torch.randn(2, 3, 2, 2 * half, generator=source).to(dtype)
    angle = torch.randn(2, 3, 1, half, generator=source).repeat(1, 1, 1, 2)
    cos, sin = angle.cos(), angle.sin()
    trained = x.clone().requires_grad_()
    assert torch.equal(norm(trained), norm(x))
    assert torch.equal(rotate(trained, cos, sin, 2 * half), rotate(x, cos, sin, 2 * half))
