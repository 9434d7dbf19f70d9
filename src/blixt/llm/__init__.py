"""Read, train and run language models: one model file, a tokenizer, a pretraining recipe, a chat server."""
