"""Adapters: a few trained numbers beside frozen weights (LoRA, rsLoRA, DoRA), in PEFT's file format.

`add_lora` wraps linear layers of any kind, quantised ones too; `merge` folds what was learned into the
weights, `disable_adapters` gives the base model back for a moment. `save_peft` and `load_peft` write and read
`adapter_config.json` and `adapter_model.safetensors` as PEFT does, under Hugging Face's names.
"""

from blixt.llm.lora.add import LoRAConfig, adapters, add_lora, lora_state, remove_lora
from blixt.llm.lora.layer import LoRALinear, TrainedCopy, dense_weight
from blixt.llm.lora.merge import disable_adapters, merge, unmerge
from blixt.llm.lora.peft_read import PeftAdapter, load_peft, read_peft
from blixt.llm.lora.peft_write import save_peft

__all__ = [
    "LoRAConfig",
    "LoRALinear",
    "PeftAdapter",
    "TrainedCopy",
    "adapters",
    "add_lora",
    "dense_weight",
    "disable_adapters",
    "load_peft",
    "lora_state",
    "merge",
    "read_peft",
    "remove_lora",
    "save_peft",
    "unmerge",
]
