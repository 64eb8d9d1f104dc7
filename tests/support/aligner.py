"""The projection heads of ``fused`` in PyTorch: an oracle for their gradient and their training."""

from torch import nn


class Aligner(nn.Module):
    """Both heads, with the names of the weights that the recipe keeps."""

    def __init__(self, *, expression_dim, text_dim, joint_dim):
        super().__init__()
        self.expression_linear = nn.Linear(expression_dim, joint_dim)
        self.expression_residual = nn.Sequential(
            nn.Linear(expression_dim, 2 * joint_dim), nn.GELU(), nn.Linear(2 * joint_dim, joint_dim)
        )
        self.text = nn.Linear(text_dim, joint_dim, bias=False)

    def forward(self, expression, text):
        return self.expression_linear(expression) + self.expression_residual(expression), self.text(text)


def forward(model, batch):
    expression, text = model(batch["expression"], batch["text"])
    return {"expression": expression, "text": text}
