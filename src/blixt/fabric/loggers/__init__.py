"""Where numbers go: a file, TensorBoard, an Experiment of blixt's cloud. One file per destination."""
