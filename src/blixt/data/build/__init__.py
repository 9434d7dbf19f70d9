"""Building datasets: `optimize` over worker processes, and `DatasetWriter` for a loop of your own."""
