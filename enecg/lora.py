"""LoRA on the hidden layers of heads and gates: `W0 + BA`, of which only `B` and `A` are trained.

`stacked.py` trains the updates of many FFNs in one pass, and `LoraLinear` contains a trained
update. Run folders contain updates in peft's format; `with_lora` creates the modules to load them.
"""

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    # peft imports transformers, which takes seconds.
    from peft import PeftModel

HIDDEN_LAYERS = r"(.*\.)?(hidden|more\.\d+)"
"""Regular expression for the names of the layers that LoRA adapts (peft's `target_modules`)."""


class LoraLinear(nn.Module):
    """A linear layer with a trained LoRA update, which the constructor adds to the weight.

    Args:
        base: Frozen layer without the update, which several layers may share.
        lora_a: Factor `A` of the update.
        lora_b: Factor `B` of the update.
        alpha: LoRA scaling; the update is multiplied by `alpha / rank`.
    """

    weight: Tensor

    def __init__(
        self,
        base: nn.Linear,
        lora_a: Float[Tensor, "rank in"],
        lora_b: Float[Tensor, "out rank"],
        alpha: float,
    ) -> None:
        super().__init__()
        self.base, self.alpha = base, alpha
        self.lora_a, self.lora_b = nn.Parameter(lora_a), nn.Parameter(lora_b)
        # The same operations as in peft, so the weights of a loaded run are bitwise equal.
        merged = base.weight.detach() + (lora_b @ lora_a) * (alpha / len(lora_a))
        self.register_buffer("weight", merged, persistent=False)

    def forward(self, features: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Compute the output of the layer."""
        return functional.linear(features, self.weight, self.base.bias)


def with_lora(module: nn.Module, *, rank: int, alpha: float, dropout: float) -> "PeftModel":
    """Add LoRA to the hidden layers of a module, in place.

    Args:
        module: An `FFN`, or a module that contains `FFN` modules.
        rank: Rank of the LoRA updates.
        alpha: LoRA scaling; the update is multiplied by `alpha / rank`.
        dropout: Dropout probability on the input of the update.

    Returns:
        The peft model. Parameters other than updates and `prediction` layers are frozen.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=HIDDEN_LAYERS,
        modules_to_save=["prediction"],
    )
    return get_peft_model(module, config)
