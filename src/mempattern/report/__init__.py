"""What was seen, for a reader: text, a live view, JSON, a page, pictures and tables."""
