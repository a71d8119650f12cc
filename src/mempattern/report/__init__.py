"""What was seen, for a reader: plain text and a live terminal view."""
