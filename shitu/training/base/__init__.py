"""What both trainers use, and what is about neither of them."""
