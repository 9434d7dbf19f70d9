"""Real servers for the tests of data: an S3 store, a proxy that misbehaves, web servers with byte ranges."""
