"""Lightning's public module paths and names as tables: which there are, and what stands for each."""
