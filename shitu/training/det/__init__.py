"""Training the mainbody detector on paddledet's parts; needs the `train` extra."""

import warnings

# Paddle's remark, once per function, on ppdet's way of calling paddle.split, min and max
warnings.filterwarnings("ignore", message=r"\s*Non compatible API")
