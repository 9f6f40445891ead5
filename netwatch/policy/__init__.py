"""Who may talk to whom: documents, their one meaning (`evaluate.decide`), their readers. Pure."""
