"""netwatch: who talks to whom between containers, how well it is encrypted, and what may not."""

__version__ = "0.1.0"
