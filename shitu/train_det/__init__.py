"""Training the mainbody detector on paddledet's parts; needs the `train` extra."""
