import scipy.sparse as sp
import torch

from cellmodel.nn.graphs import csr_tensor
from cellmodel.nn.sparse import sparse_product


def test_a_sparse_product_and_its_gradient_are_those_of_the_dense_matrix():
    matrix = sp.random(7, 5, density=0.4, format="csr", dtype="float32", random_state=0)
    sparse, dense = csr_tensor(matrix), torch.from_numpy(matrix.toarray())
    weights = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    gradients = []
    for given in (sparse, sparse, dense):
        values = torch.arange(15.0).reshape(5, 3).requires_grad_()
        product = sparse_product(given, values)
        torch.testing.assert_close(product, dense @ values)
        (product * weights).sum().backward()
        gradients.append(values.grad)
    torch.testing.assert_close(gradients[0], gradients[2])
    assert torch.equal(gradients[0], gradients[1])
