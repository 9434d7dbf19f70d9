"""nanochat: norms without parameters, squared ReLU, queries and keys normalised after their rotation."""

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import Family, activation, sizes
from blixt.llm.families.gemma import softcap
from blixt.llm.families.llama import AttentionBias
from blixt.llm.families.parts import Roped
from blixt.llm.families.ropes import Rope
from blixt.llm.families.tables import ENDS, attention, plain
from blixt.llm.weights.rules import Rule, RuleTable


def nanochat_rules(config: ModelConfig) -> RuleTable:
    """Linear layers only."""
    ends = [rule for rule in ENDS if not (isinstance(rule, Rule) and rule.ours == "norm.weight")]
    return [*ends, *attention(config), *plain("mlp.fc1", "mlp.fc2", bias=False)]


NANOCHAT = Family(
    "nanochat",
    "NanoChatForCausalLM",
    (*sizes(), activation(default="relu2"), softcap("final_logit_softcapping", "softcap_logits", 15.0)),
    nanochat_rules,
    (AttentionBias(), Roped(Rope(reverse=True))),
    {"norm": "rms_bare", "embed_norm": True, "qk_norm": "head", "qk_norm_late": True, "mlp": "plain"},
)

FAMILIES = (NANOCHAT,)
