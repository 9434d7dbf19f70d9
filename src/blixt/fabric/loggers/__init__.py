"""Where numbers go: a file, TensorBoard, W&B, MLflow, Comet, blixt's Experiments. One file each."""
