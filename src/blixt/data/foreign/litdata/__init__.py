"""LitData's chunk format, read without LitData; no pickle unless asked for."""
