"""Networks and training; needs the `train` extra."""

import warnings

# Paddle's own, of compilers that nobody asked for and of batch norms that train
warnings.filterwarnings("ignore", message="No ccache found")
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
