"""The half of netwatch that runs on every host."""
