"""What the intervals of a trace amount to: rows, a summary, and what is found in them."""
