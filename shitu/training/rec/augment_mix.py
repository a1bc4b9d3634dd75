"""AugMix: an image mixed with chains of operations on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from shitu.config.keys import Whole
from shitu.config.values import within
from shitu.recognise.preprocess import Image
from shitu.training.rec.augment import ImageOp, Rng
from shitu.training.rec.augment_keys import Fraction
from shitu.training.rec.auto_augment import OPERATIONS, sign

# Hendrycks et al. 2020, arXiv 1912.02781, without the colours and sharpness that its test set has;
# translations by a third of the image at full strength, of 150 / 331 here
CHAIN = {
    **dict.fromkeys(("autocontrast", "equalize", "posterize_further", "rotate", "solarize", "shear_x", "shear_y"), 1.0),
    **dict.fromkeys(("translate_x", "translate_y"), 331 / 450),
}


@dataclass(frozen=True)
class AugMix(ImageOp):
    """With probability `prob`: `mixture_width` chains of `mixture_depth` operations, mixed by a Dirichlet distribution,
    and mixed with the image by a Beta distribution, both with the parameter `aug_prob_coeff`.

    A `mixture_depth` of -1 is drawn from 1 to 3. A strength is drawn from 0.1 to `aug_severity`, of 10.
    """

    prob: Fraction = within(0.5, 0, 1)
    aug_prob_coeff: Fraction = within(0.1, 1e-3)
    mixture_width: Whole = within(3, 1)
    mixture_depth: Whole = within(1, -1)
    aug_severity: Fraction = within(1.0, 0.1, 10)

    def __call__(self, image: Image, rng: Rng) -> Image:
        if rng.random() >= self.prob:
            return image
        names, mixed = list(CHAIN), np.zeros(image.shape, np.float32)
        for weight in rng.dirichlet([self.aug_prob_coeff] * self.mixture_width):
            picture = PillowImage.fromarray(image)
            for _ in range(self.mixture_depth if self.mixture_depth > 0 else int(rng.integers(1, 4))):
                name = names[rng.integers(len(names))]
                strength = rng.uniform(0.1, self.aug_severity) / 10 * CHAIN[name]
                picture = OPERATIONS[name](picture, strength, sign(rng))
            mixed += np.float32(weight) * np.asarray(picture, np.float32)
        share = np.float32(rng.beta(self.aug_prob_coeff, self.aug_prob_coeff))
        result: Image = ((1 - share) * image + share * mixed).clip(0, 255).astype(np.uint8)
        return result
