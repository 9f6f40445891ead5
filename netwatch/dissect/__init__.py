"""What the first bytes of a conversation prove; any bytes give an answer. Pure."""
