"""Training of the feature extractor (rec) and of the detector (det), which share base; needs the `train` extra."""

import os
import warnings

# Paddle's own, of compilers that nobody asked for, of batch norms that train, of operators that it exports all the same
warnings.filterwarnings("ignore", message="No ccache found")
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle reads it when it is imported
