"""List files from other people's layouts, and what is wrong with a list before it is trained on."""
