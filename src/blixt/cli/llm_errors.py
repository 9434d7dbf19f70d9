"""The errors of the llm room and of what it stands on, shown as sentences by every `blixt llm` command."""

ERRORS = ("LLMError", "DataError", "ServeError", "FabricError", "TrainerError")
