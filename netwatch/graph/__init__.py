"""Who does talk: the communication graph. The only package that imports networkx."""
