"""A photo's way: preprocess, detect, embed, search, vote, suppress."""
