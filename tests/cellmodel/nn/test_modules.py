import torch

from cellmodel.nn.losses import zinb_nll
from cellmodel.nn.modules import CountDecoder


def test_the_decoder_of_counts_names_the_arguments_of_the_likelihood():
    decoder = CountDecoder(dim=3, n_genes=7)
    loss = zinb_nll(torch.ones(5, 7), **decoder(torch.randn(5, 3)), log_size_factors=torch.zeros(5))
    loss.backward()
    assert all(float(value.grad.abs().max()) > 0 for value in decoder.parameters())
