"""blixt llm ...: train, try and serve language models."""

from blixt.cli import llm_align, llm_bench, llm_evaluate, llm_train, llm_use, llm_weights
from blixt.cli.options import group

app = group("Train, try and serve language models.")
app.command("train-tokenizer")(llm_train.train_tokenizer)
app.command()(llm_train.prepare)
app.command(context_settings=llm_train.RECIPE)(llm_train.pretrain)
app.command(context_settings=llm_train.RECIPE, add_help_option=False)(llm_train.finetune)
app.command()(llm_train.merge)
app.command(context_settings=llm_train.RECIPE, add_help_option=False)(llm_align.dpo)
app.command(context_settings=llm_train.RECIPE, add_help_option=False)(llm_align.grpo)
app.command(context_settings=llm_train.RECIPE, add_help_option=False)(llm_align.distill)
app.command()(llm_use.generate)
app.command()(llm_use.serve)
app.command()(llm_use.chat)
app.command()(llm_bench.bench)
app.command()(llm_evaluate.evaluate)
app.command()(llm_weights.download)
app.command()(llm_weights.convert)
app.command()(llm_weights.info)
app.command()(llm_weights.validate)
