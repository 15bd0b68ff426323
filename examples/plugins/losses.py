"""SimPO (arXiv 2405.14734) as a loss on pairs: no reference, and a margin per token.

mipo-eval train mipo --set settings.loss=simpo --set settings.beta=2.0 \
    --plugin examples/plugins/losses.py --model demo --suite demo --out out
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from mipo_eval.training.losses import PairLogProbs

MARGIN = 0.5


def simpo(pairs: PairLogProbs) -> Tensor:
    """Rank pairs by their mean log-probability per token, with a target margin."""
    chosen = pairs.policy_chosen / pairs.tokens_chosen
    rejected = pairs.policy_rejected / pairs.tokens_rejected
    return -logsigmoid(pairs.beta * (chosen - rejected) - MARGIN)


PLUGINS = {"losses": {"simpo": simpo}}
