"""The worker process: its entry, its end of the socket, its loops."""
