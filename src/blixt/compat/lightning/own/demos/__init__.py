"""Lightning's demo models, with their parameters under the same names."""
