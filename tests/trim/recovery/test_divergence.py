"""The divergence and its gradient."""

import pytest
import torch

from trim.recovery.divergence import divergence, losses


def test_the_divergence_and_its_gradient_are_those_of_the_definition():
    torch.manual_seed(0)
    student, dense = torch.randn(2, 5, 11, requires_grad=True), torch.randn(2, 5, 11)
    tokens = torch.randint(0, 11, (2, 5))
    expected = torch.nn.functional.kl_div(
        student.log_softmax(-1), dense.log_softmax(-1), reduction="sum", log_target=True
    )
    (gradient,) = torch.autograd.grad(expected / 10, student)
    apart, surprise = losses(student, dense, tokens)
    assert apart == pytest.approx(float(expected.detach()), rel=1e-5)
    expected_surprise = torch.nn.functional.cross_entropy(
        student[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"
    )
    assert surprise == pytest.approx(float(expected_surprise.detach()), rel=1e-5)
    result = divergence(student, dense.clone(), 0.1)
    torch.testing.assert_close(result, expected / 10)
    torch.testing.assert_close(torch.autograd.grad(result, student)[0], gradient)
